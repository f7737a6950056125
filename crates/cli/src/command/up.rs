//! `kamil up`

use serde::Serialize;

use crate::{
    arguments::UpFlags,
    context::Context,
    failure::{Exit, Failure},
    hub::Hub,
    models,
    node_options::{self, NodeSetup},
    single_process::{self, Port, Services, SingleProcess},
    stopping,
    terminal::{self, BOLD, Stream},
};

/// What `--json` writes once all is ready.
#[derive(Serialize)]
struct Ready<'a> {
    url: &'a str,
    nodes: Vec<String>,
}

pub(super) async fn run(context: &Context, flags: UpFlags) -> Result<Exit, Failure> {
    let port = match node_options::port(flags.port)? {
        Some(port) => Port::Exactly(port),
        None => {
            refuse_a_second(context).await?;
            single_process::preferred_port(context)
        }
    };
    models::make_ready(context, flags.model.as_deref()).await?;
    let setup = NodeSetup::new(&flags.node, &context.settings.node)?;
    let services = Services { setup, ..Services::all(port).with_model(flags.model).with_pages() };
    let stop = stopping::on_signal();
    let process = tokio::select! {
        process = SingleProcess::start(context, services) => process?,
        () = stop.cancelled() => return Ok(Exit::Done),
    };
    let url = process.url().to_owned();
    let hub = Hub::of(context, process)?;
    let offers: Vec<String> = hub
        .nodes()
        .await?
        .iter()
        .map(|node| format!("{}: {}", node.name, super::nodes::offer(node)))
        .collect();
    if context.json {
        terminal::say_json_line(&Ready { url: &url, nodes: offers })?;
    } else {
        terminal::say(format_args!("{} is up at {url}", Stream::Out.paint(BOLD, "Kamil")));
        for offer in &offers {
            terminal::say(format_args!("  {offer}"));
        }
        terminal::note("Ctrl-C ends it");
    }
    stop.cancelled().await;
    hub.close().await;
    Ok(Exit::Done)
}

/// Started twice by mistake, the second would take another port and look like another Kamil.
async fn refuse_a_second(context: &Context) -> Result<(), Failure> {
    match Hub::if_running(context, None).await? {
        Some(hub) => Err(Failure::usage(format!("an orchestrator already runs at {}", hub.client.base_url()))
            .next("use it: `kamil distributed`, or its page in a browser; or start another one with --port and --home")),
        None => Ok(()),
    }
}
