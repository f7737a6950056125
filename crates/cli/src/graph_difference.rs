//! How the graphs of two tasks differ.

use std::time::Duration;

use kamil_protocol::{
    StepId,
    task::{StepDoc, TaskDoc},
};
use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

use crate::terminal::{BAD, BOLD, GOOD, Stream, neutralise, say};

/// Longest difference that is shown, in lines.
const MAX_LINES: usize = 80;
/// Longest line of it, in characters.
const MAX_CHARS: usize = 240;
/// After this long a coarser difference has to do.
const PATIENCE: Duration = Duration::from_millis(500);

/// What happened to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Added,
    Removed,
    Changed,
}

/// A step that is not the same in both graphs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StepDifference {
    pub(crate) step: StepId,
    pub(crate) change: Change,
    /// What of it differs; of a step that was added or removed, all there is.
    pub(crate) fields: Vec<FieldDifference>,
}

/// A part of a step that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FieldDifference {
    pub(crate) field: &'static str,
    /// A unified difference, at most 80 lines.
    pub(crate) diff: String,
}

/// The steps that differ, in the order of the first graph, then those that were added.
pub(crate) fn between(before: &TaskDoc, after: &TaskDoc) -> Vec<StepDifference> {
    let find = |task: &TaskDoc, id: &StepId| task.steps.iter().find(|step| step.id == *id).cloned();
    let known = before.steps.iter().map(|step| (Some(step), find(after, &step.id)));
    let added = after.steps.iter().filter(|step| find(before, &step.id).is_none());
    let differences = known.filter_map(|(was, now)| difference(was, now.as_ref()));
    differences.chain(added.filter_map(|step| difference(None, Some(step)))).collect()
}

fn difference(was: Option<&StepDoc>, now: Option<&StepDoc>) -> Option<StepDifference> {
    let (step, change) = match (was, now) {
        (Some(was), Some(_)) => (was, Change::Changed),
        (Some(was), None) => (was, Change::Removed),
        (None, Some(now)) => (now, Change::Added),
        (None, None) => return None,
    };
    let (was, now) = (was.map(parts).unwrap_or_default(), now.map(parts).unwrap_or_default());
    let fields: Vec<FieldDifference> = FIELDS
        .iter()
        .zip(was.iter().zip(&now))
        .filter(|(_, (was, now))| was != now)
        .map(|(field, (was, now))| FieldDifference { field, diff: unified(was, now) })
        .collect();
    (!fields.is_empty()).then(|| StepDifference { step: step.id.clone(), change, fields })
}

const FIELDS: [&str; 7] = ["kind", "tool", "depends_on", "inputs", "status", "output", "error"];

/// The parts of a step in which a person is interested, as text, in the order of [`FIELDS`].
fn parts(step: &StepDoc) -> [String; 7] {
    let ids: Vec<&str> = step.depends_on.iter().map(|id| id.as_str()).collect();
    let inputs = if step.inputs.is_empty() { None } else { Some(Value::Object(step.inputs.clone())) };
    [
        value(serde_json::to_value(step.kind).ok().as_ref()),
        step.tool.clone().unwrap_or_default(),
        ids.join(", "),
        value(inputs.as_ref()),
        value(serde_json::to_value(step.status).ok().as_ref()),
        value(step.output.as_ref()),
        step.error.as_ref().map(|error| error.detail.clone()).unwrap_or_default(),
    ]
}

fn value(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => serde_json::to_string_pretty(other).unwrap_or_default(),
    }
}

fn unified(was: &str, now: &str) -> String {
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(was, now);
    let mut text = String::new();
    for (count, line) in
        diff.unified_diff().context_radius(2).missing_newline_hint(false).to_string().lines().enumerate()
    {
        if count == MAX_LINES {
            text.push_str("…\n");
            break;
        }
        match line.char_indices().nth(MAX_CHARS) {
            Some((end, _)) => text.push_str(&format!("{}…\n", line.get(..end).unwrap_or_default())),
            None => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

/// Writes the differences for a person.
pub(crate) fn show(differences: &[StepDifference]) {
    if differences.is_empty() {
        say("the two graphs are the same");
    }
    for StepDifference { step, change, fields } in differences {
        let word = match change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
        };
        say(Stream::Out.paint(BOLD, format_args!("{word} {step}")));
        for FieldDifference { field, diff } in fields {
            say(format_args!("  {field}"));
            for line in diff.lines() {
                let line = neutralise(line);
                match line.as_bytes().first() {
                    Some(b'+') => say(format_args!("    {}", Stream::Out.paint(GOOD, line))),
                    Some(b'-') => say(format_args!("    {}", Stream::Out.paint(BAD, line))),
                    _ => say(format_args!("    {line}")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kamil_protocol::TaskId;
    use serde_json::json;

    use super::*;

    fn task(steps: &Value) -> TaskDoc {
        serde_json::from_value(json!({
            "id": TaskId::generate(), "status": "succeeded", "input": "x", "degraded": [],
            "created_at": "2026-01-01T00:00:00Z", "steps": steps,
        }))
        .unwrap()
    }

    #[test]
    fn steps_that_came_went_and_changed_are_told_apart() {
        let step = |id: &str, output: &str| {
            json!({"id": id, "kind": "tool", "status": "succeeded", "depends_on": [], "inputs": {},
                "attempt": 1, "output": output})
        };
        let before = task(&json!([step("same", "a"), step("gone", "b"), step("other", "one\ntwo\n")]));
        let after = task(&json!([step("same", "a"), step("other", "one\n2\n"), step("new", "c")]));
        let found = between(&before, &after);
        let told: Vec<_> =
            found.iter().map(|difference| (difference.step.as_str(), difference.change)).collect();
        assert_eq!(told, [("gone", Change::Removed), ("other", Change::Changed), ("new", Change::Added)]);
        assert_eq!(found[1].fields.len(), 1);
        assert_eq!(found[1].fields[0].diff, "@@ -1,2 +1,2 @@\n one\n-two\n+2\n");
        assert!(between(&before, &before).is_empty());
    }

    #[test]
    fn a_long_difference_is_cut() {
        let long: String = (0..1_000).map(|line| format!("{line}\n")).collect();
        assert_eq!(unified("", &long).lines().count(), MAX_LINES + 1);
    }
}
