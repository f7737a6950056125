//! Event streams.

use futures::StreamExt as _;
use kamil_node::Method;
use kamil_protocol::{ErrorCode, event::EventRecord};
use serde_json::Value;

use crate::{
    hub::{Hub, PATIENCE, assemble, directly},
    stand_in::{Boxed, Script, StandIn},
};

#[tokio::test]
async fn a_stream_tells_everything_in_order_and_ends() {
    let hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "One two three.").await;
    let id = hub.ask(&directly("count")).await;
    let events = hub.events(id, None).await;
    assert_eq!(events.last().unwrap().event, "end");
    let records: Vec<EventRecord> = events
        .iter()
        .filter(|event| event.event == "record")
        .map(|event| {
            let record: EventRecord = serde_json::from_str(&event.data).unwrap();
            assert_eq!(event.id.as_deref(), Some(record.seq.to_string().as_str()));
            assert_eq!(record.task, id);
            record
        })
        .collect();
    assert_eq!(records.len(), 5);
    // The same from the journal as live, byte for byte as JSON.
    let again = hub.records(id).await;
    assert_eq!(again, records);
    let written = assemble(&events);
    assert!(written.is_empty() || written == "One two three.", "{written}");
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_record_that_was_seen() {
    let hub = Hub::start().await;
    let hangs = |_| -> Boxed<_> {
        Box::pin(async { Ok(Script::Hangs(vec!["Once ".to_owned(), "upon".to_owned()])) })
    };
    let _llm = StandIn::llm(&hub.url, "slow", hangs).await;
    let id = hub.ask(&directly("tell")).await;
    hub.until(id, |task| task.answer.as_deref() == Some("Once upon")).await;
    let path = format!("/v1/tasks/{id}/events?from=1");
    let mut stream = hub.client.stream(Method::GET, &path, None::<&()>, &[]).await.unwrap();
    let next = async |stream: &mut kamil_node::SseStream| {
        tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap()
    };
    let first = next(&mut stream).await;
    assert_eq!((first.event.as_str(), first.id.as_deref()), ("record", Some("2")));
    let delta: Value = serde_json::from_str(&next(&mut stream).await.data).unwrap();
    assert_eq!((delta["offset"].as_u64(), delta["text"].as_str()), (Some(0), Some("Once upon")));
    let _: Value = hub.client.post(&format!("/v1/tasks/{id}/cancel"), &()).await.unwrap();
    let rest: Vec<_> = tokio::time::timeout(PATIENCE, stream.collect::<Vec<_>>()).await.unwrap();
    assert_eq!(rest.last().unwrap().as_ref().unwrap().event, "end");
    let all = hub.events(id, None).await;
    let last: u64 = all.iter().filter_map(|event| event.id.as_ref()?.parse().ok()).max().unwrap();
    let after = hub.events(id, Some(last - 1)).await;
    assert_eq!(after.iter().map(|event| event.event.as_str()).collect::<Vec<_>>(), ["record", "end"]);
}

#[tokio::test]
async fn a_bad_place_is_refused() {
    let hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "Yes.").await;
    let id = hub.ask(&directly("x")).await;
    let path = format!("/v1/tasks/{id}/events");
    let problem =
        hub.client.stream(Method::GET, &path, None::<&()>, &[("Last-Event-ID", "abc")]).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::InvalidParameter);
}
