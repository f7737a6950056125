//! A node's life: it registers, sends heartbeats, dies and comes back.

use std::{sync::Arc, time::Duration};

use kamil_protocol::{
    ErrorCode,
    node::{Capabilities, Hardware, Heartbeat, Load, MemoryOffer, ModelOffer, RegisterNode, Role},
};

use super::{Node, Run, SLOTS};
use crate::machine::Machine;

const HEARTBEAT: Duration = Duration::from_millis(500);
const GIBIBYTE: u64 = 1 << 30;

impl Node {
    /// Starts the node, unless it lives.
    pub(crate) fn come_alive(self: &Arc<Self>, machine: &Arc<Machine>) {
        if self.run().is_some() {
            return;
        }
        let run = self.begin();
        self.oracle.note(&format!("{} starts", self.name));
        let life = Arc::clone(self).live(run.clone(), Arc::clone(machine));
        tokio::spawn(run.stop.run_until_cancelled_owned(life));
    }

    /// The node says goodbye, and ends.
    pub(crate) async fn leave(&self, machine: &Machine) {
        self.die();
        if self.wire.pass(self.id).await.is_ok()
            && let Some(orchestrator) = machine.current()
        {
            // It may have been forgotten already.
            let _ = orchestrator.remove(self.id).await;
        }
    }

    async fn live(self: Arc<Self>, run: Run, machine: Arc<Machine>) {
        loop {
            self.enrol(&run, &machine).await;
            self.beat(&run, &machine).await;
        }
    }

    /// Registers; tries until it is told that it has.
    async fn enrol(self: &Arc<Self>, run: &Run, machine: &Arc<Machine>) {
        let mut pause_ms = 100;
        loop {
            if self.weather.heartbeats && self.wire.mishap(200) {
                self.register_late(run, machine);
            }
            if self.register(run, machine).await {
                return;
            }
            self.takes(pause_ms, 2 * pause_ms).await;
            pause_ms = (pause_ms * 2).min(2_000);
        }
    }

    async fn register(&self, run: &Run, machine: &Machine) -> bool {
        if self.wire.pass(self.id).await.is_err() {
            return false;
        }
        let Some(orchestrator) = machine.current() else { return false };
        match orchestrator.register(self.registration(run)).await {
            Ok(_) => self.wire.pass(self.id).await.is_ok(),
            Err(problem) => {
                self.oracle.violated(&format!("{} is refused: {problem}", self.name));
                false
            }
        }
    }

    /// A registration that stays under way for long, and arrives whatever has become of its node.
    fn register_late(self: &Arc<Self>, run: &Run, machine: &Arc<Machine>) {
        let (node, machine, run) = (Arc::clone(self), Arc::clone(machine), run.clone());
        tokio::spawn(async move {
            node.takes(500, 6_000).await;
            if let Some(orchestrator) = machine.current() {
                node.oracle.note(&format!("a late registration of {} arrives", node.name));
                // Nobody waits for the answer.
                let _ = orchestrator.register(node.registration(&run)).await;
            }
        });
    }

    /// Sends heartbeats until it is told to register again.
    async fn beat(&self, run: &Run, machine: &Machine) {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            if self.weather.heartbeats && self.wire.mishap(60) {
                // A machine that was suspended, or far too busy.
                self.takes(1_000, 4_000).await;
            }
            if self.wire.pass(self.id).await.is_err() {
                continue;
            }
            let Some(orchestrator) = machine.current() else { continue };
            let twice = self.weather.heartbeats && self.wire.mishap(50);
            for _ in 0..=u8::from(twice) {
                let answer = orchestrator.heartbeat(self.id, self.heartbeat(run));
                if answer.is_err_and(|problem| problem.code == ErrorCode::NodeUnknown) {
                    return;
                }
            }
        }
    }

    fn heartbeat(&self, run: &Run) -> Heartbeat {
        let running = run.running.load(std::sync::atomic::Ordering::Relaxed);
        Heartbeat {
            instance: run.instance,
            load: Load {
                cpu: 0.5,
                ram_available_bytes: 8 * GIBIBYTE,
                running: running.min(SLOTS),
                queued: running.saturating_sub(SLOTS),
            },
            capabilities: None,
            accelerators: Vec::new(),
        }
    }

    fn registration(&self, run: &Run) -> RegisterNode {
        let mut capabilities = Capabilities { slots: SLOTS, ..Capabilities::default() };
        match self.role {
            Role::Llm => capabilities.models = vec![offer("small:1b", 1), offer(&self.name, 2)],
            Role::Tool => capabilities.tools = self.tools.iter().map(|tool| tool.descriptor()).collect(),
            Role::Memory => {
                capabilities.memory =
                    Some(MemoryOffer { store: "simulated".to_owned(), embedder: None, memories: 0 });
            }
            Role::Orchestrator => {}
        }
        RegisterNode {
            id: self.id,
            instance: run.instance,
            name: self.name.clone(),
            role: self.role,
            url: format!("http://{}.invalid", self.name),
            token: run.instance.to_string(),
            version: "simulated".to_owned(),
            capabilities,
            hardware: Hardware {
                cpu_model: "simulated".to_owned(),
                physical_cores: 4,
                logical_cores: 8,
                ram_total_bytes: 16 * GIBIBYTE,
                ram_available_bytes: 8 * GIBIBYTE,
                ..Hardware::default()
            },
        }
    }
}

fn offer(name: &str, gibibytes: u64) -> ModelOffer {
    ModelOffer {
        name: name.to_owned(),
        engine: "simulated".to_owned(),
        resident: true,
        bytes: gibibytes * GIBIBYTE,
        context_tokens: 8_192,
        specializations: vec!["general".to_owned()],
        prefill_tokens_per_s: None,
        decode_tokens_per_s: None,
        generates: true,
    }
}
