//! The task graph from outside: what may be added, what follows, and what holds whatever happens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod flow;
mod graph;
mod guarding;
mod machine;
mod properties;
mod referee;

use kamil_protocol::{
    StepId,
    task::{StepKind, StepSpec},
};
use serde_json::{Map, Value};

pub(crate) fn id(name: &str) -> StepId {
    name.parse().unwrap()
}

pub(crate) fn spec(name: &str, kind: StepKind, needs: &[&str]) -> StepSpec {
    StepSpec {
        tool: (kind == StepKind::Tool).then(|| "calc.evaluate".to_owned()),
        depends_on: needs.iter().map(|need| id(need)).collect(),
        ..StepSpec::new(id(name), kind)
    }
}

pub(crate) fn inputs(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}
