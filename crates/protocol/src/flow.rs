//! How results steer later steps: references, conditions, and steps that run once for each item of a list.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::StepId;

/// Most items that one step may run over.
pub const MAX_MAP_ITEMS: u32 = 32;
/// Items that a step runs over unless it says how many.
pub const DEFAULT_MAP_ITEMS: u32 = 16;

/// A place in the output of an earlier step, for example `{"$from": "s1", "path": "/files"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputRef {
    /// The step.
    #[serde(rename = "$from")]
    pub from: StepId,
    /// JSON pointer (RFC 6901) into its output; empty or absent: all of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// Runs a step once for each item of a list: `{"over": {"$from": "s1", "path": "/files"}, "limit": 8}`.
///
/// When the list is there, the graph grows by one step for each item, called after the step (`s2.1`, `s2.2`…), and the step's own
/// output is the list of their outputs, in the order of the items. In `inputs`, `{"$item": "/json/pointer"}` is the item, or a
/// part of it; `{"$item": ""}` is all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForEach {
    /// Where the list is.
    pub over: OutputRef,
    /// At most this many items, 1–32, default 16; if the list has more, the task document says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl ForEach {
    /// Most items that it runs over.
    #[must_use]
    pub fn most_items(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_MAP_ITEMS).min(MAX_MAP_ITEMS)
    }
}

/// Runs a step only if an earlier result is as stated: `{"value": {"$from": "s1", "path": "/rows"}, "is": {"greater_than": 0}}`.
///
/// A step whose condition does not hold is `cancelled`, as are those that need its output; the task goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// What is looked at.
    pub value: OutputRef,
    /// What must hold of it.
    pub is: Test,
}

/// What must hold of a value. A value that is not there, or of another type than the test compares, passes only `not_equals` and
/// `exists: false`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// The same JSON value; numbers by their size, so that 1 and 1.0 are equal.
    Equals(Value),
    /// Another JSON value, or nothing.
    NotEquals(Value),
    /// A number above this one.
    GreaterThan(f64),
    /// A number below this one.
    LessThan(f64),
    /// A text with this text in it, or a list with this item.
    Contains(Value),
    /// `true`: something other than null is there; `false`: nothing or null.
    Exists(bool),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_and_lists_are_read_as_they_are_documented() {
        let condition = json!({"value": {"$from": "s1", "path": "/rows"}, "is": {"greater_than": 0}});
        let read: Condition = serde_json::from_value(condition).unwrap();
        assert_eq!(read.is, Test::GreaterThan(0.0));
        let read: Condition =
            serde_json::from_value(json!({"value": {"$from": "s1"}, "is": {"exists": false}})).unwrap();
        assert_eq!((read.value.path.as_str(), read.is), ("", Test::Exists(false)));
        let list: ForEach =
            serde_json::from_value(json!({"over": {"$from": "s1", "path": "/files"}})).unwrap();
        assert_eq!(list.most_items(), DEFAULT_MAP_ITEMS);
        for bad in [
            json!({"value": {"$from": "s1", "pointer": "/x"}, "is": {"exists": true}}),
            json!({"value": {"$from": "s1"}, "is": {"matches": "x"}}),
            json!({"value": {"$from": "s1"}, "is": {"less_than": 1, "exists": true}}),
            json!({"value": {"$from": "s1"}, "is": {"less_than": "1"}}),
        ] {
            assert!(serde_json::from_value::<Condition>(bad.clone()).is_err(), "{bad}");
        }
    }
}
