//! Where a record and what is decided now part, in words.

use kamil_protocol::{
    event::{EventRecord, TaskEvent},
    replay::ReplayDifference,
};
use serde_json::Value;

/// Longest piece of a value that the words repeat, in characters.
const MAX_SHOWN: usize = 160;

#[derive(Debug)]
pub(super) struct Difference {
    /// Index among the task's records.
    position: usize,
    field: Option<String>,
    recorded: Option<Value>,
    decided: Option<Value>,
    why: String,
}

impl Difference {
    /// The records do not tell enough to decide again.
    pub(super) fn unreadable(position: usize, why: &str) -> Self {
        let why = format!("it cannot be decided again: {why}");
        Self { position, field: None, recorded: None, decided: None, why }
    }

    /// Nothing follows now from what came in.
    pub(super) fn nothing(position: usize) -> Self {
        let why = "nothing would be decided here now".to_owned();
        Self { position, field: None, recorded: None, decided: None, why }
    }

    /// What was recorded cannot happen now.
    pub(super) fn refused(position: usize, why: &str) -> Self {
        let why = format!("this would not be decided now: {why}");
        Self { position, field: None, recorded: None, decided: None, why }
    }

    /// Something follows that was not recorded.
    pub(super) fn missing(position: usize, decided: &TaskEvent) -> Self {
        let why = format!("the records end here, but {} would follow now", named(decided));
        Self { position, field: None, recorded: None, decided: value(decided), why }
    }

    pub(super) fn between(position: usize, recorded: &TaskEvent, decided: &TaskEvent) -> Self {
        let (was, now) = (value(recorded), value(decided));
        if named(recorded) != named(decided) {
            let why = format!("{} would be decided now", named(decided));
            return Self { position, field: None, recorded: was, decided: now, why };
        }
        let mut field = String::new();
        let (was, now) = part(was.as_ref(), now.as_ref(), &mut field);
        let why = format!("`{field}` was {} and would now be {}", shown(was.as_ref()), shown(now.as_ref()));
        Self { position, field: Some(field), recorded: was, decided: now, why }
    }

    pub(super) fn told(self, records: &[EventRecord]) -> ReplayDifference {
        let Self { position, field, recorded, decided, why } = self;
        let record = records.get(position);
        let what = record.map_or_else(
            || format!("After record {position}"),
            |record| {
                format!(
                    "Record {} (number {} in the journal), {}",
                    position + 1,
                    record.seq,
                    named(&record.event)
                )
            },
        );
        let event = record.map(|record| &record.event).and_then(value);
        let step =
            event.as_ref().or(decided.as_ref()).and_then(|event| event.get("step")?.as_str()?.parse().ok());
        ReplayDifference {
            position: u64::try_from(position + 1).unwrap_or(u64::MAX),
            seq: record.map(|record| record.seq),
            step,
            recorded: recorded.or(if field.is_none() { event } else { None }),
            field,
            decided,
            detail: format!("{what}: {why}."),
        }
    }
}

fn value(event: &TaskEvent) -> Option<Value> {
    serde_json::to_value(event).ok()
}

/// Kind and step of an event.
fn named(event: &TaskEvent) -> String {
    let value = value(event).unwrap_or_default();
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let kind = text("type").unwrap_or_default();
    match text("step") {
        Some(step) => format!("`{kind}` of step `{step}`"),
        None => format!("`{kind}`"),
    }
}

/// The first part that differs, and the JSON Pointer to it.
fn part(was: Option<&Value>, now: Option<&Value>, at: &mut String) -> (Option<Value>, Option<Value>) {
    let differing = match (was, now) {
        (Some(Value::Object(was)), Some(Value::Object(now))) => {
            let names = was.keys().chain(now.keys().filter(|name| !was.contains_key(*name)));
            names
                .map(|name| (name.replace('~', "~0").replace('/', "~1"), was.get(name), now.get(name)))
                .find(|(_, was, now)| was != now)
        }
        (Some(Value::Array(was)), Some(Value::Array(now))) => (0..was.len().max(now.len()))
            .map(|index| (index.to_string(), was.get(index), now.get(index)))
            .find(|(_, was, now)| was != now),
        _ => None,
    };
    match differing {
        Some((name, was, now)) => {
            at.push('/');
            at.push_str(&name);
            part(was, now, at)
        }
        None => (was.cloned(), now.cloned()),
    }
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "absent".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
