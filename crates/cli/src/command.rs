//! The commands, one file each.

mod approve;
mod ask;
mod cancel;
mod chat;
mod completions;
mod distributed;
mod doctor;
mod eval;
mod llm_node;
mod log;
mod memory;
mod memory_node;
mod models;
mod nodes;
mod openapi;
mod orchestrator;
mod replay;
mod tasks;
mod tool_node;
mod tools;
mod trace;
mod up;

use std::time::Duration;

use crate::{
    arguments::{Arguments, Command},
    context::Context,
    failure::{Exit, Failure},
    logs,
};

/// What has not ended this long after the command is left behind.
const LAST_WORK_WITHIN: Duration = Duration::from_secs(5);

/// Runs what was asked for.
pub(crate) fn run(arguments: Arguments) -> Result<Exit, Failure> {
    match &arguments.command {
        // These need neither folder nor settings.
        Some(Command::Completions { shell }) => return Ok(completions::run(*shell)),
        Some(Command::Openapi { role }) => return openapi::run(*role),
        _ => {}
    }
    let context = Context::new(&arguments.common)?;
    let is_node = matches!(
        &arguments.command,
        Some(Command::Orchestrator(_) | Command::LlmNode(_) | Command::ToolNode(_) | Command::MemoryNode(_))
    );
    let _logs = if is_node { logs::to_stderr(&context)? } else { logs::to_file(&context)? };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the threads of the runtime cannot be started: {error}")))?;
    let exit = runtime.block_on(dispatch(&context, arguments));
    // A model that is being loaded is waited for; a read of standard input that nobody answers must not keep the process alive.
    runtime.shutdown_timeout(LAST_WORK_WITHIN);
    exit
}

async fn dispatch(context: &Context, arguments: Arguments) -> Result<Exit, Failure> {
    match arguments.command {
        None => chat::run(context, arguments.chat).await,
        // The flags of the conversation would be accepted before a command, and mean nothing there.
        Some(_) if arguments.chat.model.is_some() || arguments.chat.session.is_some() => {
            Err(Failure::usage("--model and --session stand before the command").next("write them after it"))
        }
        Some(command) => Box::pin(dispatch_command(context, command)).await,
    }
}

async fn dispatch_command(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Up(flags) => up::run(context, flags).await,
        Command::Distributed(flags) => distributed::run(context, flags).await,
        Command::Ask(flags) => ask::run(context, flags).await,
        Command::Orchestrator(flags) => orchestrator::run(context, flags).await,
        Command::LlmNode(flags) => llm_node::run(context, flags).await,
        Command::ToolNode(flags) => tool_node::run(context, flags).await,
        Command::MemoryNode(flags) => memory_node::run(context, flags).await,
        Command::Nodes(flags) => nodes::run(context, &flags).await,
        Command::Tasks(flags) => tasks::run(context, &flags).await,
        Command::Trace(flags) => trace::run(context, &flags).await,
        Command::Replay(flags) => replay::run(context, &flags).await,
        Command::Approve(flags) => approve::run(context, &flags).await,
        Command::Cancel(flags) => cancel::run(context, &flags).await,
        Command::Memory(flags) => memory::run(context, flags).await,
        Command::Models(flags) => models::run(context, flags.action).await,
        Command::Tools(flags) => tools::run(context, flags).await,
        Command::Log(flags) => log::run(context, flags).await,
        Command::Eval(flags) => eval::run(context, flags).await,
        Command::Doctor => doctor::run(context).await,
        Command::Completions { shell } => Ok(completions::run(shell)),
        Command::Openapi { role } => openapi::run(role),
    }
}
