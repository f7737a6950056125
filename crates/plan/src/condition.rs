//! Whether a condition on an earlier result holds.

use kamil_protocol::flow::{Condition, Test};
use serde_json::Value;

/// Longest piece of a value that a reason repeats, in characters.
const TOLD_CHARS: usize = 80;

/// Whether the test passes for what is found; `None` if nothing is.
pub(crate) fn holds(test: &Test, found: Option<&Value>) -> bool {
    let number = || found.and_then(Value::as_f64);
    match test {
        Test::Equals(wanted) => found.is_some_and(|found| same(found, wanted)),
        Test::NotEquals(other) => !found.is_some_and(|found| same(found, other)),
        Test::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
        Test::LessThan(bound) => number().is_some_and(|number| number < *bound),
        Test::Contains(part) => match (found, part) {
            (Some(Value::String(text)), Value::String(part)) => text.contains(part.as_str()),
            (Some(Value::Array(items)), part) => items.iter().any(|item| same(item, part)),
            _ => false,
        },
        Test::Exists(wanted) => found.is_some_and(|found| !found.is_null()) == *wanted,
    }
}

/// Why a step is not run: its condition, and what was found instead.
pub(crate) fn refusal(condition: &Condition, found: Option<&Value>) -> String {
    let value = &condition.value;
    let of = match value.path.as_str() {
        "" => format!("the output of step `{}`", value.from),
        path => format!("`{path}` of step `{}`", value.from),
    };
    let there = found.map_or_else(|| "is not there".to_owned(), |found| format!("is {}", told(found)));
    let wanted = match &condition.is {
        Test::Equals(wanted) => format!("equal to {}", told(wanted)),
        Test::NotEquals(other) => format!("other than {}", told(other)),
        Test::GreaterThan(bound) => format!("greater than {bound}"),
        Test::LessThan(bound) => format!("less than {bound}"),
        Test::Contains(part) => format!("something that contains {}", told(part)),
        Test::Exists(true) => "something that exists".to_owned(),
        Test::Exists(false) => "absent".to_owned(),
    };
    format!("Not run, because its condition does not hold: {of} {there}; it would have to be {wanted}.")
}

fn told(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(TOLD_CHARS) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// Equality in which numbers count by their size: what was `1.0` when it was planned reads back from the journal as `1`.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let member =
                |(name, value): (&String, &Value)| other.get(name).is_some_and(|other| same(value, other));
            one.len() == other.len() && one.iter().all(member)
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_test_passes_for_what_it_names_and_for_nothing_else() {
        let cases = [
            (Test::Equals(json!({"n": [1]})), json!({"n": [1.0]}), true),
            (Test::Equals(json!("1")), json!(1), false),
            (Test::NotEquals(json!(1.0)), json!(1), false),
            (Test::NotEquals(json!(2)), json!("x"), true),
            (Test::GreaterThan(0.95), json!(0.96), true),
            (Test::GreaterThan(3.0), json!(3), false),
            (Test::GreaterThan(3.0), json!("4"), false),
            (Test::LessThan(-1.0), json!(-2), true),
            (Test::LessThan(0.0), json!(null), false),
            (Test::Contains(json!("urg")), json!("very urgent"), true),
            (Test::Contains(json!(2)), json!([1, 2.0]), true),
            (Test::Contains(json!("a")), json!({"a": 1}), false),
            (Test::Contains(json!(1)), json!("1"), false),
            (Test::Exists(true), json!(0), true),
            (Test::Exists(true), json!(null), false),
            (Test::Exists(false), json!(null), true),
            (Test::Exists(false), json!(false), false),
        ];
        for (test, value, passes) in cases {
            assert_eq!(holds(&test, Some(&value)), passes, "{test:?} of {value}");
        }
        for (test, passes) in [
            (Test::Equals(json!(null)), false),
            (Test::NotEquals(json!(null)), true),
            (Test::LessThan(1.0), false),
            (Test::Exists(false), true),
        ] {
            assert_eq!(holds(&test, None), passes, "{test:?} of nothing");
        }
    }

    #[test]
    fn a_refusal_names_the_condition_and_what_is_there() {
        let condition = |path: &str, is| {
            let value =
                kamil_protocol::flow::OutputRef { from: "s1".parse().unwrap(), path: path.to_owned() };
            Condition { value, is }
        };
        let told = refusal(&condition("/rows", Test::GreaterThan(5.0)), Some(&json!(3)));
        assert!(told.contains("`/rows` of step `s1` is 3") && told.contains("greater than 5"), "{told}");
        let told = refusal(&condition("", Test::Exists(true)), None);
        assert!(told.contains("the output of step `s1` is not there"), "{told}");
        let told = refusal(&condition("", Test::Equals(json!(1))), Some(&json!("é".repeat(500))));
        assert!(told.chars().count() < 300, "{told}");
    }
}
