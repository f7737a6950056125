//! Where log records go: to a file for everything that a person reads along with, to standard error for nodes.

use std::io::IsTerminal;

use kamil_node::Home;
use tracing_appender::{
    non_blocking::WorkerGuard,
    rolling::{RollingFileAppender, Rotation},
};
use tracing_subscriber::EnvFilter;

use crate::{context::Context, environment, failure::Failure};

/// A week of daily files.
const KEPT_FILES: usize = 7;

/// Keeps the writer alive; dropping it writes what is left.
pub(crate) struct Logs(#[expect(dead_code, reason = "held for its drop")] Option<WorkerGuard>);

/// Records go to `logs/kamil.DATE.log` in Kamil's folder.
pub(crate) fn to_file(context: &Context) -> Result<Logs, Failure> {
    let filter = filter(context)?;
    let (writer, guard) = tracing_appender::non_blocking(appender(&context.home)?);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false).init();
    Ok(Logs(Some(guard)))
}

/// Records go to standard error.
pub(crate) fn to_stderr(context: &Context) -> Result<Logs, Failure> {
    let filter = filter(context)?;
    let colours = std::io::stderr().is_terminal() && environment::text(environment::NO_COLOR).is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    Ok(Logs(None))
}

fn appender(home: &Home) -> Result<RollingFileAppender, Failure> {
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("kamil")
        .filename_suffix("log")
        .max_log_files(KEPT_FILES)
        .build(home.logs())
        .map_err(|error| {
            Failure::usage(format!("the log file in {} cannot be opened: {error}", home.logs().display()))
                .next("make the folder writable, or choose another with --home")
        })
}

fn filter(context: &Context) -> Result<EnvFilter, Failure> {
    let chosen = environment::text(environment::LOG).or_else(|| context.settings.log.filter.clone());
    let directives = chosen.as_deref().unwrap_or("info");
    EnvFilter::try_new(directives).map_err(|error| {
        Failure::usage(format!("`{directives}` is not a log filter: {error}"))
            .next("write, for example, KAMIL_LOG=info,kamil_orchestrator=debug")
    })
}
