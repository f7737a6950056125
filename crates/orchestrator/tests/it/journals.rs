//! The signed record.

use kamil_ledger::{VerifierKey, verify_task_proof};
use kamil_orchestrator::{StartError, journal::JournalError, verify_journal};
use kamil_protocol::{ErrorCode, log::CheckpointDoc};
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use crate::{
    hub::{Hub, PATIENCE, directly, quick},
    stand_in::StandIn,
};

/// An orchestrator that has done a few tasks and stopped.
async fn with_history() -> Hub {
    let mut hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "Yes, indeed.").await;
    for number in 0..4 {
        let id = hub.ask(&directly(&format!("question {number}"))).await;
        hub.ended(id).await;
    }
    hub.stop().await;
    hub
}

fn changed(hub: &Hub, sql: &str) -> String {
    let connection = Connection::open(hub.journal()).unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let report = verify_journal(&hub.home(), &hub.journal()).unwrap();
    assert!(!report.ok, "{sql} was not found");
    report.findings.join("\n")
}

#[tokio::test]
async fn an_untouched_journal_fits() {
    let hub = with_history().await;
    let report = verify_journal(&hub.home(), &hub.journal()).unwrap();
    assert!(report.ok, "{report:?}");
    assert_eq!(report.records, 20);
    assert!(report.checkpoints >= 5);
}

#[tokio::test]
async fn whatever_is_done_to_it_is_found() {
    for (sql, wanted) in [
        (
            "UPDATE records SET body = CAST(replace(CAST(body AS TEXT), 'question 1', 'question 7') AS BLOB) WHERE seq = 5",
            "was changed",
        ),
        (
            "UPDATE records SET body = CAST(replace(CAST(body AS TEXT), '{', '{ ') AS BLOB) WHERE seq = 3",
            "damaged",
        ),
        ("DELETE FROM records WHERE seq = 6", "must be"),
        ("DELETE FROM records WHERE seq >= 15", "cut off"),
        ("UPDATE records SET leaf_hash = zeroblob(32) WHERE seq = 2", "hash of record 2"),
        ("UPDATE records SET task = zeroblob(16) WHERE seq = 2", "another task"),
        ("UPDATE checkpoints SET note = replace(note, 'kamil.local', 'kamil.other')", "not good"),
        (
            "UPDATE records SET seq = -1 WHERE seq = 5; UPDATE records SET seq = 5 WHERE seq = 6; UPDATE records SET seq = 6 WHERE seq = -1",
            "must be",
        ),
        ("UPDATE records SET seq = seq + 100 WHERE seq >= 5", "stored as number"),
    ] {
        let hub = with_history().await;
        let finding = changed(&hub, sql);
        assert!(finding.contains(wanted), "{sql}: {finding}");
        let stop = CancellationToken::new();
        let refused = kamil_orchestrator::start(hub.node_options(), quick(), stop).await;
        assert!(
            matches!(refused, Err(StartError::Journal(JournalError::Damaged { .. }))),
            "{sql}: {:?}",
            refused.err()
        );
    }
}

#[tokio::test]
async fn a_journal_that_is_no_database_is_refused_with_its_name() {
    let mut hub = Hub::start().await;
    hub.stop().await;
    let log = hub.journal().with_extension("db-wal");
    let begun = std::time::Instant::now();
    while log.exists() {
        assert!(begun.elapsed() < PATIENCE, "the journal stays open");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    std::fs::write(hub.journal(), vec![b'x'; 8192]).unwrap();
    let refused = kamil_orchestrator::start(hub.node_options(), quick(), CancellationToken::new()).await;
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("journal.db") && error.contains("damaged"), "{error}");
}

#[tokio::test]
async fn a_second_orchestrator_on_the_same_home_is_refused() {
    let hub = Hub::start().await;
    let refused = kamil_orchestrator::start(hub.node_options(), quick(), CancellationToken::new()).await;
    assert!(matches!(refused, Err(StartError::Journal(JournalError::InUse { .. }))), "{:?}", refused.err());
}

#[tokio::test]
async fn a_head_covers_every_ended_task_and_its_proof_holds_alone() {
    let hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "Yes, indeed.").await;
    let first = hub.ask(&directly("first")).await;
    hub.ended(first).await;
    let second = hub.ask(&directly("second")).await;
    hub.ended(second).await;
    let head: CheckpointDoc = hub.client.get("/v1/log/checkpoint").await.unwrap();
    assert_eq!(head.size, 10);
    let key: VerifierKey = head.verifier_key.parse().unwrap();
    let proof = hub.client.get_text(&format!("/v1/log/proof/{first}")).await.unwrap();
    let verified = verify_task_proof(proof.as_bytes(), &key).unwrap();
    assert_eq!((verified.task, verified.records.len()), (first.to_string(), 5));
    let forged = proof.replacen("first", "frist", 1);
    assert!(verify_task_proof(forged.as_bytes(), &key).is_err());
    let secret = hub.home().identity().join("log.key");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(secret).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn those_who_wait_share_a_sync() {
    let hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "Yes.").await;
    let warm = hub.ask(&directly("warm up")).await;
    hub.ended(warm).await;
    let before = hub.metric("kamil_journal_commits_total").await;
    let requests: Vec<_> = (0..16).map(|number| directly(&format!("question {number}"))).collect();
    let ids = futures::future::join_all(requests.iter().map(|request| hub.ask(request))).await;
    for id in ids {
        hub.ended(id).await;
    }
    let commits = hub.metric("kamil_journal_commits_total").await - before;
    assert!(commits < 24, "{commits} syncs for 32 appends");
    assert!(commits >= 2);
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_loses_nothing_that_was_accepted() {
    let options =
        kamil_orchestrator::OrchestratorOptions { journal_limit_bytes: Some(160 * 1024), ..quick() };
    let mut hub = Hub::with(options).await;
    let _llm = StandIn::saying(&hub.url, "Yes, indeed.").await;
    let mut accepted = Vec::new();
    let refusal = loop {
        assert!(accepted.len() < 200, "the limit has no effect");
        match hub.try_ask(&directly(&"long ".repeat(600)), None).await {
            Ok(task) => accepted.push(task.id),
            Err(problem) => break problem,
        }
    };
    assert_eq!(refusal.code, ErrorCode::StorageFull);
    assert!(refusal.next_step.unwrap().contains("KAMIL_HOME"));
    assert!(accepted.len() > 3, "{}", accepted.len());
    // There is room again.
    hub.restart().await;
    for id in accepted {
        assert_eq!(hub.ended(id).await.answer.as_deref(), Some("Yes, indeed."));
    }
    assert!(verify_journal(&hub.home(), &hub.journal()).unwrap().ok);
}
