//! What goes wrong, and when.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Clock,
    disk::{Moment, SimulatedDisk},
    machine::Machine,
    node::{Fleet, Node},
    oracle::Oracle,
    random::Random,
    weather::Weather,
    wire::{Way, Wire},
};

/// Jumps of the time of day, in milliseconds, either way.
const JUMPS_MS: [i64; 5] = [500, 5_000, 60_000, 1_800_000, 10_800_000];

/// Everything that can be broken.
#[derive(Debug)]
pub(crate) struct Chaos {
    pub(crate) random: Random,
    pub(crate) weather: Weather,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) disk: Arc<SimulatedDisk>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) machine: Arc<Machine>,
}

impl Chaos {
    /// Breaks things for so long, then sets everything right.
    pub(crate) async fn rage(&self, how_long: Duration) {
        let end = tokio::time::Instant::now() + how_long;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(self.random.millis(0, 2_500)).await;
            self.strike().await;
        }
        // The last stroke has hit before the faults end.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.set_right();
    }

    async fn strike(&self) {
        let weather = self.weather;
        match self.random.below(8) {
            0 | 1 if weather.deaths => self.death().await,
            2 if weather.partitions => self.partition(),
            3 if weather.stops => {
                self.oracle.note("the machine stops");
                self.machine.stop();
            }
            4 if weather.stops_at_commits => {
                let moment = if self.random.per_mille(500) { Moment::Before } else { Moment::After };
                self.disk.arm(self.random.below(12), moment);
            }
            5 if weather.full_disk => {
                let full = self.random.per_mille(500);
                self.oracle.note(if full { "the disk is full" } else { "the disk has room" });
                self.disk.fill(full);
            }
            6 if weather.jumps => {
                let jump = self.random.pick(&JUMPS_MS).copied().unwrap_or(0);
                let jump = if self.random.per_mille(500) { jump } else { -jump };
                self.oracle.note(&format!("the clock jumps by {jump} ms"));
                self.clock.jump(jump);
            }
            _ => self.recovery(),
        }
    }

    fn some_node(&self) -> Option<&Arc<Node>> {
        self.random.pick(&self.fleet.nodes)
    }

    async fn death(&self) {
        let Some(node) = self.some_node() else { return };
        if self.random.per_mille(150) {
            // Its goodbye may stay under way for ever.
            let (node, machine) = (Arc::clone(node), Arc::clone(&self.machine));
            tokio::spawn(async move { node.leave(&machine).await });
        } else {
            node.die();
        }
        if self.random.per_mille(400) {
            tokio::time::sleep(self.random.millis(0, 200)).await;
            node.come_alive(&self.machine);
        }
    }

    fn partition(&self) {
        let Some(node) = self.some_node() else { return };
        let way = if self.random.per_mille(500) { Way::Refused } else { Way::Silent };
        self.oracle.note(&format!("the way to {} is {way:?}", node.name));
        self.wire.set(node.id, way);
    }

    fn recovery(&self) {
        let Some(node) = self.some_node() else { return };
        if self.wire.way(node.id) != Way::Open {
            self.oracle.note(&format!("the way to {} is open", node.name));
            self.wire.set(node.id, Way::Open);
        }
        node.come_alive(&self.machine);
    }

    fn set_right(&self) {
        self.oracle.note("the faults end");
        self.disk.disarm();
        self.disk.fill(false);
        self.wire.calm_down();
        for node in &self.fleet.nodes {
            node.come_alive(&self.machine);
        }
    }
}
