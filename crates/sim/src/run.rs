//! One run.

use std::{path::Path, sync::Arc, time::Duration};

use kamil_ledger::SigningKey;
use kamil_node::Home;
use kamil_orchestrator::{OrchestratorOptions, journal, journal::Disk};
use kamil_protocol::{SessionId, node::Role};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    chaos::Chaos,
    clock::Clock,
    disk::SimulatedDisk,
    flaw::Flaw,
    machine::Machine,
    node::{Fleet, Node, Surroundings, tool},
    oracle::{Findings, Oracle},
    person::Person,
    random::Random,
    weather::Weather,
    wire::Wire,
};

/// After the faults have ended, every task has ended or waits for the person within this long. An LLM node that was asked and
/// never answers has 10 minutes, twice.
const PROGRESS: Duration = Duration::from_secs(1_500);

/// No run takes longer than this.
const WHOLE_RUN: Duration = Duration::from_secs(3_600);

/// How a run differs from what its seed gives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep a line of all that happens.
    pub keep_lines: bool,
    /// A fault that is put into the nodes on purpose.
    pub flaw: Option<Flaw>,
}

/// Why a run cannot take place.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no place for the journal.
    #[error("there is no folder for the journal: {0}")]
    Folder(#[from] std::io::Error),
    /// The home cannot be set up.
    #[error(transparent)]
    Home(#[from] kamil_node::NodeError),
}

/// Runs the real orchestrator among what this seed gives, in virtual time, and says what was found. The journal lies in a
/// folder of its own below `folder`, and is gone afterwards.
///
/// # Errors
/// [`RunError`] if the run cannot take place; what it finds is no error.
pub fn run(seed: u64, options: Options, folder: &Path) -> Result<Findings, RunError> {
    let folder = tempfile::Builder::new().prefix("kamil-sim-").tempdir_in(folder)?;
    let home = Home::resolve(Some(folder.path().to_owned()))?;
    set_key(&home)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    // Within the runtime from the first moment on: outside of it, time is the machine's.
    let findings = runtime.block_on(async move { Stage::set(seed, options, home).play().await });
    Ok(findings)
}

/// The log's key is the same in every run: its signatures are no part of what is compared, and making one takes long.
fn set_key(home: &Home) -> std::io::Result<()> {
    let key = SigningKey::from_seed("kamil.local/sim", &[7; 32]).map_err(std::io::Error::other)?;
    let path = home.identity().join("log.key");
    std::fs::write(home.identity().join("log.pub"), key.verifier().to_string())?;
    std::fs::write(&path, key.to_private_text().as_bytes())?;
    #[cfg(unix)]
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(())
}

/// All that takes part in a run.
struct Stage {
    random: Random,
    home: Home,
    oracle: Arc<Oracle>,
    machine: Arc<Machine>,
    chaos: Chaos,
    tools: Vec<&'static str>,
}

impl Stage {
    fn set(seed: u64, options: Options, home: Home) -> Self {
        let random = Random::new(seed);
        let weather = Weather::of(&random.fork("weather"));
        let clock = Clock::new(random.fork("clock"));
        let oracle = Oracle::new(Arc::clone(&clock), options.keep_lines);
        let wire = Arc::new(Wire::new(random.fork("wire"), weather));
        let disk = SimulatedDisk::new(Arc::clone(&oracle));
        let around = Surroundings {
            wire: Arc::clone(&wire),
            oracle: Arc::clone(&oracle),
            weather,
            flaw: options.flaw,
        };
        let (fleet, tools) = equip(&random.fork("fleet"), &around);
        let orchestrator = OrchestratorOptions {
            world: clock.clone(),
            network: Some(fleet.clone()),
            disk: Disk::Simulated(disk.clone()),
            ..OrchestratorOptions::default()
        };
        let machine = Machine::new(
            home.clone(),
            orchestrator,
            Arc::clone(&oracle),
            Arc::clone(&disk),
            random.fork("machine"),
        );
        oracle.note(&format!("{weather:?}"));
        let chaos = Chaos {
            random: random.fork("chaos"),
            weather,
            oracle: Arc::clone(&oracle),
            clock,
            disk,
            wire,
            fleet,
            machine: Arc::clone(&machine),
        };
        Self { random, home, oracle, machine, chaos, tools }
    }

    async fn play(self) -> Findings {
        let over = CancellationToken::new();
        let operating = tokio::spawn(Arc::clone(&self.machine).operate(over.clone()));
        for node in &self.chaos.fleet.nodes {
            node.come_alive(&self.machine);
        }
        let faults = self.random.millis(5_000, 60_000);
        let session = SessionId::from_uuid(uuid::Uuid::from_bytes(self.random.bytes()));
        let people = TaskTracker::new();
        for number in 0..self.random.between(2, 10) {
            let person = Person {
                number,
                random: self.random.fork("person"),
                machine: Arc::clone(&self.machine),
                oracle: Arc::clone(&self.oracle),
                session,
                tools: self.tools.clone(),
            };
            people.spawn(person.act(faults));
        }
        let whole = async {
            self.chaos.rage(faults).await;
            self.await_progress(&people).await;
            self.examine().await;
            over.cancel();
            operating.await
        };
        match tokio::time::timeout(WHOLE_RUN, whole).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => self.oracle.violated("the orchestrator broke"),
            Err(_) => self.oracle.violated("the orchestrator does not answer, or does not stop"),
        }
        self.verify();
        self.oracle.findings()
    }

    /// Every task ends, or waits for the person.
    async fn await_progress(&self, people: &TaskTracker) {
        people.close();
        let settled = async {
            people.wait().await;
            while self.oracle.open_tasks().iter().any(|(_, waits_for_person)| !waits_for_person) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        if tokio::time::timeout(PROGRESS, settled).await.is_ok() {
            return;
        }
        self.oracle.violated("the run has not come to rest");
        for (task, _) in
            self.oracle.open_tasks().into_iter().filter(|(_, waits_for_person)| !waits_for_person)
        {
            let steps: Vec<String> = self.oracle.task(task).map_or_else(Vec::new, |task| {
                let step = |step: &kamil_plan::Step| {
                    let waiting = step.waiting.as_deref().unwrap_or_default();
                    format!("{} {:?} {waiting}", step.id(), step.status)
                };
                task.steps().iter().map(step).collect()
            });
            self.oracle.violated(&format!("task {task} has not come to an end: {}", steps.join("; ")));
        }
    }

    /// Holds what the orchestrator has against what was committed, acknowledged and done.
    async fn examine(&self) {
        let orchestrator = self.machine.reached().await;
        self.machine.hold_against_journal(&orchestrator).await;
        for (task, _) in self.oracle.open_tasks() {
            self.machine.hold_against_driver(task).await;
        }
        let open = self.oracle.open_tasks();
        if orchestrator.open_tasks() != open.len() {
            let what = format!("{} tasks are open, {} are driven", open.len(), orchestrator.open_tasks());
            self.oracle.violated(&what);
        }
        self.oracle.judge_reports();
    }

    fn verify(&self) {
        let report = journal::verifier_key(&self.home.identity())
            .and_then(|key| journal::verify(&self.home.journal(), &key));
        match report {
            Ok(report) if report.ok && report.records == self.oracle.findings().records => {}
            Ok(report) => self.oracle.violated(&format!("the log does not verify: {report:?}")),
            Err(error) => self.oracle.violated(&format!("the log cannot be verified: {error}")),
        }
    }
}

/// Nodes of every role that a run may have; each tool is on one node at least.
fn equip(random: &Random, around: &Surroundings) -> (Arc<Fleet>, Vec<&'static str>) {
    let (llms, tool_nodes) = (random.between(1, 2), random.between(1, 3));
    let memories = u64::from(random.per_mille(700));
    let mut nodes = Vec::new();
    let mut add = |role, tools| {
        let name = format!("node {}", nodes.len());
        nodes.push(Node::new(nodes.len(), role, tools, random.fork(&name), around));
    };
    (0..llms).for_each(|_| add(Role::Llm, Vec::new()));
    (0..memories).for_each(|_| add(Role::Memory, Vec::new()));
    let homes: Vec<u64> = tool::TOOLS.iter().map(|_| random.below(tool_nodes)).collect();
    for place in 0..tool_nodes {
        let offered = tool::TOOLS.iter().zip(&homes);
        let offered = offered.filter(|(_, home)| **home == place || random.per_mille(500));
        add(Role::Tool, offered.map(|(tool, _)| tool).collect());
    }
    (Fleet::new(nodes), tool::TOOLS.iter().map(|tool| tool.name).collect())
}
