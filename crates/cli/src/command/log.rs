//! `kamil log checkpoint|verify|proof`

use std::path::PathBuf;

use kamil_protocol::log::{CheckpointDoc, VerifyReport};
use serde_json::Value;

use crate::{
    arguments::{LogAction, LogFlags},
    context::Context,
    failure::{Exit, Failure},
    hub::Hub,
    single_process::Services,
    terminal::{self, BAD, GOOD, Stream, one_line, say},
};

pub(super) async fn run(context: &Context, flags: LogFlags) -> Result<Exit, Failure> {
    let named = flags.orchestrator.named();
    match flags.action {
        LogAction::Verify { journal } => verify(context, journal).await,
        LogAction::Checkpoint => {
            let hub = Hub::running_or_local(context, named, Services::for_reading()).await?;
            let checkpoint = hub.client.get::<CheckpointDoc>("/v1/log/checkpoint").await;
            hub.close().await;
            let checkpoint = checkpoint?;
            if context.json {
                terminal::say_json(&checkpoint)?;
            } else {
                say(terminal::neutralise(checkpoint.note.trim_end()));
                terminal::note(format_args!(
                    "check it with the key {}",
                    one_line(&checkpoint.verifier_key, 200)
                ));
            }
            Ok(Exit::Done)
        }
        LogAction::Proof { task } => {
            let hub = Hub::running_or_local(context, named, Services::for_reading()).await?;
            let proof = proof(&hub, &task.task).await;
            hub.close().await;
            terminal::say_json(&proof?)?;
            Ok(Exit::Done)
        }
    }
}

async fn proof(hub: &Hub, name: &str) -> Result<Value, Failure> {
    let task = hub.find_task(name).await?;
    Ok(hub.client.get(&format!("/v1/log/proof/{task}")).await?)
}

/// Reads the journal's file itself: what is checked is what is on the disk, whether or not an orchestrator runs.
async fn verify(context: &Context, journal: Option<PathBuf>) -> Result<Exit, Failure> {
    let path = journal.unwrap_or_else(|| context.home.journal());
    let shown = path.display().to_string();
    let home = context.home.clone();
    let checked = tokio::task::spawn_blocking(move || kamil_orchestrator::verify_journal(&home, &path)).await;
    let report: VerifyReport = checked
        .map_err(|error| Failure::failed(format!("the check of {shown} broke off: {error}")))?
        .map_err(|error| Failure::usage(error.to_string()))?;
    if context.json {
        terminal::say_json(&report)?;
    } else {
        for finding in &report.findings {
            say(format_args!("{} {}", Stream::Out.paint(BAD, "✗"), one_line(finding, 400)));
        }
        let (style, verdict) =
            if report.ok { (GOOD, "all fits") } else { (BAD, "the record was changed or is damaged") };
        say(format_args!(
            "{}: {} records and {} checkpoints of {shown}",
            Stream::Out.paint(style, verdict),
            report.records,
            report.checkpoints
        ));
    }
    Ok(if report.ok { Exit::Done } else { Exit::Failed })
}
