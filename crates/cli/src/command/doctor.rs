//! `kamil doctor`: whether this machine can do what Kamil needs, tried rather than assumed.

use std::net::{Ipv4Addr, TcpListener};

use kamil_models::ModelKind;
use kamil_protocol::{LLM_PORT, MEMORY_PORT, ORCHESTRATOR_PORT, TOOL_PORT};
use kamil_sandbox::{CancelToken, Command, Launcher, Limits, Outcome, Policy, SandboxError};
use serde::Serialize;

use crate::{
    context::Context,
    failure::{Exit, Failure},
    models,
    table::bytes,
    terminal::{self, BAD, GOOD, Stream, WARN, neutralise, say},
};

const WALL_MS: u64 = 10_000;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    /// Kamil works, but less well.
    Limited,
    /// Something does not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    verdict: Verdict,
    finding: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_step: Option<String>,
}

impl Check {
    fn new(what: &'static str, verdict: Verdict, finding: impl Into<String>) -> Self {
        Self { what, verdict, finding: finding.into(), next_step: None }
    }

    fn next(mut self, next_step: impl Into<String>) -> Self {
        self.next_step = Some(next_step.into());
        self
    }
}

pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let here = context.clone();
    let checked = tokio::task::spawn_blocking(move || all(&here)).await;
    let checks = checked.map_err(|error| Failure::failed(format!("the checks broke off: {error}")))??;
    if context.json {
        terminal::say_json(&checks)?;
    } else {
        for check in &checks {
            let (style, mark) = match check.verdict {
                Verdict::Good => (GOOD, "✓"),
                Verdict::Limited => (WARN, "!"),
                Verdict::Bad => (BAD, "✗"),
            };
            say(format_args!(
                "{} {:<8} {}",
                Stream::Out.paint(style, mark),
                check.what,
                neutralise(&check.finding)
            ));
            if let Some(next) = &check.next_step {
                say(format_args!("           next: {}", neutralise(next)));
            }
        }
    }
    let bad = checks.iter().any(|check| check.verdict == Verdict::Bad);
    Ok(if bad { Exit::Failed } else { Exit::Done })
}

fn all(context: &Context) -> Result<Vec<Check>, Failure> {
    let launcher = Launcher::current().map_err(|error| Failure::failed(error.to_string()))?;
    let mut checks = vec![home(context), writer(context)?, embedder(context)?, memory()];
    checks.push(sandbox(&launcher));
    checks.push(python(&launcher));
    checks.extend(ports());
    Ok(checks)
}

fn home(context: &Context) -> Check {
    let path = context.home.path();
    let probe = path.join(".doctor");
    let written = std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe));
    match written {
        Ok(()) => Check::new("folder", Verdict::Good, format!("{} can be written", path.display())),
        Err(error) => {
            Check::new("folder", Verdict::Bad, format!("{} cannot be written: {error}", path.display()))
                .next("correct its owner or mode, or choose another with KAMIL_HOME")
        }
    }
}

fn writer(context: &Context) -> Result<Check, Failure> {
    let models = models::folder(context);
    Ok(match models::writes(&models)? {
        Some(model) => match models.resolve(&model.name) {
            Ok(_) => Check::new("model", Verdict::Good, format!("{} is installed", model.name)),
            Err(error) => Check::new("model", Verdict::Bad, error.to_string()),
        },
        None => Check::new("model", Verdict::Bad, "no model is installed").next("`kamil models pull`"),
    })
}

fn embedder(context: &Context) -> Result<Check, Failure> {
    let installed = models::folder(context).list()?;
    let embeds = |model: &&kamil_models::InstalledModel| {
        model.entry.is_some_and(|entry| entry.kind == ModelKind::Embed)
    };
    Ok(match installed.iter().find(embeds) {
        Some(model) => {
            Check::new("recall", Verdict::Good, format!("{} finds memories by their meaning", model.name))
        }
        None => Check::new(
            "recall",
            Verdict::Limited,
            "memories are found by their words alone: no embedding model is installed",
        )
        .next("`kamil models pull`"),
    })
}

fn memory() -> Check {
    let hardware = kamil_node::hardware::probe();
    let free = bytes(hardware.ram_available_bytes);
    let total = bytes(hardware.ram_total_bytes);
    let fit = kamil_models::fit(hardware.ram_available_bytes);
    match fit.chosen {
        Some(chosen) => {
            Check::new("memory", Verdict::Good, format!("{free} of {total} are free: enough for {chosen}"))
        }
        None => Check::new(
            "memory",
            Verdict::Limited,
            format!("{free} of {total} are free: too little for any model of the catalogue"),
        )
        .next("free some memory, or use a server: `kamil llm-node --engine-url URL`"),
    }
}

fn confined(launcher: &Launcher, program: &str, arguments: &[&str]) -> Result<Outcome, SandboxError> {
    let limits = Limits { wall_ms: WALL_MS, ..Limits::default() };
    let policy = Policy { limits, ..Policy::default() };
    let command = Command::new(program, arguments.iter().copied());
    kamil_sandbox::run(launcher, &policy, &command, &CancelToken::new())
}

fn sandbox(launcher: &Launcher) -> Check {
    match confined(launcher, "true", &[]) {
        Ok(outcome) => match outcome.enforced.missing() {
            None if outcome.status.success() => {
                let (count, ms) = (outcome.enforced.layers.len(), outcome.duration_ms);
                let abi = outcome.enforced.landlock_abi;
                let finding = format!(
                    "a confined program ran in {ms} ms under all {count} layers (Landlock ABI {abi})"
                );
                Check::new("sandbox", Verdict::Good, finding)
            }
            None => Check::new(
                "sandbox",
                Verdict::Bad,
                format!("a confined `true` ended with {:?}", outcome.status),
            ),
            Some(layer) => Check::new("sandbox", Verdict::Bad, format!("the layer {layer} was not enforced")),
        },
        Err(error) => Check::new("sandbox", Verdict::Bad, error.to_string())
            .next("until then Kamil refuses every tool that starts a process; all else works"),
    }
}

fn python(launcher: &Launcher) -> Check {
    match confined(launcher, "python3", &["--version"]) {
        Ok(outcome) if outcome.status.success() => {
            let version = String::from_utf8_lossy(&outcome.stdout).trim().to_owned();
            Check::new("python", Verdict::Good, format!("{version} runs confined"))
        }
        Ok(outcome) => {
            let said = String::from_utf8_lossy(&outcome.stderr).trim().chars().take(200).collect::<String>();
            Check::new(
                "python",
                Verdict::Limited,
                format!("python3 does not run confined: {:?} {said}", outcome.status),
            )
        }
        Err(error) => Check::new("python", Verdict::Limited, error.to_string())
            .next("install Python 3 to let Kamil run Python code; all else works without"),
    }
}

fn ports() -> Vec<Check> {
    let taken: Vec<String> = [ORCHESTRATOR_PORT, LLM_PORT, TOOL_PORT, MEMORY_PORT]
        .into_iter()
        .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err())
        .map(|port| port.to_string())
        .collect();
    if taken.is_empty() {
        return vec![Check::new("ports", Verdict::Good, "8000 to 8003 are free")];
    }
    let finding = format!("in use: {}", taken.join(", "));
    let next = "Kamil itself may run already (`kamil nodes`); else give the commands other ports";
    vec![Check::new("ports", Verdict::Limited, finding).next(next)]
}
