//! Whose turn it is in a conversation: tasks of one session run one after the other, in the order in which they were accepted.
//!
//! A task that waits for the person (for a yes, or for what becomes of a step whose outcome nobody knows) steps aside: what
//! the person asks next in the same session goes on, since they could answer and chose to write on. Once they have
//! answered, the task goes on beside what runs by then, and what has not begun waits for both.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kamil_protocol::{SessionId, TaskId};
use tokio::sync::Notify;

#[derive(Debug)]
struct Member {
    task: TaskId,
    /// Waits for the person, and holds nobody up.
    aside: bool,
    /// Is under way; nothing that comes before it later holds it up.
    begun: bool,
    moved: Arc<Notify>,
}

impl Member {
    fn holds(&self) -> bool {
        !self.aside
    }
}

/// The open tasks of all sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    lines: Mutex<BTreeMap<SessionId, Vec<Member>>>,
}

/// A task's place in its session, given up when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    sessions: Arc<Sessions>,
    session: SessionId,
    task: TaskId,
    moved: Arc<Notify>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Vec<Member>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a task at the end of its session's line.
    pub(crate) fn join(self: &Arc<Self>, session: SessionId, task: TaskId) -> Turn {
        let moved = Arc::new(Notify::new());
        let member = Member { task, aside: false, begun: false, moved: Arc::clone(&moved) };
        self.lock().entry(session).or_default().push(member);
        Turn { sessions: Arc::clone(self), session, task, moved }
    }
}

impl Turn {
    /// The task that must end first: the last one before this that holds it up; `None` if it is this one's turn, which it
    /// stays.
    pub(crate) fn ahead(&self) -> Option<TaskId> {
        let mut lines = self.sessions.lock();
        let line = lines.get_mut(&self.session)?;
        let own = line.iter().position(|member| member.task == self.task)?;
        if line[own].begun {
            return None;
        }
        let ahead = line[..own].iter().rev().find(|member| member.holds()).map(|member| member.task);
        line[own].begun = ahead.is_none();
        ahead
    }

    /// Whether the task waits for the person.
    pub(crate) fn step_aside(&self, aside: bool) {
        let mut lines = self.sessions.lock();
        let Some(line) = lines.get_mut(&self.session) else { return };
        let Some(own) = line.iter().position(|member| member.task == self.task) else { return };
        if line[own].aside != aside {
            line[own].aside = aside;
            wake(line, own + 1);
        }
    }

    /// Waits until somebody before this task has gone, or stepped aside.
    pub(crate) async fn moved(&self) {
        self.moved.notified().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lines = self.sessions.lock();
        let Some(line) = lines.get_mut(&self.session) else { return };
        let Some(own) = line.iter().position(|member| member.task == self.task) else { return };
        line.remove(own);
        wake(line, own);
        if line.is_empty() {
            lines.remove(&self.session);
        }
    }
}

/// Wakes those from this place on who may name or have another task ahead: up to the first who holds up the rest.
fn wake(line: &[Member], from: usize) {
    for member in line.iter().skip(from).filter(|member| !member.begun) {
        member.moved.notify_one();
        if member.holds() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn one_after_the_other_and_who_waits_for_the_person_steps_aside() {
        let sessions = Arc::new(Sessions::default());
        let session = SessionId::generate();
        let ids: Vec<TaskId> = (0..4).map(|_| TaskId::generate()).collect();
        let mut turns: Vec<Turn> = ids.iter().map(|id| sessions.join(session, *id)).collect();
        let other = sessions.join(SessionId::generate(), ids[0]);
        assert_eq!(other.ahead(), None, "sessions do not know each other");
        assert_eq!(turns[0].ahead(), None);
        assert_eq!(turns[2].ahead(), Some(ids[1]), "the last one before it");
        turns[0].step_aside(true);
        assert_eq!(turns[1].ahead(), None);
        turns[0].step_aside(false);
        assert_eq!(turns[1].ahead(), None, "what has begun goes on");
        drop(turns.remove(1));
        assert_eq!(turns[1].ahead(), Some(ids[0]), "what has not waits for both");
        drop(turns.remove(0));
        assert_eq!(turns[0].ahead(), None);
        assert_eq!(turns[1].ahead(), Some(ids[2]));
        turns.clear();
        drop(other);
        assert!(sessions.lock().is_empty(), "nothing is left behind");
    }

    proptest! {
        /// Whatever ends, waits for the person or goes on: those who hold the line never begin side by side, everybody who
        /// is held up is woken when that changes, and all have their turn.
        #[test]
        fn turns_come_in_order_and_to_everybody(moves in vec((0..8_usize, 0..3_u8), 0..60)) {
            let sessions = Arc::new(Sessions::default());
            let session = SessionId::generate();
            let mut turns: Vec<(TaskId, Turn, bool)> = (0..8).map(|_| {
                let id = TaskId::generate();
                (id, sessions.join(session, id), false)
            }).collect();
            for (which, what) in moves {
                let awake = turns.iter_mut().find(|turn| !turn.2);
                if let Some((_, turn, begun)) = awake {
                    *begun = turn.ahead().is_none();
                }
                if which >= turns.len() {
                    continue;
                }
                match what {
                    0 => drop(turns.remove(which)),
                    1 => turns[which].1.step_aside(true),
                    _ => turns[which].1.step_aside(false),
                }
            }
            for turn in &turns {
                turn.1.step_aside(false);
            }
            while !turns.is_empty() {
                prop_assert_eq!(turns[0].1.ahead(), None, "the first one always may");
                turns.remove(0);
            }
        }
    }
}
