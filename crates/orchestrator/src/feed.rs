//! What can be followed of a task: its records and the answer as it is written.
//!
//! Followers keep a place in what is shared and are woken when there is more, so that a slow one gets larger pieces instead
//! of a queue of its own, and nobody waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kamil_protocol::{
    StepId, TaskId,
    event::{Delta, EventRecord, TaskEvent},
    task::TaskStatus,
};

use crate::{
    journal::moment,
    signal::{Changes, Signal},
};

/// An event of a task, durable.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    pub(crate) event: TaskEvent,
    /// The event's canonical JSON; empty for a record that was read back, and made when it is needed.
    pub(crate) body: String,
}

impl Record {
    /// The JSON of an [`EventRecord`].
    pub(crate) fn json(&self, task: TaskId) -> String {
        let Self { seq, at, event, body } = self;
        if body.is_empty() {
            let record = EventRecord { seq: *seq, task, at: *at, event: event.clone() };
            return serde_json::to_string(&record).unwrap_or_default();
        }
        format!("{{\"seq\":{seq},\"task\":\"{task}\",\"at\":\"{}\",\"event\":{body}}}", moment(*at))
    }
}

#[derive(Debug)]
struct Draft {
    step: StepId,
    text: String,
    chars: u64,
    /// How many records there were when writing began.
    after: usize,
    open: bool,
}

#[derive(Debug, Default)]
struct Shared {
    records: Vec<Arc<Record>>,
    draft: Option<Draft>,
    ended: Option<TaskStatus>,
}

/// The shared end.
#[derive(Debug)]
pub(crate) struct Feed {
    task: TaskId,
    shared: Mutex<Shared>,
    changed: Arc<Signal>,
}

/// What a follower gets.
#[derive(Clone, Debug)]
pub(crate) enum News {
    Record(Arc<Record>),
    Delta(Delta),
    End(TaskStatus),
}

/// A place in the feed.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    record: usize,
    bytes: usize,
    chars: u64,
    /// Text is followed as it is written; a follower that came later has it in the record.
    writing: bool,
    ended: bool,
}

/// One who follows.
pub(crate) struct Follower {
    feed: Arc<Feed>,
    changed: Changes,
    place: Place,
}

impl Feed {
    pub(crate) fn new(task: TaskId) -> Self {
        Self { task, shared: Mutex::default(), changed: Arc::default() }
    }

    pub(crate) fn task(&self) -> TaskId {
        self.task
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds records that are durable.
    pub(crate) fn publish(&self, records: impl IntoIterator<Item = Record>) {
        {
            let mut shared = self.lock();
            for record in records {
                match &record.event {
                    TaskEvent::TaskCompleted { status, .. } => {
                        shared.ended = Some(*status);
                        shared.close_draft();
                    }
                    TaskEvent::StepSucceeded { step, .. }
                        if shared.draft.as_ref().is_some_and(|draft| draft.step == *step) =>
                    {
                        shared.close_draft();
                    }
                    _ => {}
                }
                shared.records.push(Arc::new(record));
            }
        }
        self.changed.tell();
    }

    /// Adds text to the answer that a step writes.
    pub(crate) fn write(&self, step: &StepId, text: &str) {
        if text.is_empty() {
            return;
        }
        {
            let mut shared = self.lock();
            let after = shared.records.len();
            let draft = shared.draft.get_or_insert_with(|| Draft {
                step: step.clone(),
                text: String::new(),
                chars: 0,
                after,
                open: true,
            });
            draft.text.push_str(text);
            draft.chars += text.chars().count() as u64;
        }
        self.changed.tell();
    }

    /// All that has been written of the answer so far.
    pub(crate) fn written(&self) -> Option<String> {
        self.lock().draft.as_ref().map(|draft| draft.text.clone())
    }

    /// How much has been written of the answer so far, in Unicode scalar values.
    pub(crate) fn written_chars(&self) -> u64 {
        self.lock().draft.as_ref().map_or(0, |draft| draft.chars)
    }

    /// Whether there is no record yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().records.is_empty()
    }

    /// Waits for the first record.
    pub(crate) async fn begun(&self) {
        let mut changed = self.changed.listen();
        while self.is_empty() {
            changed.changed().await;
        }
    }

    /// All records.
    pub(crate) fn records(&self) -> Vec<Arc<Record>> {
        self.lock().records.clone()
    }

    /// Digests of the sets of tools that the task has known, the newest last.
    pub(crate) fn tool_sets(&self) -> Vec<String> {
        self.lock().records.iter().filter_map(|record| record.event.tool_set().map(str::to_owned)).collect()
    }

    /// Follows from the beginning, or from after the record number `after`.
    pub(crate) fn follow(self: &Arc<Self>, after: Option<u64>) -> Follower {
        let changed = self.changed.listen();
        let shared = self.lock();
        let record = after.map_or(0, |after| shared.records.partition_point(|record| record.seq <= after));
        let writing = shared.draft.as_ref().is_none_or(|draft| draft.open);
        drop(shared);
        Follower { feed: Arc::clone(self), changed, place: Place { record, writing, ..Place::default() } }
    }
}

impl Shared {
    fn close_draft(&mut self) {
        if let Some(draft) = &mut self.draft {
            draft.open = false;
        }
    }

    fn next(&self, place: &mut Place) -> Option<News> {
        if let Some(draft) = &self.draft
            && place.writing
            && place.record >= draft.after
            && let Some(text) = draft.text.get(place.bytes..).filter(|text| !text.is_empty())
        {
            let delta = Delta { step: draft.step.clone(), offset: place.chars, text: text.to_owned() };
            (place.bytes, place.chars) = (draft.text.len(), draft.chars);
            return Some(News::Delta(delta));
        }
        if let Some(record) = self.records.get(place.record) {
            place.record += 1;
            return Some(News::Record(Arc::clone(record)));
        }
        let status = self.ended.filter(|_| !place.ended)?;
        place.ended = true;
        Some(News::End(status))
    }
}

impl Follower {
    /// The next piece of news; `None` after the end. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<News> {
        loop {
            if self.place.ended {
                return None;
            }
            self.changed.catch_up();
            let next = self.feed.lock().next(&mut self.place);
            if next.is_some() {
                return next;
            }
            self.changed.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use kamil_protocol::task::Labels;

    use super::*;

    fn record(seq: u64, event: TaskEvent) -> Record {
        Record { seq, at: Timestamp::UNIX_EPOCH, event, body: String::new() }
    }

    fn degraded(seq: u64) -> Record {
        record(seq, TaskEvent::Degraded { reason: String::new() })
    }

    fn answered(seq: u64) -> Record {
        let event = TaskEvent::StepSucceeded {
            step: "answer".parse().unwrap(),
            attempt: 1,
            output: "héllo!".into(),
            labels: Labels { sources: Vec::new(), trust: kamil_protocol::task::Trust::Trusted },
            enforced: Vec::new(),
            tokens_in: None,
            tokens_out: None,
        };
        record(seq, event)
    }

    fn done(seq: u64) -> Record {
        record(seq, TaskEvent::TaskCompleted { status: TaskStatus::Succeeded, answer: None, error: None })
    }

    async fn shown(follower: &mut Follower) -> String {
        match follower.next().await {
            Some(News::Record(record)) => format!("r{}", record.seq),
            Some(News::Delta(delta)) => format!("d{}:{}", delta.offset, delta.text),
            Some(News::End(status)) => format!("{status:?}"),
            None => "none".to_owned(),
        }
    }

    #[tokio::test]
    async fn text_comes_between_the_records_around_it_and_in_full() {
        let feed = Arc::new(Feed::new(TaskId::generate()));
        let step = "answer".parse().unwrap();
        let mut early = feed.follow(None);
        let mut slow = feed.follow(None);
        feed.publish([degraded(3), degraded(5)]);
        assert_eq!(shown(&mut early).await, "r3");
        assert_eq!(shown(&mut early).await, "r5");
        feed.write(&step, "hé");
        assert_eq!(shown(&mut early).await, "d0:hé");
        let mut resumed = feed.follow(Some(3));
        feed.write(&step, "llo");
        assert_eq!(shown(&mut resumed).await, "r5");
        assert_eq!(shown(&mut resumed).await, "d0:héllo");
        feed.write(&step, "!");
        feed.publish([answered(9), done(11)]);
        for wanted in ["d2:llo!", "r9", "r11", "Succeeded", "none"] {
            assert_eq!(shown(&mut early).await, wanted);
        }
        for wanted in ["r3", "r5", "d0:héllo!", "r9", "r11", "Succeeded", "none"] {
            assert_eq!(shown(&mut slow).await, wanted);
        }
        let mut late = feed.follow(Some(5));
        for wanted in ["r9", "r11", "Succeeded", "none"] {
            assert_eq!(shown(&mut late).await, wanted);
        }
    }
}
