//! Canonical JSON: the JSON Canonicalization Scheme of RFC 8785.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// Encodes a value in its one canonical form.
///
/// Within I-JSON (RFC 7493) the result is exactly that of RFC 8785: members sorted by the UTF-16 code units of their
/// names, numbers as ECMAScript prints them, no white space. RFC 8785 has no form for integers that a double cannot
/// hold; those are written with all their digits, so that no integer is ever changed by being recorded. A whole
/// float (`1.0`) is written, and so read back, as an integer (`1`).
#[must_use]
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

pub(crate) fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
            out.push('{');
            for (position, (name, member)) in sorted.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_string(out, name);
                out.push(':');
                write_value(out, member);
            }
            out.push('}');
        }
    }
}

pub(crate) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if control < ' ' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

fn write_number(out: &mut String, number: &Number) {
    match (number.is_f64(), number.as_f64()) {
        (true, Some(float)) => write_float(out, float),
        _ => {
            let _ = write!(out, "{number}");
        }
    }
}

/// `Number::toString` of ECMAScript (ECMA-262, 6.1.6.1.20), which RFC 8785 section 3.2.2.3 prescribes.
fn write_float(out: &mut String, float: f64) {
    if float == 0.0 {
        out.push('0');
        return;
    }
    // Rust's `{:e}` gives the shortest digits that read back as the same double, nearest first, as ECMAScript wants.
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific.as_str(), "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let magnitude = match mantissa.strip_prefix('-') {
        Some(rest) => {
            out.push('-');
            rest
        }
        None => mantissa,
    };
    let digits: String = magnitude.chars().filter(|character| *character != '.').collect();
    let count = digits.len() as i32;
    let point = exponent + 1;
    if (count..=21).contains(&point) {
        out.push_str(&digits);
        (count..point).for_each(|_| out.push('0'));
    } else if (1..=21).contains(&point) {
        let (whole, fraction) = digits.split_at(point as usize);
        let _ = write!(out, "{whole}.{fraction}");
    } else if (-5..=0).contains(&point) {
        out.push_str("0.");
        (point..0).for_each(|_| out.push('0'));
        out.push_str(&digits);
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let _ = write!(out, "{first}{dot}{rest}e{exponent:+}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn floats_are_printed_as_ecmascript_prints_them() {
        for (float, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (123_456_789_012.5, "123456789012.5"),
            (1e-6, "0.000001"),
            (1.25e-7, "1.25e-7"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (9_223_372_036_854_775_808.0, "9223372036854776000"),
            (0.1 + 0.2, "0.30000000000000004"),
        ] {
            assert_eq!(canonical_json(&json!(float)), text);
        }
    }

    #[test]
    fn large_integers_keep_every_digit() {
        assert_eq!(canonical_json(&json!(u64::MAX)), "18446744073709551615");
        assert_eq!(canonical_json(&json!(i64::MIN)), "-9223372036854775808");
    }

    #[test]
    fn members_are_sorted_by_utf16_and_controls_escaped() {
        let value = json!({"\u{fb33}": 1, "\u{1f602}": 2, "a": "\u{1}\u{7f}\"\\\n</script>"});
        assert_eq!(
            canonical_json(&value),
            "{\"a\":\"\\u0001\u{7f}\\\"\\\\\\n</script>\",\"\u{1f602}\":2,\"\u{fb33}\":1}"
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn encoding_what_was_decoded_changes_nothing(value in any_json()) {
            let text = canonical_json(&value);
            let again: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(canonical_json(&again), text);
        }

        #[test]
        fn every_finite_float_reads_back_as_itself(float in any::<f64>().prop_filter("finite", |f| f.is_finite())) {
            let text = canonical_json(&json!(float));
            let again: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(again.as_f64().unwrap(), float);
        }
    }
}
