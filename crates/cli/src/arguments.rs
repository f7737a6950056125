//! The command line as it is typed.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use kamil_protocol::{MemoryId, SessionId, StepId, memory::MemoryKind};
use serde_json::Value;

const EXAMPLES: &str = "\
Examples:
  kamil                                     chat in the terminal, everything in this process
  kamil up                                  the same services with the web page
  kamil ask \"What is 17 % of 2,400?\"        one request; the exit code tells success
  kamil trace last                          every step of the last task: where it ran, and why

On several machines:
  kamil orchestrator 8000
  kamil llm-node 8001 mistral:latest localhost:8000 coding,general
  kamil tool-node 8002 localhost:8000 file_ops,code_tools
  kamil memory-node 8003 localhost:8000
  kamil distributed localhost:8000

Exit codes: 0 done, 1 the task failed, 2 usage, 3 cannot reach the orchestrator, 4 refused.
Settings: flag over KAMIL_* variable over kamil.toml in Kamil's folder over default.";

/// A local-first, distributed AI assistant
///
/// Without a command: chat in the terminal, with all services in this process.
#[derive(Debug, Parser)]
#[command(name = "kamil", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: CommonFlags,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) chat: ChatFlags,
}

/// Flags that every command has.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonFlags {
    /// Kamil's folder: journal, memory, models, settings [env: KAMIL_HOME]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Write results as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// File with the cluster's key [env: KAMIL_CLUSTER_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cluster_key_file: Option<PathBuf>,
}

/// Flags of a conversation.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ChatFlags {
    /// The model that reasons; by default placement chooses
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Go on with this conversation
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<SessionId>,
}

/// Where the orchestrator is.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OrchestratorFlag {
    /// The orchestrator, e.g. desktop:8000 [env: KAMIL_ORCHESTRATOR] [default: 127.0.0.1:8000]
    #[arg(long, global = true, value_name = "ADDR")]
    pub(crate) orchestrator: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run all services with the web page in the foreground, until Ctrl-C
    #[command(after_help = "Examples:\n  kamil up\n  kamil up --port 8080")]
    Up(UpFlags),
    /// Chat against a running orchestrator
    #[command(after_help = "Examples:\n  kamil distributed\n  kamil distributed desktop:8000")]
    Distributed(DistributedFlags),
    /// Ask one thing and stream the answer
    #[command(
        after_help = "Examples:\n  kamil ask \"Train a small ML model on the iris data and summarize the results\"\n  \
        kamil ask --json \"What is 2^64?\" | jq .answer\n  kamil ask --orchestrator desktop:8000 \"List my files\""
    )]
    Ask(AskFlags),
    /// Run the orchestrator
    #[command(after_help = "Examples:\n  kamil orchestrator 8000\n  \
        kamil orchestrator 8000 --bind 0.0.0.0 --cluster-key-file cluster.key")]
    Orchestrator(OrchestratorNodeFlags),
    /// Run an LLM node: it reasons
    #[command(
        after_help = "Examples:\n  kamil llm-node 8001 mistral:latest localhost:8000 coding,general\n  \
        kamil llm-node --model ./model.gguf --orchestrator desktop:8000\n  \
        kamil llm-node --engine-url http://127.0.0.1:8080/v1"
    )]
    LlmNode(LlmNodeFlags),
    /// Run a tool node: it executes tools in a sandbox
    #[command(after_help = "Examples:\n  kamil tool-node 8002 localhost:8000 file_ops,code_tools\n  \
        kamil tool-node --tools calc --name nas")]
    ToolNode(ToolNodeFlags),
    /// Run a memory node: it remembers
    #[command(after_help = "Examples:\n  kamil memory-node 8003 localhost:8000")]
    MemoryNode(MemoryNodeFlags),
    /// List the nodes: hardware, load, what they offer
    #[command(after_help = "Examples:\n  kamil nodes\n  kamil nodes --json")]
    Nodes(OrchestratorFlag),
    /// List tasks, newest first: where they stand, what they wait for, which nodes work on them
    #[command(
        after_help = "Examples:\n  kamil tasks\n  kamil tasks --limit 5\n  kamil tasks --status running"
    )]
    Tasks(TasksFlags),
    /// Show every step of a task: where it ran, how long it took, and why there
    #[command(after_help = "Examples:\n  kamil trace last\n  kamil trace 0198c0de --json")]
    Trace(TraceFlags),
    /// Decide a task again from its record and report the first difference; or change one result and run what depends on it
    #[command(
        after_help = "Examples:\n  kamil replay last\n  kamil replay 0198c0de --json\n  kamil replay last --change s1=result.json\n\n\
        Exit codes: 0 the same, 1 different (with --change: the fork failed)."
    )]
    Replay(ReplayFlags),
    /// Agree to a step that waits for a person (or refuse it)
    #[command(after_help = "Examples:\n  kamil approve last run\n  kamil approve 0198c0de run --deny")]
    Approve(ApproveFlags),
    /// Stop a task
    #[command(after_help = "Examples:\n  kamil cancel last")]
    Cancel(CancelFlags),
    /// Read and correct what Kamil remembers
    #[command(
        after_help = "Examples:\n  kamil memory search \"iris accuracy\"\n  kamil memory add \"My NAS is called attic\"\n  \
        kamil memory forget 0198c0de-7a3b-7000-8000-0123456789ab"
    )]
    Memory(MemoryFlags),
    /// List, fetch and remove models; tell which one fits this machine
    #[command(
        after_help = "Examples:\n  kamil models fit\n  kamil models pull\n  kamil models pull qwen2.5-coder:1.5b"
    )]
    Models(ModelsFlags),
    /// List the tools, or run one
    #[command(
        after_help = "Examples:\n  kamil tools list\n  kamil tools run calc.evaluate '{\"expression\": \"2^64\"}'"
    )]
    Tools(ToolsFlags),
    /// Check the signed record of all that happened
    #[command(
        after_help = "Examples:\n  kamil log checkpoint\n  kamil log verify\n  kamil log proof last > task.proof"
    )]
    Log(LogFlags),
    /// Measure the planner on a set of requests whose right calls are known
    #[command(
        after_help = "Examples:\n  kamil eval tools gold.jsonl --model qwen2.5-coder:1.5b --out predictions.jsonl\n  \
        kamil eval plans gold.jsonl --model qwen2.5-coder:1.5b --out predictions.jsonl --limit 20 --plain"
    )]
    Eval(EvalFlags),
    /// Check this machine: folder, models, sandbox, Python, memory, ports
    #[command(after_help = "Examples:\n  kamil doctor\n  kamil doctor --json")]
    Doctor,
    /// Write the completions for a shell
    #[command(
        after_help = "Examples:\n  kamil completions bash > ~/.local/share/bash-completion/completions/kamil"
    )]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write the OpenAPI document of a role
    #[command(hide = true)]
    Openapi {
        /// Which role
        role: OpenapiRole,
    },
}

/// A role with an HTTP interface.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OpenapiRole {
    Orchestrator,
    Llm,
    Tool,
    Memory,
}

/// What every node command has.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct NodeFlags {
    /// The address to listen on; beyond this machine it needs --cluster-key-file [env: KAMIL_BIND] [default: 127.0.0.1]
    #[arg(long, visible_alias = "host", value_name = "IP")]
    pub(crate) bind: Option<IpAddr>,
    /// The node's name for people [env: KAMIL_NODE_NAME]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Host name or address under which other machines reach this node [env: KAMIL_ADVERTISE]
    #[arg(long, value_name = "HOST")]
    pub(crate) advertise: Option<String>,
    /// Hardware profile that replaces the probe [env: KAMIL_HARDWARE_PROFILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) hardware_profile: Option<PathBuf>,
    /// Accept requests under this host name too; may be repeated
    #[arg(long, value_name = "HOST")]
    pub(crate) allow_host: Vec<String>,
}

/// `kamil up`
#[derive(Debug, Args)]
pub(crate) struct UpFlags {
    /// The port of the web page and the API; 0 takes any [env: KAMIL_PORT] [default: 8000]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// The model that reasons; by default the largest that fits
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) node: NodeFlags,
}

/// `kamil distributed`
#[derive(Debug, Args)]
pub(crate) struct DistributedFlags {
    /// The orchestrator, e.g. desktop:8000 [default: 127.0.0.1:8000]
    #[arg(value_name = "ADDR", conflicts_with = "orchestrator")]
    pub(crate) address: Option<String>,
    #[command(flatten)]
    pub(crate) orchestrator: OrchestratorFlag,
    #[command(flatten)]
    pub(crate) chat: ChatFlags,
}

/// `kamil ask`
#[derive(Debug, Args)]
pub(crate) struct AskFlags {
    /// What you want
    #[arg(value_name = "REQUEST", required = true)]
    pub(crate) request: Vec<String>,
    #[command(flatten)]
    pub(crate) chat: ChatFlags,
    #[command(flatten)]
    pub(crate) orchestrator: OrchestratorFlag,
    /// Answer at once: no recall, no plan, nothing remembered
    #[arg(long)]
    pub(crate) direct: bool,
    /// Whether somebody waits for it: steps of batch tasks let those of interactive ones go first
    #[arg(long, value_name = "PRIORITY", default_value = "interactive")]
    pub(crate) priority: PriorityName,
}

/// How urgent a task is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PriorityName {
    Interactive,
    Batch,
}

/// A status of tasks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum StatusName {
    Queued,
    Running,
    #[value(name = "awaiting_approval")]
    AwaitingApproval,
    Succeeded,
    Failed,
    Cancelled,
}

/// `kamil orchestrator`
#[derive(Debug, Args)]
pub(crate) struct OrchestratorNodeFlags {
    /// The port; 0 takes any [default: 8000]
    #[arg(value_name = "PORT", conflicts_with = "port_flag")]
    pub(crate) port: Option<u16>,
    /// The same as PORT [env: KAMIL_PORT]
    #[arg(long = "port", value_name = "PORT")]
    pub(crate) port_flag: Option<u16>,
    #[command(flatten)]
    pub(crate) node: NodeFlags,
}

/// `kamil llm-node`
#[derive(Debug, Args)]
pub(crate) struct LlmNodeFlags {
    /// The port; 0 takes any [default: 8001]
    #[arg(value_name = "PORT", conflicts_with = "port_flag")]
    pub(crate) port: Option<u16>,
    /// A model of the catalogue, of a local Ollama, or a .gguf file; by default the largest that fits
    #[arg(value_name = "MODEL", conflicts_with = "model_flag")]
    pub(crate) model: Option<String>,
    /// The orchestrator [default: 127.0.0.1:8000]
    #[arg(value_name = "ORCHESTRATOR", conflicts_with = "orchestrator_flag")]
    pub(crate) orchestrator: Option<String>,
    /// What the model is good at, e.g. coding,general
    #[arg(value_name = "SPECIALIZATIONS", value_delimiter = ',', conflicts_with = "specializations_flag")]
    pub(crate) specializations: Vec<String>,
    /// The same as PORT [env: KAMIL_PORT]
    #[arg(long = "port", value_name = "PORT")]
    pub(crate) port_flag: Option<u16>,
    /// The same as MODEL [env: KAMIL_MODEL]
    #[arg(long = "model", value_name = "NAME")]
    pub(crate) model_flag: Option<String>,
    /// The same as ORCHESTRATOR [env: KAMIL_ORCHESTRATOR]
    #[arg(long = "orchestrator", value_name = "ADDR")]
    pub(crate) orchestrator_flag: Option<String>,
    /// The same as SPECIALIZATIONS
    #[arg(long = "specializations", value_name = "LIST", value_delimiter = ',')]
    pub(crate) specializations_flag: Vec<String>,
    /// An OpenAI-compatible server that does the work [env: KAMIL_ENGINE_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) engine_url: Option<String>,
    /// Tokens of context for a request
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context: Option<u32>,
    /// Requests at once [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) slots: Option<u32>,
    #[command(flatten)]
    pub(crate) node: NodeFlags,
}

/// `kamil tool-node`
#[derive(Debug, Args)]
pub(crate) struct ToolNodeFlags {
    /// The port; 0 takes any [default: 8002]
    #[arg(value_name = "PORT", conflicts_with = "port_flag")]
    pub(crate) port: Option<u16>,
    /// The orchestrator [default: 127.0.0.1:8000]
    #[arg(value_name = "ORCHESTRATOR", conflicts_with = "orchestrator_flag")]
    pub(crate) orchestrator: Option<String>,
    /// Families of tools, e.g. file_ops,code_tools; by default all
    #[arg(value_name = "TOOLS", value_delimiter = ',', conflicts_with = "tools_flag")]
    pub(crate) tools: Vec<String>,
    /// The same as PORT [env: KAMIL_PORT]
    #[arg(long = "port", value_name = "PORT")]
    pub(crate) port_flag: Option<u16>,
    /// The same as ORCHESTRATOR [env: KAMIL_ORCHESTRATOR]
    #[arg(long = "orchestrator", value_name = "ADDR")]
    pub(crate) orchestrator_flag: Option<String>,
    /// The same as TOOLS
    #[arg(long = "tools", value_name = "LIST", value_delimiter = ',')]
    pub(crate) tools_flag: Vec<String>,
    /// The folder that tools may read and change [default: workspace in Kamil's folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) node: NodeFlags,
}

/// `kamil memory-node`
#[derive(Debug, Args)]
pub(crate) struct MemoryNodeFlags {
    /// The port; 0 takes any [default: 8003]
    #[arg(value_name = "PORT", conflicts_with = "port_flag")]
    pub(crate) port: Option<u16>,
    /// The orchestrator [default: 127.0.0.1:8000]
    #[arg(value_name = "ORCHESTRATOR", conflicts_with = "orchestrator_flag")]
    pub(crate) orchestrator: Option<String>,
    /// The same as PORT [env: KAMIL_PORT]
    #[arg(long = "port", value_name = "PORT")]
    pub(crate) port_flag: Option<u16>,
    /// The same as ORCHESTRATOR [env: KAMIL_ORCHESTRATOR]
    #[arg(long = "orchestrator", value_name = "ADDR")]
    pub(crate) orchestrator_flag: Option<String>,
    #[command(flatten)]
    pub(crate) node: NodeFlags,
}

/// `kamil eval`
#[derive(Debug, Args)]
pub(crate) struct EvalFlags {
    #[command(subcommand)]
    pub(crate) subject: EvalSubject,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum EvalSubject {
    /// The calls that are made at once
    Tools(EvalSet),
    /// The whole graph of calls
    Plans(EvalSet),
}

/// A set of requests, and where the predictions go.
#[derive(Debug, Args)]
pub(crate) struct EvalSet {
    /// The set: a JSON object a line, with `id`, `request`, `tools`, and perhaps `messages`
    #[arg(value_name = "GOLD")]
    pub(crate) gold: PathBuf,
    /// The model that is measured
    #[arg(long, value_name = "NAME")]
    pub(crate) model: String,
    /// The predictions, a line each; what it holds already is not asked again
    #[arg(long, value_name = "PRED")]
    pub(crate) out: PathBuf,
    /// Only the first items
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    /// Ask the model plainly, without the planner: one prompt, a JSON answer
    #[arg(long)]
    pub(crate) plain: bool,
}

/// `kamil tasks`
#[derive(Debug, Args)]
pub(crate) struct TasksFlags {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) limit: u32,
    /// Only tasks with this status
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<StatusName>,
    #[command(flatten)]
    pub(crate) orchestrator: OrchestratorFlag,
}

/// Which task is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct TaskArgument {
    /// A task's id, the beginning of one, or `last`
    #[arg(value_name = "TASK")]
    pub(crate) task: String,
}

/// `kamil trace`
#[derive(Debug, Args)]
pub(crate) struct TraceFlags {
    #[command(flatten)]
    pub(crate) task: TaskArgument,
    #[command(flatten)]
    pub(crate) orchestrator: OrchestratorFlag,
}

/// `kamil replay`
#[derive(Debug, Args)]
pub(crate) struct ReplayFlags {
    #[command(flatten)]
    pub(crate) task: TaskArgument,
    /// A step and the file with another result for it: text for plan, reason and answer, JSON for the others. A new task keeps
    /// what does not depend on the step and really runs the rest
    #[arg(long, value_name = "STEP=FILE", value_parser = parse_change)]
    pub(crate) change: Option<Change>,
    /// Run steps again that change something
    #[arg(long, requires = "change")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) orchestrator: OrchestratorFlag,
}

/// Another result for a step.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) step: StepId,
    pub(crate) file: PathBuf,
}

fn parse_change(text: &str) -> Result<Change, String> {
    let (step, file) = text.split_once('=').ok_or("STEP=FILE is expected, such as s1=result.json")?;
    let step = step.parse().map_err(|error| format!("`{step}` is not the name of a step: {error}"))?;
    if file.is_empty() {
        return Err("no file is named after the `=`".to_owned());
    }
    Ok(Change { step, file: file.into() })
}

/// `kamil approve`
#[derive(Debug, Args)]
pub(crate) struct ApproveFlags {
    #[command(flatten)]
    pub(crate) task: TaskArgument,
    /// The step that waits
    #[arg(value_name = "STEP")]
    pub(crate) step: StepId,
    /// Refuse instead
    #[arg(long)]
    pub(crate) deny: bool,
    #[command(flatten)]
    pub(crate) orchestrator: OrchestratorFlag,
}

/// `kamil cancel`
#[derive(Debug, Args)]
pub(crate) struct CancelFlags {
    #[command(flatten)]
    pub(crate) task: TaskArgument,
    #[command(flatten)]
    pub(crate) orchestrator: OrchestratorFlag,
}

/// `kamil memory`
#[derive(Debug, Args)]
pub(crate) struct MemoryFlags {
    #[command(flatten)]
    pub(crate) orchestrator: OrchestratorFlag,
    #[command(subcommand)]
    pub(crate) action: MemoryAction,
}

/// A kind of memory, as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KindArgument {
    Working,
    Semantic,
    Episodic,
    Structured,
}

impl From<KindArgument> for MemoryKind {
    fn from(kind: KindArgument) -> Self {
        match kind {
            KindArgument::Working => Self::Working,
            KindArgument::Semantic => Self::Semantic,
            KindArgument::Episodic => Self::Episodic,
            KindArgument::Structured => Self::Structured,
        }
    }
}

/// What to do with memory.
#[derive(Debug, Subcommand)]
pub(crate) enum MemoryAction {
    /// Find memories; each hit says why it was found
    Search {
        /// What to look for
        #[arg(value_name = "QUERY", required = true)]
        query: Vec<String>,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
        /// Only this kind; may be repeated
        #[arg(long, value_name = "KIND")]
        kind: Vec<KindArgument>,
    },
    /// List memories, newest first
    List {
        /// Only this kind
        #[arg(long, value_name = "KIND")]
        kind: Option<KindArgument>,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
    },
    /// Show one memory with where it came from
    Show {
        /// Its id
        id: MemoryId,
    },
    /// Keep something
    Add {
        /// The text
        #[arg(value_name = "TEXT", required = true)]
        text: Vec<String>,
        /// What kind
        #[arg(long, value_name = "KIND")]
        kind: Option<KindArgument>,
    },
    /// Correct one
    Edit {
        /// Its id
        id: MemoryId,
        /// The new text
        #[arg(value_name = "TEXT", required = true)]
        text: Vec<String>,
    },
    /// Delete one, for good
    Forget {
        /// Its id
        id: MemoryId,
    },
    /// Count what is held
    Stats,
}

/// `kamil models`
#[derive(Debug, Args)]
pub(crate) struct ModelsFlags {
    #[command(subcommand)]
    pub(crate) action: ModelsAction,
}

/// What to do with models.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsAction {
    /// List the catalogue and what is installed
    List,
    /// Fetch a model; without a name, the one that fits this machine, and the embedding model
    Pull {
        /// Its name
        name: Option<String>,
    },
    /// Remove a model from this machine
    Rm {
        /// Its name
        name: String,
    },
    /// Tell which models fit into this machine's free memory
    Fit,
}

/// `kamil tools`
#[derive(Debug, Args)]
pub(crate) struct ToolsFlags {
    #[command(flatten)]
    pub(crate) orchestrator: OrchestratorFlag,
    #[command(subcommand)]
    pub(crate) action: ToolsAction,
}

/// What to do with tools.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolsAction {
    /// List the tools with what they may change
    List,
    /// Run one tool, as a task with one step
    Run {
        /// Its name, e.g. calc.evaluate
        tool: String,
        /// Its arguments, a JSON object
        #[arg(value_name = "JSON", default_value = "{}", value_parser = parse_object)]
        arguments: Value,
    },
}

fn parse_object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(other) => Err(format!("a JSON object is expected, not {other}")),
        Err(error) => Err(format!("this is not JSON: {error}")),
    }
}

/// `kamil log`
#[derive(Debug, Args)]
pub(crate) struct LogFlags {
    #[command(flatten)]
    pub(crate) orchestrator: OrchestratorFlag,
    #[command(subcommand)]
    pub(crate) action: LogAction,
}

/// What to do with the log.
#[derive(Debug, Subcommand)]
pub(crate) enum LogAction {
    /// Show the signed head
    Checkpoint,
    /// Check a whole journal, or the proof of a task, offline; exit code 1 with findings
    Verify {
        /// A journal, or a file that `kamil log proof` wrote [default: journal.db in Kamil's folder]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// The log's public key, as `kamil log checkpoint` shows it [default: the key of this Kamil]
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Write the proof of a task
    Proof {
        #[command(flatten)]
        task: TaskArgument,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_positional_forms_of_the_design_parse() {
        for line in [
            "kamil",
            "kamil up",
            "kamil distributed localhost:8000",
            "kamil orchestrator 8000",
            "kamil llm-node 8001 mistral:latest localhost:8000 coding,general",
            "kamil tool-node 8002 localhost:8000 file_ops,code_tools",
            "kamil memory-node 8003 localhost:8000",
            "kamil trace last --json",
            "kamil approve last run --deny",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        let both = Arguments::try_parse_from(["kamil", "orchestrator", "1", "--port", "2"]);
        assert!(both.is_err());
    }

    #[test]
    fn specializations_are_a_list() {
        let arguments =
            Arguments::try_parse_from(["kamil", "llm-node", "8001", "m", "h:1", "coding,general"]).unwrap();
        let Some(Command::LlmNode(flags)) = arguments.command else { panic!("another command") };
        assert_eq!(flags.specializations, ["coding", "general"]);
    }
}
