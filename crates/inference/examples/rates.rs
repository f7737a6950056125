//! How fast a model file runs on this machine.
//!
//! ```text
//! cargo run --release -p kamil-inference --example rates -- FILE.gguf [PROMPT_TOKENS] [OUTPUT_TOKENS]
//! ```
//!
//! Prints one JSON object: seconds to load, tokens per second of prefill and decode for one request, decode for four
//! at once, milliseconds to the first token cold and with the prompt in the cache, milliseconds to compile a schema.

use std::time::Instant;

use kamil_inference::{
    Constraint, EngineOptions, Event, GenerateRequest, Generator, InferenceError, Message,
};
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

#[expect(clippy::print_stdout, reason = "a command-line example")]
fn main() -> Result<(), Failure> {
    kamil_inference::ensure_passive_waiting()?;
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("give the path of a .gguf file")?;
    let prompt_tokens: usize = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let output_tokens: u32 = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let started = Instant::now();
    let generator = Generator::load(EngineOptions::new(path))?;
    let load_s = started.elapsed().as_secs_f64();

    let sentence = "A river carries stones, sand and water from the mountains to the sea. ";
    let count = (prompt_tokens / generator.count_tokens(sentence).max(1)).max(1);
    let long = ask(&sentence.repeat(count), output_tokens);
    let cold_ms = first_token_ms(&generator, &long)?;
    let cold = generator.info();
    let warm_ms = first_token_ms(&generator, &long)?;

    let started = Instant::now();
    let streams = ["tea", "rain", "bread", "wool"]
        .map(|topic| generator.generate(&ask(&format!("Write a long text about {topic}."), output_tokens)));
    let mut tokens = 0;
    for stream in streams {
        tokens += stream?.blocking_collect()?.usage.tokens_out;
    }
    let together = f64::from(tokens) / started.elapsed().as_secs_f64();

    let mut constrained = ask("Name a city.", 1);
    constrained.constraint = Some(Constraint::JsonSchema(json!({
        "type": "object",
        "properties": {"city": {"type": "string"}, "size": {"enum": ["small", "large"]}},
        "required": ["city", "size"], "additionalProperties": false
    })));
    let started = Instant::now();
    let stream = generator.generate(&constrained)?;
    let compile_ms = started.elapsed().as_secs_f64() * 1e3;
    stream.blocking_collect()?;

    let answer = json!({
        "model": cold.name, "load_s": load_s,
        "prefill_tokens_per_s": cold.prefill_tokens_per_s, "decode_tokens_per_s": cold.decode_tokens_per_s,
        "decode_four_at_once_tokens_per_s": together,
        "first_token_cold_ms": cold_ms, "first_token_warm_ms": warm_ms, "schema_compile_ms": compile_ms,
    });
    println!("{answer:#}");
    generator.shutdown();
    Ok(())
}

fn ask(text: &str, max_tokens: u32) -> GenerateRequest {
    GenerateRequest::new(vec![Message::user(text)], max_tokens)
}

fn first_token_ms(generator: &Generator, request: &GenerateRequest) -> Result<f64, InferenceError> {
    let started = Instant::now();
    let mut stream = generator.generate(request)?;
    let mut first = None;
    while let Some(event) = stream.blocking_next() {
        if let Event::Delta(_) = event? {
            first.get_or_insert_with(|| started.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(first.unwrap_or(0.0))
}
