//! The orchestrator is killed in the middle of a task and started again.

use kamil_protocol::node::Role;
use serde_json::Value;

use crate::{
    binary::wait_until,
    cluster::{Cluster, iris},
};

const REQUEST: &str = "Train a small ML model on the iris data and summarize the results";

#[test]
fn a_killed_orchestrator_finishes_the_task_and_runs_no_step_twice() {
    let mut cluster = Cluster::start(iris);
    cluster.llm.hold_answers();
    let address = cluster.orchestrator.address().to_owned();
    let mut asking = crate::conversation::spawn_ask(&address, REQUEST);
    wait_until("the answer is being written", || cluster.llm.asked().iter().any(|prompt| !prompt.is_plan()));
    let before: Value = cluster.run(&["trace", "last", "--json"]).succeeded().json();
    let plans = cluster.llm.asked().iter().filter(|prompt| prompt.is_plan()).count();
    assert_eq!(plans, 1);

    cluster.kill_and_restart(Role::Orchestrator);
    cluster.llm.release_answers();

    // The client that asked is still there, and gets its answer.
    wait_until("the client ends", || asking.try_wait().unwrap().is_some());
    let asked = asking.wait_with_output().unwrap();
    assert!(asked.status.success(), "{asked:?}\n{}", cluster.logs());
    let answer = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(answer.contains("accuracy of"), "{answer}");

    let after: Value = cluster.run(&["trace", "last", "--json"]).succeeded().json();
    assert_eq!(after["id"], before["id"]);
    assert_eq!(after["status"], "succeeded", "{after:#}");
    for step in before["steps"].as_array().unwrap().iter().filter(|step| step["status"] == "succeeded") {
        let same = after["steps"].as_array().unwrap().iter().find(|other| other["id"] == step["id"]).unwrap();
        assert_eq!(same["attempt"], step["attempt"], "a finished step ran again: {same:#}");
        assert_eq!(same["ended_at"], step["ended_at"], "{same:#}");
    }
    let trained = after["steps"].as_array().unwrap().iter().find(|step| step["kind"] == "tool").unwrap();
    assert_eq!(trained["attempt"], 1, "{trained:#}");
    let plans = cluster.llm.asked().iter().filter(|prompt| prompt.is_plan()).count();
    assert_eq!(plans, 1, "the plan was asked for again");
    cluster.hub_home().run(&["log", "verify"]).succeeded();
}
