//! The names of a plan's steps in a graph that has others already, and whether a plan ends in another.

use std::collections::BTreeMap;

use kamil_protocol::{StepId, task::StepSpec};
use serde_json::Value;

/// The line with which a plan ends that wants to see its results before anything else is decided, instead of `answer`.
const GOES_ON: &str = "plan";

/// The calls of a reply, and whether another plan is wanted after them.
#[must_use]
pub fn going_on(reply: &str) -> (&str, bool) {
    let calls = reply.trim_end().strip_suffix(GOES_ON).filter(|calls| calls.ends_with('\n'));
    calls.map_or((reply, false), |calls| (calls, true))
}

/// Every plan numbers its steps from s1: those of a later one go on where the graph stands.
pub(super) fn number_on(existing: &[&StepSpec], steps: &mut [StepSpec]) {
    let number = |id: &StepId| id.as_str().strip_prefix('s')?.split('.').next()?.parse::<u32>().ok();
    let Some(last) = existing.iter().filter_map(|step| number(&step.id)).max() else { return };
    let names: BTreeMap<StepId, StepId> = (last.saturating_add(1)..)
        .zip(steps.iter())
        .filter_map(|(number, step)| Some((step.id.clone(), format!("s{number}").parse().ok()?)))
        .collect();
    let rename = |id: &mut StepId| {
        if let Some(name) = names.get(id) {
            id.clone_from(name);
        }
    };
    for step in steps {
        rename(&mut step.id);
        step.depends_on.iter_mut().for_each(rename);
        step.for_each.iter_mut().for_each(|list| rename(&mut list.over.from));
        step.when.iter_mut().for_each(|condition| rename(&mut condition.value.from));
        step.inputs.values_mut().for_each(|value| rename_references(value, &names));
    }
}

fn rename_references(value: &mut Value, names: &BTreeMap<StepId, StepId>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(item, names)),
        Value::Object(members) => {
            let from = members.get("$from").and_then(Value::as_str).and_then(|from| from.parse().ok());
            if let Some(name) = from.and_then(|from: StepId| names.get(&from)) {
                members.insert("$from".to_owned(), Value::from(name.as_str()));
            } else {
                members.values_mut().for_each(|member| rename_references(member, names));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_later_plan_numbers_on_and_its_references_follow() {
        let steps = |value: Value| -> Vec<StepSpec> { serde_json::from_value(value).unwrap() };
        let earlier = steps(
            json!([{"id": "plan", "kind": "plan"}, {"id": "s2", "kind": "reason"}, {"id": "s4.7", "kind": "reason"}]),
        );
        let mut later = steps(json!([
            {"id": "s1", "kind": "reason"},
            {"id": "s2", "kind": "reason", "depends_on": ["s1"], "inputs": {"a": [{"$from": "s1", "path": ""}]},
             "for_each": {"over": {"$from": "s1"}}, "when": {"value": {"$from": "s1"}, "is": {"exists": true}}}
        ]));
        number_on(&earlier.iter().collect::<Vec<_>>(), &mut later);
        let written = serde_json::to_string(&later).unwrap();
        assert_eq!(later[1].id.as_str(), "s6");
        assert_eq!(written.matches("\"s5\"").count(), 5, "{written}");
        let mut first = steps(json!([{"id": "s1", "kind": "reason"}]));
        number_on(&[&earlier[0]], &mut first);
        assert_eq!(first[0].id.as_str(), "s1");
    }

    #[test]
    fn a_plan_goes_on_if_its_last_line_says_so() {
        assert_eq!(going_on("s1 = a.b()\nplan\n"), ("s1 = a.b()\n", true));
        assert_eq!(going_on("s1 = a.b()\nanswer"), ("s1 = a.b()\nanswer", false));
        assert_eq!(going_on("plan"), ("plan", false));
    }
}
