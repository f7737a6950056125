//! `/v1/tasks/{id}/events`.

use std::sync::Arc;

use axum::{
    extract::State,
    http::HeaderMap,
    response::{Response, sse::Event},
};
use futures::stream;
use kamil_node::{ApiResult, Path, Query, event_stream};
use kamil_protocol::{ErrorCode, Problem, TaskId, event::End};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{App, tasks::task_id};
use crate::{
    feed::{Follower, News},
    hub::Hub,
};

/// Where to begin.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FromQuery {
    /// Only records after the one with this `seq`; the header `Last-Event-ID` goes before it.
    #[serde(default)]
    from: Option<u64>,
}

/// One who follows a task, counted.
pub(super) struct Watcher {
    pub(super) follower: Follower,
    hub: Arc<Hub>,
}

impl Watcher {
    pub(super) fn new(hub: Arc<Hub>, follower: Follower) -> Self {
        hub.measures.followers.add(1);
        Self { follower, hub }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.hub.measures.followers.add(-1);
    }
}

/// Everything that happens to a task, as it happens: `record`, `delta`, and last `end`.
#[utoipa::path(get, path = "/v1/tasks/{id}/events", tag = "tasks",
    params(("id" = TaskId, Path), FromQuery, ("Last-Event-ID" = Option<u64>, Header, description = "`seq` of the last record that was seen")),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "`record` (EventRecord, id: its seq), `delta` (Delta), `end` (End)"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`, `unknown_field`"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "`task_unknown`")))]
pub(super) async fn task_events(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<FromQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let id = task_id(&id)?;
    let after = last_event_id(&headers)?.or(query.from);
    let feed = app.hub.feed(id).await?;
    let watcher = Watcher::new(Arc::clone(&app.hub), feed.follow(after));
    let events = stream::unfold(watcher, move |mut watcher| async move {
        let news = watcher.follower.next().await?;
        Some((event(id, &news), watcher))
    });
    Ok(event_stream(events))
}

fn event(task: TaskId, news: &News) -> Event {
    match news {
        News::Record(record) => {
            Event::default().event("record").id(record.seq.to_string()).data(record.json(task))
        }
        News::Delta(delta) => {
            Event::default().event("delta").data(serde_json::to_string(delta).unwrap_or_default())
        }
        News::End(status) => {
            let end = End { status: *status };
            Event::default().event("end").data(serde_json::to_string(&end).unwrap_or_default())
        }
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|value| value.parse().ok());
    id.map(Some).ok_or_else(|| {
        Problem::new(ErrorCode::InvalidParameter, "`Last-Event-ID` is not the `seq` of a record.")
    })
}
