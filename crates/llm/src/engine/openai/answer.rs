//! Reading the chunks of a chat completion.

use std::time::Instant;

use kamil_protocol::reason::{Finish, ReasonRequest, Usage};
use serde_json::Value;

use crate::engine::Piece;

/// A beginning that is shorter than this may well come again by chance.
const LEAST_ECHO_BYTES: usize = 16;
/// A token of English has about so many bytes; used where a server does not count.
const BYTES_PER_TOKEN: usize = 4;

/// An answer as far as it has come.
#[derive(Debug)]
pub(super) struct Answer {
    begun: Instant,
    first: Option<Instant>,
    finish: Option<Finish>,
    usage: Option<Usage>,
    /// Some servers repeat the beginning that they were to go on from: it is held back until that is clear.
    echo: Option<String>,
    held: String,
    /// Parts of calls of tools: name and arguments.
    calls: Vec<(String, String)>,
    prompt_bytes: usize,
    chunks: u32,
    done: bool,
}

impl Answer {
    pub(super) fn new(begun: Instant, request: &ReasonRequest) -> Self {
        let echo = request.continue_from.clone().filter(|begun| begun.len() >= LEAST_ECHO_BYTES);
        Self {
            begun,
            first: None,
            finish: None,
            usage: None,
            echo,
            held: String::new(),
            calls: Vec::new(),
            prompt_bytes: request.messages.iter().map(|message| message.content.len()).sum(),
            chunks: 0,
            done: false,
        }
    }

    /// Takes the data of one event.
    ///
    /// # Errors
    /// What is wrong with it, completing "The server …".
    pub(super) fn take(&mut self, data: &str) -> Result<Vec<Piece>, String> {
        if self.done {
            return Ok(Vec::new());
        }
        if data.trim() == "[DONE]" {
            return self.end();
        }
        let chunk: Value = serde_json::from_str(data).map_err(|error| {
            format!(
                "sent a chunk that is not JSON ({error}): {:?}",
                data.chars().take(80).collect::<String>()
            )
        })?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            let message = error.get("message").unwrap_or(error);
            return Err(format!(
                "broke off with an error: {}",
                message.as_str().map_or_else(|| message.to_string(), str::to_owned)
            ));
        }
        let choices = chunk.get("choices").and_then(Value::as_array);
        let usage = chunk.get("usage").filter(|usage| usage.is_object());
        if choices.is_none() && usage.is_none() {
            return Err(format!(
                "sent a chunk that is not a chat completion: {:?}",
                data.chars().take(80).collect::<String>()
            ));
        }
        if let Some(usage) = usage {
            self.usage = Some(counted(usage));
        }
        let Some(choice) = choices.and_then(|choices| choices.first()) else { return Ok(Vec::new()) };
        self.take_calls(&choice["delta"]["tool_calls"]);
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish = Some(if reason == "length" { Finish::Length } else { Finish::Stop });
        }
        let text = choice["delta"]["content"].as_str().unwrap_or_default();
        Ok(self.text(text).into_iter().map(Piece::Text).collect())
    }

    fn text(&mut self, text: &str) -> Option<String> {
        if text.is_empty() {
            return None;
        }
        self.first.get_or_insert_with(Instant::now);
        self.chunks = self.chunks.saturating_add(1);
        let Some(echo) = &self.echo else { return Some(text.to_owned()) };
        self.held.push_str(text);
        if let Some(new) = self.held.strip_prefix(echo.as_str()) {
            let new = new.to_owned();
            self.held.clear();
            self.echo = None;
            return Some(new).filter(|new| !new.is_empty());
        }
        if echo.starts_with(&self.held) {
            return None;
        }
        self.echo = None;
        Some(std::mem::take(&mut self.held))
    }

    fn take_calls(&mut self, calls: &Value) {
        for call in calls.as_array().into_iter().flatten() {
            let place = call["index"]
                .as_u64()
                .and_then(|place| usize::try_from(place).ok())
                .unwrap_or(self.calls.len());
            if place > self.calls.len() || place >= 64 {
                continue;
            }
            if place == self.calls.len() {
                self.calls.push(Default::default());
            }
            if let Some((name, arguments)) = self.calls.get_mut(place) {
                name.push_str(call["function"]["name"].as_str().unwrap_or_default());
                arguments.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
            }
        }
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// If it ended before the answer did; completing "The server …".
    pub(super) fn end(&mut self) -> Result<Vec<Piece>, String> {
        if self.done {
            return Ok(Vec::new());
        }
        let Some(finish) = self.finish else {
            return Err("ended its stream in the middle of the answer".to_owned());
        };
        self.done = true;
        let mut pieces = Vec::new();
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            pieces.push(Piece::Text(held));
        }
        // The form in which models of llama.cpp's engine write their calls.
        for (name, arguments) in std::mem::take(&mut self.calls) {
            let arguments: Value = serde_json::from_str(&arguments).unwrap_or(Value::String(arguments));
            let call = serde_json::json!({ "name": name, "arguments": arguments });
            pieces.push(Piece::Text(format!("<tool_call>\n{call}\n</tool_call>\n")));
        }
        pieces.push(Piece::Done(finish, self.cost()));
        Ok(pieces)
    }

    fn cost(&self) -> Usage {
        let estimated = Usage {
            tokens_in: u32::try_from(self.prompt_bytes / BYTES_PER_TOKEN).unwrap_or(u32::MAX),
            tokens_out: self.chunks,
            ..Usage::default()
        };
        let first = self.first.unwrap_or_else(Instant::now);
        let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Usage {
            prefill_ms: ms(first.saturating_duration_since(self.begun)),
            decode_ms: ms(first.elapsed()),
            ..self.usage.clone().unwrap_or(estimated)
        }
    }
}

fn counted(usage: &Value) -> Usage {
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    Usage {
        tokens_in: number(&usage["prompt_tokens"]),
        tokens_cached: number(&usage["prompt_tokens_details"]["cached_tokens"]),
        tokens_out: number(&usage["completion_tokens"]),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use kamil_protocol::reason::Sampling;
    use serde_json::json;

    use super::*;

    fn answer(continue_from: Option<&str>) -> Answer {
        let request = ReasonRequest {
            model: None,
            messages: Vec::new(),
            tools: Vec::new(),
            constraint: None,
            sampling: Sampling::default(),
            continue_from: continue_from.map(str::to_owned),
            stream: true,
            deadline_ms: None,
        };
        Answer::new(Instant::now(), &request)
    }

    fn delta(text: &str) -> String {
        json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] })
            .to_string()
    }

    fn written(answer: &mut Answer, deltas: &[&str]) -> String {
        let mut text = String::new();
        let mut take = |pieces: Vec<Piece>| {
            for piece in pieces {
                if let Piece::Text(new) = piece {
                    text.push_str(&new);
                }
            }
        };
        for piece in deltas {
            take(answer.take(&delta(piece)).unwrap());
        }
        answer.take(&json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }).to_string()).unwrap();
        take(answer.take("[DONE]").unwrap());
        text
    }

    #[test]
    fn a_repeated_beginning_is_left_out_and_nothing_else() {
        let begun = "The quick brown fox";
        assert_eq!(
            written(&mut answer(Some(begun)), &["The quick", " brown", " fox jumps", " over"]),
            " jumps over"
        );
        assert_eq!(written(&mut answer(Some(begun)), &["The quick", " brown bear"]), "The quick brown bear");
        assert_eq!(written(&mut answer(Some(begun)), &[" jumps"]), " jumps");
        assert_eq!(written(&mut answer(Some(begun)), &["The quick"]), "The quick");
        assert_eq!(written(&mut answer(Some("The")), &["The", "re"]), "There");
    }

    #[test]
    fn counts_come_from_the_server_or_are_estimated() {
        let mut told = answer(None);
        told.take(&delta("hi")).unwrap();
        told.take(r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#).unwrap();
        told.take(r#"{"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":5}}}"#).unwrap();
        let Some(Piece::Done(finish, usage)) = told.take("[DONE]").unwrap().pop() else { panic!("an end") };
        assert_eq!(
            (finish, usage.tokens_in, usage.tokens_cached, usage.tokens_out),
            (Finish::Length, 11, 5, 3)
        );
        assert_eq!(told.end().unwrap(), []);

        let mut untold = answer(None);
        untold.take(&delta("a")).unwrap();
        untold.take(r#"{"choices":[{"delta":{"content":"b"},"finish_reason":"stop"}]}"#).unwrap();
        let Some(Piece::Done(_, usage)) = untold.end().unwrap().pop() else { panic!("an end") };
        assert_eq!(usage.tokens_out, 2);
    }

    #[test]
    fn calls_of_tools_are_written_as_text() {
        let mut calling = answer(None);
        for part in [
            json!([{ "index": 0, "function": { "name": "calc", "arguments": "{\"x\"" } }]),
            json!([{ "index": 0, "function": { "arguments": ":1}" } }]),
        ] {
            let chunk =
                json!({ "choices": [{ "delta": { "tool_calls": part }, "finish_reason": "tool_calls" }] });
            calling.take(&chunk.to_string()).unwrap();
        }
        let pieces = calling.end().unwrap();
        assert_eq!(
            pieces[0],
            Piece::Text(
                "<tool_call>\n{\"name\":\"calc\",\"arguments\":{\"x\":1}}\n</tool_call>\n".to_owned()
            )
        );
    }

    #[test]
    fn garbage_is_named() {
        for (data, why) in [
            ("{", "not JSON"),
            ("[1]", "not a chat completion"),
            ("{}", "not a chat completion"),
            (r#"{"error":{"message":"out of memory"}}"#, "out of memory"),
            (r#"{"error":"boom"}"#, "boom"),
            ("[DONE]", "in the middle"),
        ] {
            let error = answer(None).take(data).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
