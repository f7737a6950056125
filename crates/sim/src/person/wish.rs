//! What people ask for.

use kamil_protocol::task::{StepKind, StepSpec, TaskRequest};
use serde_json::{Map, Value, json};

use super::Person;

const QUESTIONS: [&str; 5] = [
    "What is a hash chain?",
    "My bicycle is blue.",
    "Remember that the key is under the mat.",
    "Please add the sums 1 and 2 in my notes.",
    "Append the notes to notes.txt",
];

impl Person {
    pub(super) fn wish(&self) -> TaskRequest {
        let random = &self.random;
        let input = random.pick(&QUESTIONS).copied().unwrap_or_default().to_owned();
        let mut request = TaskRequest { input, ..TaskRequest::default() };
        if random.per_mille(400) {
            request.session = Some(self.session);
        }
        if random.per_mille(200) {
            request.deadline_ms = Some(random.between(1_000, 40_000));
        }
        match random.below(10) {
            0 | 1 => request.direct = true,
            2 | 3 => {}
            _ => request.steps = Some(self.graph()),
        }
        request
    }

    /// A graph of tools that depend on each other, by name or by reference, sometimes with an answer.
    fn graph(&self) -> Vec<StepSpec> {
        let random = &self.random;
        let count = random.between(1, 6);
        let mut steps: Vec<StepSpec> = Vec::new();
        for place in 0..count {
            let Some(mut step) = empty(&format!("s{place}"), StepKind::Tool) else { continue };
            let earlier = random.pick(&steps).map(|step| step.id.clone());
            if random.per_mille(100) {
                step.kind = StepKind::Reason;
                step.inputs.insert("instruction".to_owned(), json!("Say something."));
            } else {
                let tool = random.pick(&self.tools).copied().unwrap_or("sums.add");
                step.tool = Some(tool.to_owned());
                let refers = earlier.as_ref().filter(|_| random.per_mille(400)).filter(|earlier| {
                    steps.iter().any(|step| step.id == **earlier && step.kind == StepKind::Tool)
                });
                let number = refers.map_or(json!(7), |id| json!({"$from": id, "path": "/value"}));
                step.inputs = arguments(tool, number);
            }
            if let Some(earlier) = earlier.filter(|_| random.per_mille(400)) {
                step.depends_on.push(earlier);
            }
            step.tolerates_failure =
                step.inputs.values().all(|value| !value.is_object()) && random.per_mille(200);
            steps.push(step);
        }
        if random.per_mille(400)
            && let Some(mut answer) = empty("answer", StepKind::Answer)
        {
            answer.depends_on = steps.iter().map(|step| step.id.clone()).collect();
            steps.push(answer);
        }
        steps
    }
}

fn arguments(tool: &str, number: Value) -> Map<String, Value> {
    let mut inputs = Map::new();
    if tool == "sums.add" {
        inputs.insert("a".to_owned(), number);
        inputs.insert("b".to_owned(), json!(2));
    } else {
        inputs.insert("n".to_owned(), number);
        inputs.insert("text".to_owned(), json!("a line"));
    }
    inputs
}

fn empty(id: &str, kind: StepKind) -> Option<StepSpec> {
    serde_json::from_value(json!({"id": id, "kind": kind})).ok()
}
