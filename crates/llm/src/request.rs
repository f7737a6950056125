//! Checks of a request before anything is done for it.

use std::time::Duration;

use kamil_protocol::{
    ErrorCode, Problem,
    reason::{Constraint, ReasonRequest},
};

const MAX_MESSAGES: usize = 256;
const MAX_TOOLS: usize = 128;
const MAX_STOPS: usize = 8;
const MAX_STOP_BYTES: usize = 64;
const MAX_TEMPERATURE: f32 = 2.0;
const MAX_DEADLINE_MS: u64 = 24 * 60 * 60 * 1_000;
const DEFAULT_DEADLINE_MS: u64 = 10 * 60 * 1_000;
/// Tokens written at most, unless the request says otherwise.
pub(crate) use kamil_protocol::reason::DEFAULT_MAX_TOKENS;

/// Refuses what no engine could answer, and says how long the rest may take.
///
/// # Errors
/// `validation_failed`, naming the field, its bounds and what was given.
pub(crate) fn check(request: &ReasonRequest) -> Result<Duration, Problem> {
    let messages = request.messages.len();
    bound((1..=MAX_MESSAGES).contains(&messages), || {
        format!("`messages` holds {messages} turns; 1 to {MAX_MESSAGES} are allowed")
    })?;
    let tools = request.tools.len();
    bound(tools <= MAX_TOOLS, || format!("`tools` holds {tools} tools; at most {MAX_TOOLS} are allowed"))?;
    bound(request.tools.iter().all(serde_json::Value::is_object), || {
        "`tools` must be objects in OpenAI's function form".to_owned()
    })?;

    let sampling = &request.sampling;
    let temperature = sampling.temperature.unwrap_or(0.0);
    bound((0.0..=MAX_TEMPERATURE).contains(&temperature), || {
        format!("`sampling.temperature` is {temperature}; 0 to {MAX_TEMPERATURE} is allowed")
    })?;
    let top_p = sampling.top_p.unwrap_or(1.0);
    bound(top_p > 0.0 && top_p <= 1.0, || {
        format!("`sampling.top_p` is {top_p}; above 0 and up to 1 is allowed")
    })?;
    bound(sampling.max_tokens != Some(0), || "`sampling.max_tokens` is 0; at least 1 is needed".to_owned())?;
    let stops = sampling.stop.len();
    bound(stops <= MAX_STOPS, || {
        format!("`sampling.stop` holds {stops} strings; at most {MAX_STOPS} are allowed")
    })?;
    for stop in &sampling.stop {
        bound(!stop.is_empty() && stop.len() <= MAX_STOP_BYTES, || {
            format!(
                "`sampling.stop` holds a string of {} bytes; 1 to {MAX_STOP_BYTES} are allowed",
                stop.len()
            )
        })?;
    }
    if let Some(Constraint::JsonSchema { schema }) = &request.constraint {
        bound(schema.is_object() || schema.is_boolean(), || {
            "`constraint.schema` is not a JSON Schema: an object is expected".to_owned()
        })?;
    }
    let deadline_ms = request.deadline_ms.unwrap_or(DEFAULT_DEADLINE_MS);
    bound((1..=MAX_DEADLINE_MS).contains(&deadline_ms), || {
        format!("`deadline_ms` is {deadline_ms}; 1 to {MAX_DEADLINE_MS} is allowed")
    })?;
    Ok(Duration::from_millis(deadline_ms))
}

fn bound(holds: bool, broken: impl FnOnce() -> String) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(Problem::new(ErrorCode::ValidationFailed, format!("{}.", broken()))) }
}

#[cfg(test)]
mod tests {
    use kamil_protocol::reason::{ChatMessage, Sampling, Speaker};

    use super::*;

    fn request() -> ReasonRequest {
        ReasonRequest {
            model: None,
            messages: vec![ChatMessage::new(Speaker::User, "hi")],
            tools: Vec::new(),
            constraint: None,
            sampling: Sampling::default(),
            continue_from: None,
            stream: false,
            deadline_ms: None,
        }
    }

    fn with_sampling(change: impl FnOnce(&mut Sampling)) -> ReasonRequest {
        let mut request = request();
        change(&mut request.sampling);
        request
    }

    #[test]
    fn what_is_within_bounds_passes() {
        assert_eq!(check(&request()).unwrap(), Duration::from_secs(600));
        let edge = with_sampling(|sampling| {
            sampling.temperature = Some(2.0);
            sampling.top_p = Some(1.0);
            sampling.stop = vec!["a".repeat(64); 8];
            sampling.max_tokens = Some(1);
        });
        check(&edge).unwrap();
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let many = vec![ChatMessage::new(Speaker::User, "hi"); 257];
        let cases = [
            ("messages", ReasonRequest { messages: Vec::new(), ..request() }),
            ("messages", ReasonRequest { messages: many, ..request() }),
            ("tools", ReasonRequest { tools: vec![serde_json::json!("x")], ..request() }),
            ("deadline_ms", ReasonRequest { deadline_ms: Some(0), ..request() }),
            ("deadline_ms", ReasonRequest { deadline_ms: Some(MAX_DEADLINE_MS + 1), ..request() }),
            (
                "constraint",
                ReasonRequest { constraint: Some(Constraint::JsonSchema { schema: 3.into() }), ..request() },
            ),
            ("temperature", with_sampling(|sampling| sampling.temperature = Some(-0.1))),
            ("temperature", with_sampling(|sampling| sampling.temperature = Some(2.1))),
            ("temperature", with_sampling(|sampling| sampling.temperature = Some(f32::NAN))),
            ("top_p", with_sampling(|sampling| sampling.top_p = Some(0.0))),
            ("top_p", with_sampling(|sampling| sampling.top_p = Some(1.1))),
            ("max_tokens", with_sampling(|sampling| sampling.max_tokens = Some(0))),
            ("stop", with_sampling(|sampling| sampling.stop = vec!["a".to_owned(); 9])),
            ("stop", with_sampling(|sampling| sampling.stop = vec![String::new()])),
            ("stop", with_sampling(|sampling| sampling.stop = vec!["a".repeat(65)])),
        ];
        for (field, request) in cases {
            let problem = check(&request).unwrap_err();
            assert_eq!(problem.code, ErrorCode::ValidationFailed);
            assert!(problem.detail.contains(field), "{}", problem.detail);
        }
    }
}
