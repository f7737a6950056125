//! One request to a model file, printed as it comes, with what it took.
//!
//! ```text
//! cargo run --release -p kamil-inference --example chat -- \
//!     --model FILE.gguf [--system TEXT] [--user TEXT]... [--schema FILE.json] [--tools FILE.json] \
//!     [--max N] [--temperature T] [--repeat N] [--threads N] [--batch N]
//! ```
//!
//! `--user` given several times asks the questions one after another in one conversation. `--repeat` sends the last
//! request again, which shows the prefix reuse. `@FILE` as a text reads it from a file.

use std::io::Write;
use std::time::Instant;

use kamil_inference::{Constraint, EngineOptions, Event, GenerateRequest, Generator, Message};

type Failure = Box<dyn std::error::Error>;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line example")]
fn main() -> Result<(), Failure> {
    kamil_inference::ensure_passive_waiting()?;
    let mut options = EngineOptions::new("");
    let mut messages = Vec::new();
    let mut questions = Vec::new();
    let mut request = GenerateRequest::new(Vec::new(), 256);
    let mut repeat = 1;
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--model" => options.model_path = value.into(),
            "--system" => messages.push(Message::system(text(value)?)),
            "--user" => questions.push(Message::user(text(value)?)),
            "--schema" => request.constraint = Some(Constraint::JsonSchema(json(&value)?)),
            "--lark" => request.constraint = Some(Constraint::Grammar(std::fs::read_to_string(value)?)),
            "--tools" => request.tools = Some(serde_json::from_value(json(&value)?)?),
            "--max" => request.max_tokens = value.parse()?,
            "--temperature" => request.temperature = value.parse()?,
            "--repeat" => repeat = value.parse()?,
            "--threads" => options.threads = value.parse()?,
            "--batch" => options.batch_tokens = value.parse()?,
            other => return Err(format!("unknown flag {other}").into()),
        }
    }
    let started = Instant::now();
    let generator = Generator::load(options)?;
    eprintln!("[loaded in {} ms]", started.elapsed().as_millis());
    let last = questions.len().saturating_sub(1);
    for (index, question) in questions.into_iter().enumerate() {
        messages.push(question);
        request.messages.clone_from(&messages);
        let mut answer = String::new();
        for _ in 0..if index == last { repeat } else { 1 } {
            answer.clear();
            let mut stream = generator.generate(&request)?;
            while let Some(event) = stream.blocking_next() {
                match event? {
                    Event::Delta(piece) => {
                        answer.push_str(&piece);
                        print!("{piece}");
                        std::io::stdout().flush()?;
                    }
                    Event::Done(usage) => eprintln!("\n[{}]", serde_json::to_string(&usage)?),
                }
            }
        }
        messages.push(Message::assistant(answer));
    }
    eprintln!("[{}]", serde_json::to_string(&generator.info())?);
    generator.shutdown();
    Ok(())
}

fn text(value: String) -> Result<String, Failure> {
    match value.strip_prefix('@') {
        Some(path) => Ok(std::fs::read_to_string(path)?),
        None => Ok(value),
    }
}

fn json(path: &str) -> Result<serde_json::Value, Failure> {
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}
