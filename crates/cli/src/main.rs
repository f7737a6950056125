//! The binary `kamil`: arguments, one file per command, terminal output.
//!
//! The same binary is the launcher that confines a tool's process and the worker that tools run in; both are decided
//! before anything else, since they must start fast and inherit nothing. Then the process may replace itself once, with
//! the variable set that lets computing threads sleep while they wait.

mod address;
mod approval;
mod arguments;
mod command;
mod context;
mod environment;
mod failure;
mod following;
mod graph_difference;
mod hub;
mod logs;
mod models;
mod node_options;
mod screen;
mod settings;
mod single_process;
mod stopping;
mod table;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    kamil_sandbox::launcher::run_if_requested();
    kamil_tools::worker::run_if_requested();
    if let Err(error) = kamil_llm::ensure_passive_waiting() {
        terminal::note(format_args!("the model will be slow beside other busy programs: {error}"));
    }
    let arguments = arguments::Arguments::parse();
    match command::run(arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            terminal::complain(&failure);
            failure.exit.into()
        }
    }
}
