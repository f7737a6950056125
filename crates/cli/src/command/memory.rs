//! `kamil memory search|list|show|add|edit|forget|stats`

use std::fmt::Write;

use kamil_protocol::{
    Page,
    memory::{
        AddMemory, EditMemory, ListMemories, Memory, MemoryKind, MemoryStats, Origin, RecallReply,
        RecallRequest, Signal,
    },
    node::Role,
};
use serde_json::Value;

use crate::{
    arguments::{MemoryAction, MemoryFlags},
    context::Context,
    failure::{Exit, Failure},
    hub::Hub,
    single_process::Services,
    table::{Table, bytes},
    terminal::{self, BOLD, DIM, Stream, neutralise, one_line, say},
};

pub(super) async fn run(context: &Context, flags: MemoryFlags) -> Result<Exit, Failure> {
    let services = Services { resumes: false, ..Services::only(&[Role::Memory]) };
    let hub = Hub::running_or_local(context, flags.orchestrator.named(), services).await?;
    let done = act(context, &hub, flags.action).await;
    hub.close().await;
    done.map(|()| Exit::Done)
}

async fn act(context: &Context, hub: &Hub, action: MemoryAction) -> Result<(), Failure> {
    let client = &hub.client;
    match action {
        MemoryAction::Search { query, limit, kind } => {
            let request = RecallRequest {
                query: query.join(" "),
                limit: Some(limit),
                kinds: kind.into_iter().map(MemoryKind::from).collect(),
                session: None,
                conversation_tokens: None,
                now: None,
            };
            let reply: RecallReply = client.post("/v1/memories/search", &request).await?;
            show_hits(context, &reply)
        }
        MemoryAction::List { kind, limit } => {
            let query = ListMemories { kind: kind.map(MemoryKind::from), limit: Some(limit), cursor: None };
            let page: Page<Memory> = client.get_with("/v1/memories", &query).await?;
            show_list(context, &page)
        }
        MemoryAction::Show { id } => show_one(context, &client.get(&format!("/v1/memories/{id}")).await?),
        MemoryAction::Add { text, kind } => {
            let body = AddMemory {
                text: text.join(" "),
                kind: kind.map(MemoryKind::from),
                fact: None,
                occurred_at: None,
            };
            show_one(context, &client.post("/v1/memories", &body).await?)
        }
        MemoryAction::Edit { id, text } => {
            let body = EditMemory { text: text.join(" ") };
            show_one(context, &client.patch(&format!("/v1/memories/{id}"), &body).await?)
        }
        MemoryAction::Forget { id } => {
            client.delete::<Value>(&format!("/v1/memories/{id}")).await?;
            if context.json {
                return terminal::say_json(&serde_json::json!({ "forgotten": id }));
            }
            say(format_args!("the memory {id} is forgotten"));
            Ok(())
        }
        MemoryAction::Stats => show_stats(context, &client.get("/v1/memories/stats").await?),
    }
}

fn show_hits(context: &Context, reply: &RecallReply) -> Result<(), Failure> {
    if context.json {
        return terminal::say_json(reply);
    }
    for reason in &reply.degraded {
        terminal::note(format_args!("not used: {}", one_line(reason, 160)));
    }
    if reply.hits.is_empty() {
        terminal::note("nothing is remembered about that");
    }
    for hit in &reply.hits {
        let mut why = String::new();
        for score in &hit.signals {
            let signal = match score.signal {
                Signal::Lexical => "words",
                Signal::Vector => "meaning",
                Signal::Time => "time",
                Signal::Entity => "name",
            };
            let _ = write!(why, ", {signal} {:.2}", score.contribution);
        }
        let title = format!("{:.2}", hit.score);
        say(format_args!("{} {}", Stream::Out.paint(BOLD, title), neutralise(&hit.memory.text)));
        say(Stream::Out.paint(DIM, format_args!("     {}{why}", origin(&hit.memory))));
    }
    Ok(())
}

fn show_list(context: &Context, page: &Page<Memory>) -> Result<(), Failure> {
    if context.json {
        return terminal::say_json(&page.items);
    }
    if page.items.is_empty() {
        terminal::note("nothing is remembered yet");
        return Ok(());
    }
    let mut table = Table::new(&["MEMORY", "KIND", "WHEN", "TEXT"]);
    for memory in &page.items {
        table.row(vec![
            memory.id.to_string(),
            kind_name(memory.kind).to_owned(),
            memory.occurred_at.strftime("%Y-%m-%d %H:%MZ").to_string(),
            one_line(&memory.text, 80),
        ]);
    }
    table.show();
    if page.next_cursor.is_some() {
        terminal::note("there are more; --limit shows more");
    }
    Ok(())
}

fn show_one(context: &Context, memory: &Memory) -> Result<(), Failure> {
    if context.json {
        return terminal::say_json(memory);
    }
    say(neutralise(&memory.text));
    say(Stream::Out.paint(DIM, format_args!("{}", origin(memory))));
    if let Some(fact) = &memory.fact {
        let text = format!("fact: {} | {} | {}", fact.subject, fact.predicate, fact.object);
        say(Stream::Out.paint(DIM, one_line(&text, 400)));
    }
    if let Some(newer) = memory.superseded_by {
        say(Stream::Out.paint(DIM, format_args!("superseded by {newer}")));
    }
    Ok(())
}

fn show_stats(context: &Context, stats: &MemoryStats) -> Result<(), Failure> {
    if context.json {
        return terminal::say_json(stats);
    }
    for (kind, count) in &stats.by_kind {
        say(format_args!("{kind:<11} {count}"));
    }
    say(format_args!("{:<11} {} ({} with an embedding)", "all", stats.total, stats.embedded));
    let embedder = stats
        .embedder
        .as_deref()
        .unwrap_or("none: recall is by words alone; `kamil models pull` fetches one");
    say(format_args!("{:<11} {embedder}", "embedder"));
    say(format_args!("{:<11} {}", "size", bytes(stats.bytes)));
    Ok(())
}

fn origin(memory: &Memory) -> String {
    let who = match memory.source.origin {
        Origin::Person => "from you",
        Origin::Assistant => "said by Kamil",
        Origin::Tool => "from a tool",
        Origin::Import => "imported",
    };
    let task = memory.source.task.map(|task| format!(", task {task}")).unwrap_or_default();
    let when = memory.occurred_at.strftime("%Y-%m-%d %H:%MZ");
    format!("{} {} {who}, {when}{task}", memory.id, kind_name(memory.kind))
}

fn kind_name(kind: MemoryKind) -> &'static str {
    match kind {
        MemoryKind::Working => "working",
        MemoryKind::Semantic => "semantic",
        MemoryKind::Episodic => "episodic",
        MemoryKind::Structured => "structured",
    }
}
