//! `kamil log checkpoint|verify|proof`

use std::{
    error::Error as _,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use kamil_ledger::{
    VerifierKey,
    task_proof::{MAX_PROOF_BYTES, TaskProofError},
};
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
        LogAction::Verify { file, key } => verify(context, file, key).await,
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

/// What every SQLite file begins with.
const DATABASE: &[u8] = b"SQLite format 3\0";

/// Reads the file itself: what is checked is what is on the disk, whether or not an orchestrator runs.
async fn verify(context: &Context, file: Option<PathBuf>, key: Option<String>) -> Result<Exit, Failure> {
    let home = context.home.clone();
    let path = file.unwrap_or_else(|| home.journal());
    let shown = path.display().to_string();
    let checked = tokio::task::spawn_blocking(move || {
        let key = match key {
            Some(text) => text.trim().parse::<VerifierKey>().map_err(|error| {
                Failure::usage(format!("`{text}` is not the key of a log: {error}"))
                    .next("copy it from `kamil log checkpoint`; it looks like name+12345678+Base64")
            })?,
            None => kamil_orchestrator::journal::verifier_key(&home.identity())
                .map_err(|error| Failure::usage(error.to_string()).next("name the log's key: --key KEY"))?,
        };
        check(&path, &key)
    });
    let report = checked
        .await
        .map_err(|error| Failure::failed(format!("the check of {shown} broke off: {error}")))??;
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

fn check(path: &Path, key: &VerifierKey) -> Result<VerifyReport, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    let mut begin = Vec::new();
    (&file).take(DATABASE.len() as u64).read_to_end(&mut begin).map_err(unreadable)?;
    if begin == DATABASE {
        return kamil_orchestrator::journal::verify(path, key)
            .map_err(|error| Failure::failed(error.to_string()));
    }
    let mut bytes = begin;
    (&file).take(MAX_PROOF_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(match kamil_ledger::verify_task_proof(&bytes, key) {
        Ok(verified) => {
            let records = u64::try_from(verified.records.len()).unwrap_or(u64::MAX);
            VerifyReport { ok: true, records, checkpoints: 1, findings: Vec::new() }
        }
        Err(error @ (TaskProofError::Format(_) | TaskProofError::Version(_) | TaskProofError::TooLarge)) => {
            let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            return Err(Failure::usage(format!(
                "{} is neither a journal nor a proof: {error}{why}",
                path.display()
            ))
            .next("name journal.db, or a file that `kamil log proof` wrote"));
        }
        Err(error) => {
            let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            VerifyReport { ok: false, records: 0, checkpoints: 0, findings: vec![format!("{error}{why}")] }
        }
    })
}
