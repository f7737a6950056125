//! What may be done, and how much each compromise weighs.

use kamil_protocol::NodeId;

/// A node that must not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avoid {
    /// For the step with this index in the call only; absent: for all.
    pub step: Option<usize>,
    /// The node.
    pub node: NodeId,
    /// Why, for the person: `attempt 1 failed there`.
    pub reason: String,
}

/// Rules for one call of [`place`](crate::place()).
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Nodes that must not be used.
    pub avoid: Vec<Avoid>,
    /// A model asked for by name that no node can run now may be replaced by the next smaller one. Default: no.
    pub replace_model: bool,
    /// A step that asks for an accelerator runs without one if none is to be had. Default: yes.
    pub cpu_instead: bool,
    /// The time of a model without the wanted specialization counts this many times. Default 3.
    pub specialization_factor: f64,
    /// And this much is added to it, so that it weighs for short steps too. Default 1 s.
    pub specialization_extra_ms: f64,
    /// Among models that nobody asked for by name, one half the size of the largest that fits has its time counted this
    /// many times (a quarter of the size: squared). 1 looks at time alone. Default 2: what a smaller model gains by being
    /// smaller is not what decides, what it gains by a faster or idle machine is.
    pub halving_factor: f64,
    /// The time of a node on battery counts this many times. Default 1.25.
    pub battery_factor: f64,
    /// At most this many rejected candidates are listed for each step; the reasons say how many are left out. Default 200.
    pub max_rejections: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            avoid: Vec::new(),
            replace_model: false,
            cpu_instead: true,
            specialization_factor: 3.0,
            specialization_extra_ms: 1_000.0,
            halving_factor: 2.0,
            battery_factor: 1.25,
            max_rejections: 200,
        }
    }
}

impl Policy {
    /// Why this node must not run this step, if so.
    pub(crate) fn avoided(&self, step: usize, node: NodeId) -> Option<&str> {
        self.avoid
            .iter()
            .find(|avoid| avoid.node == node && avoid.step.is_none_or(|only| only == step))
            .map(|avoid| avoid.reason.as_str())
    }
}
