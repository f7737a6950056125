//! `kamil up` as a person meets it: the real binary with its real tools and memory, in a real Chromium. Only the words of
//! the model are scripted.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own scaffolding fails loudly"
)]

#[allow(dead_code, reason = "shared with the tests of the command line")]
#[path = "it/binary.rs"]
mod binary;
#[allow(dead_code, reason = "shared with the tests of the page")]
#[path = "../../web/tests/it/browser.rs"]
mod browser;
#[allow(dead_code, reason = "shared with the tests of the command line")]
#[path = "it/scripted_llm.rs"]
mod scripted_llm;

use binary::{Kamil, Running};
use browser::{Page, in_browser};
use scripted_llm::{Prompt, ScriptedLlm};
use serde_json::json;

const IRIS: &str = "Train a small ML model on the iris data and summarize the results";
const ANSWER: &str = "li.kamil:last-child .text";

/// Plans by what is asked for; an answer tells the accuracy that it was shown, as a table.
fn script(prompt: &Prompt) -> String {
    let text = prompt.text();
    match (prompt.is_plan(), prompt.question().contains("note.txt"), text.split_once("\"accuracy\":")) {
        (true, false, _) => "s1 = ml_tools.train(dataset=\"iris\")\nanswer".to_owned(),
        (true, true, _) => {
            "s1 = file_ops.write(path=\"note.txt\", text=\"hello from the page\")\nanswer".to_owned()
        }
        (false, _, Some((_, rest))) => {
            let accuracy = rest.split([',', '}']).next().unwrap().trim();
            format!("The accuracy is **{accuracy}** [s1].\n\n- trained\n- tested")
        }
        (false, ..) => "The note is **written**.".to_owned(),
    }
}

fn kamil(llm: &ScriptedLlm, settings: &str) -> Kamil {
    Kamil::new().with_environment("KAMIL_ENGINE_URL", llm.url()).with_settings(settings)
}

/// Runs a test with a page on which `kamil up` answers.
fn on_the_page<Run: Future<Output = ()>>(test: impl FnOnce(Page) -> Run) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(in_browser(test));
}

async fn ends(page: &Page, status: &str) {
    let look = async || page.attribute("li.kamil:last-child", "data-status").await;
    page.until("the task ends", look, |seen| seen.as_deref() == Some(status)).await;
}

/// The statuses of the cards of one kind.
async fn cards(page: &Page, kind: &str) -> Vec<String> {
    let script = "return [...document.querySelectorAll('g.card')].filter((card) => card.textContent.includes(arguments[0])).map((card) => card.dataset.status)";
    serde_json::from_value(page.run(script, vec![json!(kind)]).await).unwrap()
}

async fn card_is(page: &Page, kind: &str, status: &str) {
    let what = format!("the step {kind} is {status}");
    page.until(&what, async || cards(page, kind).await, |seen| seen.iter().any(|one| one == status)).await;
}

#[test]
fn a_request_grows_into_steps_that_can_be_looked_into() {
    let llm = ScriptedLlm::start(script);
    let kamil = kamil(&llm, "");
    let up = kamil.start(&["up", "--port", "0"]);
    llm.hold_answers();
    on_the_page(async |page| {
        page.open(&up.url).await;
        page.ask(IRIS).await;
        // The plan of the model has become a step of its own, while the answer still waits for words.
        card_is(&page, "plan", "succeeded").await;
        card_is(&page, "ml_tools.train", "succeeded").await;
        card_is(&page, "answer", "running").await;
        llm.release_answers();
        page.shows(ANSWER, "The accuracy is 0.").await;
        ends(&page, "succeeded").await;
        for kind in ["recall", "plan", "ml_tools.train", "answer", "remember"] {
            card_is(&page, kind, "succeeded").await;
        }
        assert_eq!(page.texts(&format!("{ANSWER} li")).await, ["trained", "tested"]);
        let accuracy = page.text(&format!("{ANSWER} strong")).await;

        let order = page.run("return ['plan', 's1', 'answer'].map((id) => document.querySelector(`[data-step=${id}]`).getBoundingClientRect().top)", vec![]).await;
        let order: Vec<f64> = serde_json::from_value(order).unwrap();
        assert!(order.is_sorted(), "what the plan called for stands below it: {order:?}");
        page.click("[data-step=s1]").await;
        let step = page.shows("#step", "Why this node").await;
        for part in
            [format!("\"accuracy\": {accuracy}"), "\"dataset\": \"iris\"".to_owned(), "landlock".to_owned()]
        {
            assert!(step.contains(&part), "{part} is missing in {step}");
        }
        assert!(page.text("[data-step=plan]").await.contains("scripted"), "the model of the plan is shown");
        page.picture("kamil-up").await;
        look_around(&page).await;

        page.client.refresh().await.unwrap();
        page.shows(ANSWER, &accuracy).await;
        card_is(&page, "ml_tools.train", "succeeded").await;
        assert_eq!(page.console().await, Vec::<String>::new());
        let foreign: Vec<_> =
            page.requests().await.into_iter().filter(|url| !url.starts_with(&up.url)).collect();
        assert_eq!(foreign, Vec::<String>::new());
    });
}

/// The other panels after the task.
async fn look_around(page: &Page) {
    page.click("#tab-fleet").await;
    for role in ["llm", "tool", "memory"] {
        let node = format!("[data-role={role}].alive");
        page.until(role, async || page.count(&node).await, |count| *count == 1).await;
        page.shows(&node, "cores").await;
        // A machine that runs a test has used some of its memory.
        page.until(
            "live load",
            async || page.attribute(&format!("{node} label:nth-of-type(2) meter"), "value").await,
            |share| share.as_deref().is_some_and(|share| share.parse::<f64>().unwrap() > 0.0),
        )
        .await;
    }
    page.shows("[data-role=llm]", "scripted").await;
    page.shows("[data-role=tool]", "ml_tools.train").await;

    page.click("#tab-memory").await;
    page.type_into("#query", "iris accuracy\u{e007}").await;
    page.shows("#hits", "lexical").await;
    let hits = page.count(".hit").await;
    assert!(hits > 0);
    page.click(".hit button").await;
    page.client.accept_alert().await.unwrap();
    page.until("one is forgotten", async || page.count(".hit").await, |count| *count == hits - 1).await;

    page.click("#tab-tasks").await;
    page.shows(".task", IRIS).await;
    page.click(".task").await;
    page.shows("li.person .text", IRIS).await;
}

#[test]
fn what_needs_a_yes_waits_for_it_and_a_no_holds() {
    let llm = ScriptedLlm::start(script);
    let kamil = kamil(&llm, "[tools.permissions]\n\"file_ops.write\" = \"ask\"\n");
    let up = kamil.start(&["up", "--port", "0"]);
    let note = kamil.path("workspace").join("note.txt");
    on_the_page(async |page| {
        page.open(&up.url).await;
        page.ask("Write hello from the page into the file note.txt").await;
        page.shows("#approvals h2", "May file_ops.write run?").await;
        let exact = page.texts("#approvals dd").await.join("\n");
        assert!(exact.contains("note.txt") && exact.contains("hello from the page"), "{exact}");
        assert!(!note.exists());
        page.click("#approvals .deny").await;
        page.until("the question goes", async || page.count(".approval").await, |count| *count == 0).await;
        let look = async || page.attribute("li.kamil:last-child", "aria-busy").await;
        page.until("the task ends", look, Option::is_none).await;
        assert!(!note.exists());

        page.click("#new-conversation").await;
        page.ask("Please write hello from the page into the file note.txt").await;
        page.click("#approvals .allow").await;
        page.shows(ANSWER, "The note is written.").await;
        ends(&page, "succeeded").await;
        assert_eq!(std::fs::read_to_string(&note).unwrap(), "hello from the page");
        assert_eq!(page.count(".approval").await, 0);
    });
}

#[test]
fn a_page_outlives_the_death_of_kamil() {
    let llm = ScriptedLlm::start(script);
    let kamil = kamil(&llm, "");
    let mut up = kamil.start(&["up", "--port", "0"]);
    llm.hold_answers();
    on_the_page(async |page| {
        page.open(&up.url).await;
        page.ask(IRIS).await;
        card_is(&page, "answer", "running").await;
        up.kill();
        page.shows("#connection", "reconnecting").await;
        llm.release_answers();
        up = again(&kamil, &up);
        page.shows(ANSWER, "The accuracy is 0.").await;
        ends(&page, "succeeded").await;
        assert_eq!(page.text("#connection").await, "");
        // Nothing that was done was done again.
        page.click("[data-step=s1]").await;
        page.shows("#step", "succeeded").await;
        assert!(!page.text("#step").await.contains("attempt"), "{}", page.text("#step").await);
    });
}

/// Starts it where it was.
fn again(kamil: &Kamil, before: &Running) -> Running {
    kamil.start(&["up", "--port", before.port()])
}
