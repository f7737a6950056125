//! LLM nodes: they write what the task's id determines, so that every attempt would write the same.

use kamil_orchestrator::NodeReply;
use kamil_protocol::{
    Problem, StepId, TaskId,
    reason::{Finish, ReasonReply, ReasonRequest, Usage},
};
use tokio::sync::mpsc;

use super::{Arrived, Node, Piece, Run};
use crate::random::Random;

const WORDS: [&str; 8] = ["stone ", "river ", "söft ", "green ", "wind, ", "seven ", "lamp. ", "north "];
/// Replies to a request for a plan: valid ones, and what small models write instead.
const PLANS: [&str; 6] = [
    "answer",
    "s1 = sums.add(a=1, b=2)\nanswer",
    "s1 = sums.add(a=1, b=2)\ns2 = notes.append(text=\"x\")\nanswer",
    "I would add the numbers first.",
    "s1 = sums.multiply(a=1)\nanswer",
    "{\"steps\": [",
];

/// The whole text that a step of a task writes.
pub(crate) fn text_of(task: TaskId, step: &StepId) -> String {
    let seed = task.as_uuid().as_u64_pair();
    let random = Random::new(seed.0 ^ seed.1).fork(step.as_str());
    let count = random.between(1, 30);
    (0..count).filter_map(|_| random.pick(&WORDS).copied()).collect()
}

impl Node {
    pub(super) async fn reason(
        &self,
        run: &Run,
        arrived: &Arrived,
        request: &ReasonRequest,
        pieces: &mpsc::Sender<Piece>,
    ) -> Result<NodeReply, Problem> {
        let _place = self.enter(run)?;
        self.takes(10, 400).await;
        self.fault()?;
        let text = if arrived.step.as_str() == "plan" {
            self.random.pick(&PLANS).copied().unwrap_or_default().to_owned()
        } else {
            let full = text_of(arrived.task, &arrived.step);
            let begun = request.continue_from.as_deref().unwrap_or_default();
            if !full.starts_with(begun) {
                let what = format!("step `{}` of {} was to go on from `{begun}`", arrived.step, arrived.task);
                self.oracle.violated(&what);
            }
            full.strip_prefix(begun).unwrap_or_default().to_owned()
        };
        // Some engines do not stream.
        if request.stream && self.random.per_mille(800) {
            for piece in text.split_inclusive(' ') {
                self.takes(1, 60).await;
                // The caller is gone when nobody takes it.
                let _ = pieces.send(Piece::Text(piece.to_owned())).await;
            }
        }
        self.fault()?;
        let tokens_out = u32::try_from(text.split(' ').count()).unwrap_or(u32::MAX);
        let usage = Usage { tokens_in: 20, tokens_out, decode_ms: 10, prefill_ms: 10, ..Usage::default() };
        let model = request.model.clone().unwrap_or_default();
        Ok(NodeReply::Reasoned(Box::new(ReasonReply { model, text, finish: Finish::Stop, usage })))
    }
}
