//! Asking, and the answer as it is written.

use serde_json::json;

use crate::{browser::in_browser, hub::Stage};

const ANSWER: &str = "li.kamil:last-child .text";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_appears_piece_by_piece_and_pieces_go_where_they_belong() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        page.ask("Explain a hash chain").await;
        let task = stage.asked("Explain a hash chain").await;
        assert_eq!(page.text("li.person .text").await, "Explain a hash chain");
        assert_eq!(page.attribute("li.kamil", "aria-busy").await.as_deref(), Some("true"));

        stage.delta(&task, 0, "A **hash");
        page.shows(ANSWER, "A **hash").await;
        stage.delta(&task, 8, " chain** 🔗 links");
        page.shows(ANSWER, "A hash chain 🔗 links").await;
        assert_eq!(page.text(&format!("{ANSWER} strong")).await, "hash chain");
        // The link sign is one character for the orchestrator and two for the browser.
        stage.delta(&task, 19, "joins records");
        page.until(
            "nothing is dropped twice",
            async || page.text(ANSWER).await,
            |text| text == "A hash chain 🔗 joins records",
        )
        .await;

        // Another node goes on from the beginning.
        stage.delta(&task, 0, "Each record holds");
        page.until(
            "the text before is gone",
            async || page.text(ANSWER).await,
            |text| text == "Each record holds",
        )
        .await;
        stage.delta(&task, 17, " the hash of the one before.\n\n- one\n- two");
        page.shows(ANSWER, "two").await;
        assert_eq!(page.texts(&format!("{ANSWER} li")).await, ["one", "two"]);

        assert!(page.find("#cancel").await.is_displayed().await.unwrap());
        stage.finish(&task, "Each record holds the hash of the one before.");
        page.until(
            "the answer ends",
            async || page.attribute("li.kamil", "data-status").await,
            |status| status.as_deref() == Some("succeeded"),
        )
        .await;
        assert_eq!(page.text(ANSWER).await, "Each record holds the hash of the one before.");
        assert_eq!(page.attribute("li.kamil", "aria-busy").await, None);
        assert!(!page.find("#cancel").await.is_displayed().await.unwrap());
        assert_eq!(page.console().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_are_complete_stay_the_same_elements_while_the_text_grows() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        page.ask("Write").await;
        let task = stage.asked("Write").await;
        stage.delta(&task, 0, "First paragraph.\n\nSecond");
        page.shows(ANSWER, "Second").await;
        page.run("window.first = document.querySelector(arguments[0])", vec![json!(format!("{ANSWER} p"))])
            .await;
        stage.delta(&task, 24, " paragraph.\n\nThird.");
        page.shows(ANSWER, "Third.").await;
        assert_eq!(
            page.run("return window.first.isConnected && window.first.textContent", vec![]).await,
            "First paragraph."
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_told_and_taken_up_where_it_broke() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        page.ask("Go on").await;
        let task = stage.asked("Go on").await;
        stage.delta(&task, 0, "Half of ");
        page.shows(ANSWER, "Half of").await;
        let first = stage.called("/events", 1).await;
        assert_eq!(first.last_event_id, None);

        stage.break_streams();
        page.shows("#connection", "reconnecting").await;
        stage.delta(&task, 8, "it");
        let second = stage.called("/events", 2).await;
        assert!(second.last_event_id.is_some(), "{second:?}");
        page.until("the text is whole", async || page.text(ANSWER).await, |text| text == "Half of it").await;
        page.until("the notice goes", async || page.text("#connection").await, String::is_empty).await;

        // A server that refuses makes the browser give up; the page does not.
        stage.refuse(Some((503, json!({ "code": "busy", "detail": "Not now." }))));
        stage.break_streams();
        stage.called("/events", 4).await;
        stage.refuse(None);
        stage.delta(&task, 10, ", and the end");
        page.shows(ANSWER, "Half of it, and the end").await;
        stage.finish(&task, "Half of it, and the end");
        page.until(
            "the answer ends",
            async || page.attribute("li.kamil", "data-status").await,
            |status| status.as_deref() == Some("succeeded"),
        )
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_failed_is_kept_and_sent_again_as_the_same_request() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        stage.refuse(Some((503, json!({ "code": "no_node", "detail": "No LLM node is registered.", "next_step": "Start one with `kamil llm-node`." }))));
        page.ask("Hello there").await;
        page.shows("li.kamil .error", "No LLM node is registered. Start one with `kamil llm-node`.").await;
        assert_eq!(page.client.find(fantoccini::Locator::Css("#input")).await.unwrap().prop("value").await.unwrap().as_deref(), Some("Hello there"));
        stage.refuse(None);
        page.click("#send").await;
        stage.asked("Hello there").await;
        let [first, second] = [stage.called("/v1/tasks", 1).await, stage.called("/v1/tasks", 2).await];
        assert!(first.key.is_some());
        assert_eq!((first.key, first.body), (second.key, second.body));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orchestrator_that_is_gone_is_told() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        page.click("#tab-graph").await;
        stage.vanish().await;
        page.ask("Are you there?").await;
        page.shows("li.kamil .error", "Kamil cannot be reached. Is it still running?").await;
        page.click("#tab-fleet").await;
        page.shows("#nodes .error", "Kamil cannot be reached").await;
        page.click("#tab-tasks").await;
        page.shows("#tasks .error", "Kamil cannot be reached").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_and_a_stopped_task_say_so() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        page.ask("Fail").await;
        let task = stage.asked("Fail").await;
        stage.end(&task, |doc| {
            doc["status"] = json!("failed");
            doc["error"] = json!({ "code": "no_node", "detail": "No node can reason.", "next_step": "Start an LLM node." });
        });
        page.shows("li.kamil .error", "No node can reason. Start an LLM node.").await;

        page.ask("Stop").await;
        let task = stage.asked("Stop").await;
        stage.delta(&task, 0, "Some text");
        page.shows(ANSWER, "Some text").await;
        page.click("#cancel").await;
        stage.called(&format!("{task}/cancel"), 1).await;
        stage.end(&task, |doc| doc["status"] = json!("cancelled"));
        page.shows("li.kamil:last-child .notes", "Stopped.").await;
        assert_eq!(page.text(ANSWER).await, "Some text");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_brings_the_conversation_back_and_a_new_one_forgets_it() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        page.ask("First question").await;
        let first = stage.asked("First question").await;
        stage.finish(&first, "First answer");
        page.shows("li.kamil", "First answer").await;
        page.until(
            "the page is ready",
            async || page.attribute("li.kamil", "data-status").await,
            |status| status.as_deref() == Some("succeeded"),
        )
        .await;
        page.ask("Second question").await;
        let second = stage.asked("Second question").await;
        stage.delta(&second, 0, "Second ans");
        page.shows(ANSWER, "Second ans").await;
        let session = stage.called("/v1/tasks", 1).await.body["session"].clone();
        assert_eq!(session, stage.called("/v1/tasks", 2).await.body["session"], "one conversation");

        page.client.refresh().await.unwrap();
        page.shows("#messages", "First answer").await;
        page.shows(ANSWER, "Second ans").await;
        stage.delta(&second, 10, "wer");
        page.shows(ANSWER, "Second answer").await;
        stage.finish(&second, "Second answer");
        page.until(
            "it goes on after the reload",
            async || page.attribute("li.kamil:last-child", "data-status").await,
            |status| status.as_deref() == Some("succeeded"),
        )
        .await;

        page.click("#new-conversation").await;
        assert_eq!(page.count("#messages li").await, 0);
        page.client.refresh().await.unwrap();
        page.ask("Third question").await;
        stage.asked("Third question").await;
        assert_eq!(page.count("#messages li").await, 2);
        assert_ne!(session, stage.called("/v1/tasks", 3).await.body["session"], "another conversation");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_answer_is_followed_unless_the_person_reads_further_up() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        page.ask("Write much").await;
        let task = stage.asked("Write much").await;
        let paragraph = "A line of the answer.\n\n";
        let mut written = 0;
        let mut write = |text: &str| {
            stage.delta(&task, written, text);
            written += text.len();
        };
        let below = async || {
            let script = "const m = document.getElementById('messages'); return m.scrollHeight - m.clientHeight - m.scrollTop";
            page.run(script, vec![]).await.as_f64().unwrap()
        };
        write(&paragraph.repeat(100));
        write("First end.");
        page.shows(ANSWER, "First end.").await;
        page.until("the end is in view", &below, |below| *below < 5.0).await;

        page.run_async("const m = document.getElementById('messages'); m.addEventListener('scroll', () => done(), { once: true }); m.scrollTop = 10", vec![]).await;
        write(&paragraph.repeat(10));
        write("Second end.");
        page.shows(ANSWER, "Second end.").await;
        assert_eq!(page.run("return document.getElementById('messages').scrollTop", vec![]).await, 10);
    })
    .await;
}
