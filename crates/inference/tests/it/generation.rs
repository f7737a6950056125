//! Streaming, determinism, prefix reuse, cancellation, admission.

use std::time::{Duration, Instant};

use kamil_inference::{
    EngineOptions, Event, Finish, GenerateRequest, GenerateStream, Generation, Generator, InferenceError,
    Message,
};

use crate::models::{question, small, small_options};

fn run(generator: &Generator, request: &GenerateRequest) -> Generation {
    generator.generate(request).unwrap().blocking_collect().unwrap()
}

fn first_delta(stream: &mut GenerateStream) -> String {
    match stream.blocking_next() {
        Some(Ok(Event::Delta(text))) => text,
        other => panic!("no text came: {other:?}"),
    }
}

#[test]
fn pieces_put_together_are_the_whole_and_greedy_repeats() {
    let request = question("Name three rivers.", 40);
    let whole = run(&small(), &request);
    let mut pieces = Vec::new();
    let mut stream = small().generate(&request).unwrap();
    let usage = loop {
        match stream.blocking_next().unwrap().unwrap() {
            Event::Delta(piece) => pieces.push(piece),
            Event::Done(usage) => break usage,
        }
    };
    assert!(stream.blocking_next().is_none());
    assert!(pieces.len() > 5 && pieces.iter().all(|piece| !piece.is_empty()));
    assert_eq!(pieces.concat(), whole.text);
    assert_eq!(usage.tokens_out, whole.usage.tokens_out);
    assert_eq!((usage.tokens_cached, usage.tokens_forced), (0, 0));
}

#[test]
fn the_seed_decides_at_a_temperature() {
    let generator = small();
    let mut request = question("Invent a name for a boat.", 16);
    request.temperature = 1.2;
    request.top_p = 0.95;
    request.seed = 1;
    let first = run(&generator, &request).text;
    assert_eq!(run(&generator, &request).text, first);
    let others: Vec<_> = (2..8)
        .map(|seed| {
            request.seed = seed;
            run(&generator, &request).text
        })
        .collect();
    assert!(others.iter().any(|other| *other != first), "{others:?}");
}

#[test]
fn a_conversation_is_prefilled_only_where_it_is_new() {
    let generator = small();
    let mut request = question("What is a hash chain? Answer in one sentence.", 24);
    let first = run(&generator, &request);
    assert_eq!(first.usage.tokens_cached, 0);
    request.messages.push(Message::assistant(first.text));
    request.messages.push(Message::user("And what is it good for?"));
    let warm = run(&generator, &request);
    assert!(warm.usage.tokens_cached >= first.usage.tokens_in, "{:?}", warm.usage);
    let cold = run(&small(), &request);
    assert_eq!(cold.usage.tokens_cached, 0);
    // Tokens decoded one by one and tokens decoded in a batch round differently in the cache, which may tip a late token.
    let begins = |text: &str| text.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
    assert_eq!(begins(&warm.text), begins(&cold.text));
}

#[test]
fn a_shared_system_prompt_is_shared_and_the_other_conversation_stays_warm() {
    let generator = small();
    let system = Message::system("You are a patient teacher of geography. ".repeat(20));
    let ask = |text: &str| GenerateRequest::new(vec![system.clone(), Message::user(text)], 4);
    let ghana = format!("Where is Ghana? {}", "Think of the Gulf of Guinea. ".repeat(5));
    let first = run(&generator, &ask(&ghana));
    let second = run(&generator, &ask("Is the Nile longer than the Amazon?"));
    assert!(second.usage.tokens_cached > 100, "{:?}", second.usage);
    let again = run(&generator, &ask(&ghana));
    assert_eq!(again.usage.tokens_cached, again.usage.tokens_in - 1);
    assert_eq!(again.text, first.text);
}

#[test]
fn together_is_as_alone() {
    let questions =
        ["Name a colour.", "Count to five.", "Say hello.", "What is rain?", "Name a planet.", "Why?"];
    let alone: Vec<_> = questions.iter().map(|text| run(&small(), &question(text, 12)).text).collect();
    let generator = small();
    let streams: Vec<_> =
        questions.iter().map(|text| generator.generate(&question(text, 12)).unwrap()).collect();
    let together: Vec<_> =
        streams.into_iter().map(|stream| stream.blocking_collect().unwrap().text).collect();
    // Sums over a larger batch round differently, which tips a token where two are all but equally likely. Sequences
    // that saw each other's tokens would differ everywhere.
    let begins = |text: &String| text.chars().take(8).collect::<String>();
    let same = alone.iter().zip(&together).filter(|(a, b)| begins(a) == begins(b)).count();
    assert!(same + 1 >= questions.len(), "{alone:#?} {together:#?}");
}

#[test]
fn a_dropped_stream_frees_its_place() {
    let mut options = small_options();
    options.parallel_sequences = 1;
    let generator = Generator::load(options).unwrap();
    let mut endless = question("Write a very long story about the sea.", 800);
    endless.temperature = 1.0;
    let mut stream = generator.generate(&endless).unwrap();
    first_delta(&mut stream);
    assert_eq!(generator.info().active, 1);
    drop(stream);
    let started = Instant::now();
    let next = run(&generator, &question("Say hello.", 2));
    assert!(next.usage.tokens_out > 0);
    assert!(started.elapsed() < Duration::from_secs(20), "the dropped request went on");
}

#[test]
fn a_full_queue_refuses() {
    let mut options = small_options();
    (options.parallel_sequences, options.queue_limit) = (1, 1);
    let generator = Generator::load(options).unwrap();
    let mut long = question("Write a very long story about the sea.", 800);
    long.temperature = 1.0;
    let mut running = generator.generate(&long).unwrap();
    first_delta(&mut running);
    let waiting = generator.generate(&question("Say hello.", 2)).unwrap();
    assert!(matches!(generator.generate(&question("Say no.", 2)), Err(InferenceError::Busy { queued: 1 })));
    drop(running);
    assert!(waiting.blocking_collect().is_ok());
}

#[test]
fn what_does_not_fit_is_refused_beforehand() {
    let generator = small();
    let long = question(&"word ".repeat(2000), 10);
    let Err(InferenceError::ContextExceeded { needed, available }) = generator.generate(&long) else {
        panic!("it was accepted")
    };
    assert!(needed > 2000 && available == 1024);
    assert!(matches!(generator.generate(&question("x", 1024)), Err(InferenceError::ContextExceeded { .. })));
    assert!(matches!(generator.generate(&question("x", 0)), Err(InferenceError::ContextExceeded { .. })));
}

#[test]
fn jobs_that_fill_the_cache_wait_for_each_other() {
    let mut options = small_options();
    options.cache_tokens = Some(1024);
    let generator = Generator::load(options).unwrap();
    let streams: Vec<_> =
        (0..4).map(|n| generator.generate(&question(&format!("Count from {n}."), 600)).unwrap()).collect();
    for stream in streams {
        let done = stream.blocking_collect().unwrap();
        assert!(done.usage.tokens_out > 0);
    }
}

#[test]
fn stop_strings_and_lengths_end_the_output() {
    let generator = small();
    let mut request = question("Count from one to ten in words.", 30);
    let free = run(&generator, &request);
    let stop: String = free.text.chars().skip(8).take(3).collect();
    request.stop = vec![stop.clone()];
    let stopped = run(&generator, &request);
    assert_eq!(stopped.usage.finish, Finish::Stop);
    assert_eq!(Some(stopped.text.as_str()), free.text.split(&stop).next());
    request.stop.clear();
    request.max_tokens = 3;
    let short = run(&generator, &request);
    assert_eq!((short.usage.finish, short.usage.tokens_out), (Finish::Length, 3));
    assert!(free.text.starts_with(&short.text));
}

#[test]
fn an_answer_goes_on_where_it_broke_off() {
    let request = question("Name three rivers.", 40);
    let whole = run(&small(), &request).text;
    let cut = whole.char_indices().nth(20).map_or(whole.len(), |(at, _)| at);
    let at_word = whole[..cut].rfind(' ').unwrap();
    let mut rest = request;
    rest.continue_from = Some(whole[..at_word].to_owned());
    rest.max_tokens = 8;
    let continued = run(&small(), &rest).text;
    assert!(whole[at_word..].starts_with(&continued), "{continued:?} in {whole:?}");
}

#[test]
fn a_shutdown_cancels_what_runs_and_refuses_what_comes() {
    let generator = small();
    let mut request = question("Write a very long story about the sea.", 800);
    request.temperature = 1.0;
    let mut stream = generator.generate(&request).unwrap();
    first_delta(&mut stream);
    generator.shutdown();
    assert_eq!(stream.blocking_collect().unwrap().usage.finish, Finish::Cancelled);
    assert!(matches!(generator.generate(&request), Err(InferenceError::Stopped)));
}

#[test]
fn broken_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(small_options().model_path).unwrap();
    let cases: [(&str, &[u8]); 4] = [
        ("empty.gguf", b""),
        ("text.gguf", b"this is not a model"),
        ("short.gguf", &good[..good.len() / 2]),
        ("header.gguf", &good[..1000]),
    ];
    for (name, bytes) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = Generator::load(EngineOptions::new(&path)).unwrap_err();
        assert!(matches!(error, InferenceError::Model(_)), "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let missing = Generator::load(EngineOptions::new(folder.path().join("none.gguf")));
    assert!(matches!(missing, Err(InferenceError::Model(_))));
}

#[tokio::test]
async fn events_come_to_async_readers() {
    let generator = tokio::task::spawn_blocking(small).await.unwrap();
    let answer = generator.generate(&question("Say hello.", 5)).unwrap().collect().await.unwrap();
    assert!(!answer.text.is_empty());
    let info = generator.info();
    assert!(info.decode_tokens_per_s.is_some_and(|rate| rate > 0.0));
    assert!(info.name.contains("Smol") && info.context_tokens == 1024);
}
