//! `kamil tools list|run`

use kamil_protocol::{
    StepId,
    node::Role,
    task::{StepKind, StepSpec, TaskRequest, TaskStatus},
    tool::{SideEffect, ToolDescriptor},
};
use serde_json::Value;

use crate::{
    arguments::{ToolsAction, ToolsFlags},
    context::Context,
    failure::{Exit, Failure},
    following::{self, Followed, Person},
    hub::Hub,
    screen::{Screen, Shown},
    single_process::Services,
    table::Table,
    terminal::{self, one_line},
};

const STEP: &str = "run";

pub(super) async fn run(context: &Context, flags: ToolsFlags) -> Result<Exit, Failure> {
    let services = Services::only(&[Role::Tool]);
    let hub = Hub::running_or_local(context, flags.orchestrator.named(), services).await?;
    let exit = match flags.action {
        ToolsAction::List => list(context, &hub).await,
        ToolsAction::Run { tool, arguments } => run_tool(context, &hub, &tool, arguments).await,
    };
    hub.close().await;
    exit
}

async fn offered(hub: &Hub) -> Result<Vec<ToolDescriptor>, Failure> {
    let nodes = hub.nodes().await?;
    let mut tools: Vec<ToolDescriptor> = nodes.into_iter().flat_map(|node| node.capabilities.tools).collect();
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    tools.dedup_by(|a, b| a.name == b.name);
    Ok(tools)
}

async fn list(context: &Context, hub: &Hub) -> Result<Exit, Failure> {
    let tools = offered(hub).await?;
    if context.json {
        terminal::say_json(&tools)?;
        return Ok(Exit::Done);
    }
    if tools.is_empty() {
        terminal::note("no node offers tools; `kamil tool-node` starts one");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["TOOL", "CHANGES", "WHAT IT DOES"]);
    for tool in &tools {
        let changes = match tool.side_effect {
            SideEffect::Pure => "nothing",
            SideEffect::Read => "nothing, reads",
            SideEffect::Write => "the workspace",
            SideEffect::External => "anything",
        };
        table.row(vec![one_line(&tool.name, 64), changes.to_owned(), one_line(&tool.description, 100)]);
    }
    table.show();
    Ok(Exit::Done)
}

async fn run_tool(context: &Context, hub: &Hub, tool: &str, arguments: Value) -> Result<Exit, Failure> {
    let step: StepId = STEP.parse().map_err(|error| Failure::failed(format!("{error}")))?;
    let Value::Object(inputs) = arguments else {
        return Err(Failure::usage("the arguments are not a JSON object"));
    };
    check_name(hub, tool).await?;
    let spec =
        StepSpec { tool: Some(tool.to_owned()), inputs, ..StepSpec::new(step.clone(), StepKind::Tool) };
    let request =
        TaskRequest { input: format!("run {tool}"), steps: Some(vec![spec]), ..TaskRequest::default() };
    let task = hub.submit(&request).await?;
    let person = if terminal::is_interactive() { Person::Present } else { Person::Absent };
    let followed = following::follow(hub, task, person, &mut Screen::new(Shown::Steps)).await?;
    let doc = hub.task(task).await?;
    let state = doc.steps.iter().find(|state| state.id == step);
    if context.json {
        terminal::say_json(&doc)?;
    } else if let Some(output) = state.and_then(|state| state.output.as_ref()) {
        terminal::say_json(output)?;
    }
    Ok(match followed {
        Followed::Ended(TaskStatus::Succeeded) => Exit::Done,
        Followed::Ended(_) => Exit::Failed,
        Followed::Awaiting => Exit::Refused,
    })
}

async fn check_name(hub: &Hub, tool: &str) -> Result<(), Failure> {
    let tools = offered(hub).await?;
    if tools.iter().any(|offer| offer.name == tool) {
        return Ok(());
    }
    let likeness = |offer: &&ToolDescriptor| strsim::jaro_winkler(&offer.name, tool);
    let nearest =
        tools.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|offer| likeness(offer) > 0.8);
    let failure = Failure::usage(format!("no node offers the tool `{tool}` [tool_unknown]"));
    Err(match nearest {
        Some(offer) => failure.next(format!("did you mean `{}`? `kamil tools list` shows all", offer.name)),
        None => failure.next("`kamil tools list` shows the tools"),
    })
}
