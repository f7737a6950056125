//! An answer whose node, or whose model server, breaks off in the middle of its stream goes on elsewhere from there.

use kamil_protocol::{
    reason::Sampling,
    task::{TaskRequest, TaskStatus},
};

use crate::{
    binary::{Kamil, Running, wait_until},
    cluster::Cluster,
    following::{Followed, Follower, Seen},
    real_model::home_with,
    scripted_llm::Prompt,
};

const REQUEST: &str = "Tell me about the weather on the coast";
/// Letters of more than one byte, so that an offset in bytes would be noticed.
const ANSWER: &str = "Über der Küste liegt früh zäher Nebel, gegen Mittag reißt er auf, \
                      und am Abend weht kühler Wind aus Südwest über die Dünen.";
/// Words that are shown before the stream breaks.
const SHOWN: usize = 7;
const SMALL: &str = "smollm2:135m";

/// Goes on with what has begun, as a model does.
fn script(prompt: &Prompt) -> String {
    if prompt.is_plan() {
        return "answer".to_owned();
    }
    let begun = prompt.begun().unwrap_or_default();
    ANSWER.strip_prefix(begun).unwrap_or("This does not follow.").to_owned()
}

fn shown() -> String {
    ANSWER.split_inclusive(' ').take(SHOWN).collect()
}

/// The whole text came in one piece after the other, over two nodes.
#[track_caller]
fn assert_spliced(seen: &Seen, text: &str, begun: &str) {
    assert_eq!(seen.text, text);
    assert!(seen.misplaced.is_empty(), "{:#?}", seen.misplaced);
    let [from, to] = seen.writers()[..] else { panic!("not two attempts: {seen:#?}") };
    assert_ne!(from, to);
    assert_eq!(seen.splices(), [(begun.chars().count() as u64, from, to)]);
}

/// The answer is asked for twice, the second time from where it broke off.
#[track_caller]
fn assert_asked_to_go_on(cluster: &Cluster) {
    let asked = cluster.llm.asked();
    let begun: Vec<_> = asked
        .iter()
        .filter(|prompt| !prompt.is_plan())
        .map(|prompt| prompt.begun().map(str::to_owned))
        .collect();
    assert_eq!(begun, [None, Some(shown())]);
    let trace = cluster.run(&["trace", "last"]).succeeded().stdout;
    let told = format!("goes on after the {} characters that are there", shown().chars().count());
    assert!(trace.contains(&told), "{trace}");
}

/// The process that an answer is placed on.
fn writer_of<'a>(
    nodes: &[serde_json::Value],
    followed: &Followed,
    processes: [&'a mut Running; 2],
) -> &'a mut Running {
    let id = followed.seen().writers().pop().unwrap().to_string();
    let node = nodes.iter().find(|node| node["id"] == *id).unwrap();
    let found = processes.into_iter().find(|process| node["url"] == *process.url);
    found.unwrap_or_else(|| panic!("no process of {node:#}"))
}

#[test]
fn an_answer_goes_on_where_a_killed_node_broke_off() {
    let mut cluster = Cluster::start(script);
    let home = Kamil::new();
    let mut second = cluster.another_llm_node(&home);
    let client = Follower::new(&cluster.orchestrator.url);
    cluster.llm.stop_once_after(SHOWN);
    let followed = client.ask(&TaskRequest { input: REQUEST.to_owned(), ..TaskRequest::default() });
    followed.wait_for_words(SHOWN);
    assert_eq!(followed.seen().text, shown());

    writer_of(&cluster.nodes(), &followed, [&mut cluster.llm_node, &mut second]).kill();

    let seen = followed.wait_for_end();
    assert_spliced(&seen, ANSWER, &shown());
    let task = client.document(followed.id);
    assert_eq!((task.status, task.answer.as_deref()), (TaskStatus::Succeeded, Some(ANSWER)));
    assert_asked_to_go_on(&cluster);
}

#[test]
fn who_asks_in_a_terminal_reads_one_answer_though_the_model_server_broke_off() {
    let cluster = Cluster::start(script);
    let home = Kamil::new();
    let _second = cluster.another_llm_node(&home);
    cluster.llm.stop_once_after(SHOWN);
    let mut asking = crate::conversation::spawn_ask(cluster.orchestrator.address(), REQUEST);
    wait_until("the answer has begun", || {
        let tasks = cluster.run(&["tasks", "--json"]).succeeded().json();
        let Some(id) = tasks[0]["id"].as_str() else { return false };
        cluster.run(&["trace", id, "--json"]).succeeded().json()["answer"] == *shown()
    });

    cluster.llm.break_off();

    wait_until("the client ends", || asking.try_wait().unwrap().is_some());
    let asked = asking.wait_with_output().unwrap();
    assert!(asked.status.success(), "{asked:?}\n{}", cluster.logs());
    assert_eq!(String::from_utf8_lossy(&asked.stdout).trim_end(), ANSWER);
    let told = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(told.contains("the answer goes on where it broke off"), "{told}");
    assert_asked_to_go_on(&cluster);
}

#[test]
fn the_answer_of_a_real_model_goes_on_at_another_node() {
    let (home, other) = (home_with(&[SMALL]), home_with(&[SMALL]));
    let hub = home.start(&["orchestrator", "0"]);
    let mut first = home.start(&["llm-node", "0", SMALL, hub.address(), "general"]);
    let mut second = other.start(&["llm-node", "0", SMALL, hub.address(), "general"]);
    let listed = || {
        let nodes =
            Kamil::new().run(&["nodes", "--json", "--orchestrator", hub.address()]).succeeded().json();
        nodes.as_array().unwrap().clone()
    };
    wait_until("both models are loaded", || {
        let nodes = listed();
        nodes.len() == 2 && nodes.iter().all(|node| node["capabilities"]["models"][0]["resident"] == true)
    });
    let client = Follower::new(&hub.url);
    let sampling = Sampling { max_tokens: Some(300), ..Sampling::default() };
    let followed = client.ask(&TaskRequest {
        input: "Write a long story about a lighthouse keeper and the sea.".to_owned(),
        direct: true,
        sampling: Some(sampling),
        ..TaskRequest::default()
    });
    followed.wait_for_words(20);
    let nodes = listed();

    writer_of(&nodes, &followed, [&mut first, &mut second]).kill();
    let before = followed.seen().text;

    let seen = followed.wait_for_end();
    let task = client.document(followed.id);
    assert_eq!(task.status, TaskStatus::Succeeded, "{task:#?}");
    let (offset, ..) = seen.splices()[0];
    let begun: String = seen.text.chars().take(usize::try_from(offset).unwrap()).collect();
    assert_spliced(&seen, task.answer.as_deref().unwrap(), &begun);
    assert!(begun.starts_with(&before) && seen.text.len() > begun.len(), "{begun:?} of {:?}", seen.text);
}
