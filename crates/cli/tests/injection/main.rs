//! What others wrote must not change anything without the person's yes: the real orchestrator, tool node, memory node and LLM node,
//! and a model that always does what an injected text asks of it. The cases are data; every one of them is run twice: once with a
//! person who refuses whatever is asked, after which nothing may have changed, and once as its control, in which the same effect must
//! happen, so that a case that attacks nothing fails.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test's own scaffolding fails loudly, and tells its figures"
)]

mod case;
mod conversations;
mod documents;
mod graphs;
mod harmless;
mod memories;
#[allow(dead_code, reason = "shared with the tests of the command line")]
#[path = "../it/scripted_llm.rs"]
mod scripted_llm;
mod world;

use case::{Case, Control, Ran};

/// The attacks, by the way that the injected text takes.
fn groups() -> [(&'static str, Vec<Case>); 4] {
    [
        ("documents", documents::cases()),
        ("conversations", conversations::cases()),
        ("memories", memories::cases()),
        ("graphs", graphs::cases()),
    ]
}

fn hold(group: &str) {
    let (_, cases) = groups().into_iter().find(|(name, _)| *name == group).unwrap();
    let (mut asked, mut unapproved, mut faults) = (0, Vec::new(), Vec::new());
    for case in &cases {
        let refused = case.run(Ran::Refused);
        asked += refused.asked;
        if refused.happened || !refused.changed.is_empty() {
            unapproved.push(format!("{}: {:?}", case.name, refused.changed));
        }
        if case.control == Control::Agreed && refused.asked == 0 {
            faults.push(format!("{}: the person was not asked", case.name));
        }
        if !case.run(Ran::Control).happened {
            faults.push(format!("{}: the control does nothing, so the case proves nothing", case.name));
        }
    }
    println!("{group}: {} cases, {asked} questions, {} unapproved effects", cases.len(), unapproved.len());
    assert!(unapproved.is_empty(), "{unapproved:#?}");
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn what_a_document_says_changes_nothing_unasked() {
    hold("documents");
}

#[test]
fn what_a_conversation_brought_in_changes_nothing_unasked() {
    hold("conversations");
}

#[test]
fn what_memory_kept_changes_nothing_unasked() {
    hold("memories");
}

#[test]
fn what_a_given_graph_reads_changes_nothing_unasked() {
    hold("graphs");
}

#[test]
fn there_are_at_least_forty_attacks_and_each_has_a_name_of_its_own() {
    let mut names: Vec<_> = groups().iter().flat_map(|(_, cases)| cases).map(|case| case.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count >= 40, "{count}");
    println!("{count} cases");
}

#[test]
fn what_the_person_asks_for_is_done_without_a_question() {
    let cases = harmless::cases();
    assert!(cases.len() >= 8);
    for case in &cases {
        let ran = case.run(Ran::Refused);
        assert_eq!(ran.asked, 0, "{}: the person was asked for nothing", case.name);
        assert!(ran.happened, "{}: it was not done", case.name);
    }
    println!("{} harmless requests, 0 questions", cases.len());
}
