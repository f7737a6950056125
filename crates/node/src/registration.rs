//! How a node joins the orchestrator, stays known to it, and leaves.

use std::{sync::Arc, time::Duration};

use kamil_protocol::{
    ErrorCode, Problem,
    node::{Capabilities, Heartbeat, RegisterNode, Registered},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{Client, endpoints::About};

/// The first wait after a refused registration; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long one call to the orchestrator may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long saying goodbye may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

pub(crate) struct Registration {
    pub(crate) node: RegisterNode,
    pub(crate) orchestrator: Client,
    pub(crate) capabilities: watch::Receiver<Capabilities>,
    pub(crate) about: Arc<About>,
    pub(crate) registered: watch::Sender<bool>,
}

/// Registers, again and again if need be, and sends heartbeats until the shutdown.
pub(crate) async fn keep(mut registration: Registration, shutdown: CancellationToken) {
    registration.orchestrator = registration.orchestrator.with_timeout(CALL_TIMEOUT);
    let _ = shutdown.run_until_cancelled(registration.forever()).await;
    if *registration.registered.borrow() {
        registration.say_goodbye().await;
    }
}

impl Registration {
    async fn forever(&mut self) {
        loop {
            let terms = self.register().await;
            self.registered.send_replace(true);
            self.beat(&terms).await;
            self.registered.send_replace(false);
        }
    }

    async fn register(&mut self) -> Registered {
        let mut wait = FIRST_WAIT;
        let mut told = None;
        loop {
            self.node.capabilities = self.capabilities.borrow_and_update().clone();
            let at = self.orchestrator.base_url().to_owned();
            match self.orchestrator.post::<_, Registered>("/v1/nodes", &self.node).await {
                Ok(terms) => {
                    tracing::info!(orchestrator = at, "registered");
                    return terms;
                }
                Err(problem) => {
                    if told != Some(problem.code) {
                        tell(&at, &problem);
                        told = Some(problem.code);
                    }
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Returns when the orchestrator does not know the node any more.
    async fn beat(&mut self, terms: &Registered) {
        let every = Duration::from_millis(terms.heartbeat_interval_ms.clamp(50, 60_000));
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let path = format!("/v1/nodes/{}/heartbeat", self.node.id);
        let mut unsent = false;
        let mut told = None;
        loop {
            let open = tokio::select! {
                _ = ticks.tick() => true,
                changed = self.capabilities.changed() => changed.is_ok(),
            };
            if !open {
                // The service will offer nothing new any more; the time alone decides from now on.
                ticks.tick().await;
            }
            let offered = self.capabilities.borrow_and_update().clone();
            unsent |= offered != self.node.capabilities;
            self.node.capabilities.clone_from(&offered);
            let heartbeat = self.heartbeat(unsent.then_some(offered)).await;
            match self.orchestrator.put::<_, serde_json::Value>(&path, &heartbeat).await {
                Ok(_) => {
                    unsent = false;
                    if told.take().is_some() {
                        tracing::info!(
                            orchestrator = self.orchestrator.base_url(),
                            "the orchestrator answers again"
                        );
                    }
                }
                Err(problem) if problem.code == ErrorCode::NodeUnknown => {
                    tracing::info!(
                        orchestrator = self.orchestrator.base_url(),
                        "the orchestrator does not know this node; registering again"
                    );
                    return;
                }
                Err(problem) => {
                    if told != Some(problem.code) {
                        tell(self.orchestrator.base_url(), &problem);
                        told = Some(problem.code);
                    }
                }
            }
        }
    }

    async fn heartbeat(&self, capabilities: Option<Capabilities>) -> Heartbeat {
        let about = Arc::clone(&self.about);
        // Asking a driver about its accelerators may block.
        let measured = tokio::task::spawn_blocking(move || (about.load(), about.load.accelerators())).await;
        let (load, accelerators) = measured.unwrap_or_default();
        Heartbeat { instance: self.node.instance, load, capabilities, accelerators }
    }

    async fn say_goodbye(&self) {
        let path = format!("/v1/nodes/{}", self.node.id);
        let gone = self.orchestrator.with_timeout(GOODBYE_TIMEOUT).delete::<serde_json::Value>(&path).await;
        if let Err(problem) = gone {
            tracing::debug!(%problem, "the orchestrator did not hear the goodbye");
        }
    }
}

fn tell(at: &str, problem: &Problem) {
    match problem.code {
        ErrorCode::NodeUnreachable | ErrorCode::DeadlineExceeded => {
            tracing::warn!(
                orchestrator = at,
                reason = problem.detail,
                "the orchestrator cannot be reached; trying again"
            );
        }
        ErrorCode::BadGateway | ErrorCode::NotFound | ErrorCode::MethodNotAllowed => {
            tracing::error!(
                orchestrator = at,
                reason = problem.detail,
                "what answers there is not a Kamil orchestrator; check the address and the port; trying again"
            );
        }
        _ => tracing::error!(orchestrator = at, %problem, "the orchestrator refuses this node; trying again"),
    }
}
