//! Processes are killed one after another while tasks run: nothing acknowledged is lost, and nothing happens twice.
//!
//! `scripts/kills` runs it at length; `KAMIL_KILLS` says how many are killed, `KAMIL_SEED` when.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use kamil_node::{Client, Method};
use kamil_protocol::{
    Page, Problem, TaskId,
    event::{EventRecord, TaskEvent},
    memory::Memory,
    node::Role,
    task::{ApprovalDecision, Decision, StepDoc, StepStatus, TaskAccepted, TaskDoc, TaskRequest, TaskStatus},
};

use crate::{binary::PATIENCE, cluster::Cluster, scripted_llm::Prompt};

const ROLES: [Role; 4] = [Role::Orchestrator, Role::Llm, Role::Tool, Role::Memory];
/// A task of this campaign has this many records if nothing goes wrong.
const RECORDS: u64 = 18;
/// Tasks under way at each kill.
const TASKS: usize = 3;
/// Where the two counting tools leave a line for each time they are run.
const COUNTED: [(&str, &str); 2] = [("s1", "appended.txt"), ("s2", "echoed.txt")];

/// Names a line of its own in every request, so that each effect can be counted.
fn word(number: usize) -> String {
    format!("entry-{number:05}-")
}

fn script(prompt: &Prompt) -> String {
    let text = prompt.question();
    let word =
        text.match_indices("entry-").last().and_then(|(at, _)| text.get(at..at + 12)).unwrap_or("none");
    if prompt.is_plan() {
        return format!(
            "s1 = file_ops.append(path=\"appended.txt\", text=\"{word}\\n\")\n\
             s2 = code_tools.shell(code=\"echo {word} >> echoed.txt; sleep 0.02\")\nanswer"
        );
    }
    format!("{word} was added to both files, {}", "one word after another, ".repeat(20))
}

struct Campaign {
    cluster: Cluster,
    client: Client,
    runtime: tokio::runtime::Runtime,
    random: u64,
    tasks: Vec<TaskId>,
    /// Steps whose outcome the person had to find out.
    doubts: usize,
    kills: BTreeMap<String, usize>,
}

impl Campaign {
    fn start(seed: u64) -> Self {
        let cluster = Cluster::start(script);
        let client = Client::new(&cluster.orchestrator.url, None).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self {
            cluster,
            client,
            runtime,
            random: seed | 1,
            tasks: Vec::new(),
            doubts: 0,
            kills: BTreeMap::new(),
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    /// Kills one process while tasks are under way, and sees them to their end.
    fn round(&mut self, number: usize) {
        let role = ROLES[number % ROLES.len()];
        // Each process at each moment of a task, in turn; what remains is left to chance.
        let moment = (number / ROLES.len()) as u64 % RECORDS;
        let pause = Duration::from_micros(self.below(6_000));
        let first = self.tasks.len();
        let begun: Vec<_> = (first..first + TASKS).map(|number| self.submitting(number)).collect();
        if moment == 0 {
            // Before anyone knows whether the requests were taken.
            spin(pause);
            self.cluster.kill_and_restart(role);
        }
        for (place, begun) in begun.into_iter().enumerate() {
            let accepted = self.runtime.block_on(begun).unwrap();
            let id = accepted.unwrap_or_else(|| self.submit_again(first + place));
            self.tasks.push(id);
        }
        if moment > 0 {
            self.await_record(self.tasks[first], moment);
            spin(pause);
            self.cluster.kill_and_restart(role);
        }
        *self.kills.entry(format!("{role:?}").to_lowercase()).or_default() += 1;
        for number in first..self.tasks.len() {
            self.see_to_its_end(number);
        }
    }

    fn request(number: usize) -> TaskRequest {
        let word = word(number);
        let input = format!("Append {word} to appended.txt, then echo {word} into echoed.txt with a shell");
        TaskRequest { input, ..TaskRequest::default() }
    }

    /// Asks; `None` if no answer came.
    fn submitting(&self, number: usize) -> tokio::task::JoinHandle<Option<TaskId>> {
        let client = self.client.clone();
        self.runtime.spawn(async move { submit(&client, number).await.ok().map(|accepted| accepted.id) })
    }

    fn submit_again(&self, number: usize) -> TaskId {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.runtime.block_on(submit(&self.client, number)) {
                Ok(accepted) => return accepted.id,
                Err(problem) => assert!(Instant::now() < deadline, "{problem:?}\n{}", self.cluster.logs()),
            }
        }
    }

    /// Follows a task until it has so many records, or has ended.
    fn await_record(&self, task: TaskId, count: u64) {
        let path = format!("/v1/tasks/{task}/events");
        self.runtime.block_on(async {
            let mut events = self.client.stream(Method::GET, &path, None::<&()>, &[]).await.unwrap();
            let mut seen = 0;
            while let Some(Ok(event)) = events.next().await {
                seen += u64::from(event.event == "record");
                if seen >= count || event.event == "end" {
                    return;
                }
            }
        });
    }

    fn document(&self, task: TaskId) -> Result<TaskDoc, Problem> {
        self.runtime.block_on(self.client.get(&format!("/v1/tasks/{task}")))
    }

    /// Waits for the end of a task, and answers what it asks in the meantime.
    fn see_to_its_end(&mut self, number: usize) {
        let (task, deadline) = (self.tasks[number], Instant::now() + PATIENCE);
        loop {
            let document = self.document(task).unwrap();
            if document.status.is_final() {
                return self.check(number, &document);
            }
            assert!(Instant::now() < deadline, "{}", self.told(&document));
            for step in &document.steps {
                self.decide(number, task, step);
            }
        }
    }

    /// The person looks whether the effect happened, and has the step run again only if it did not.
    fn decide(&mut self, number: usize, task: TaskId, step: &StepDoc) {
        let decision = match step.status {
            StepStatus::AwaitingApproval => Decision::Approve,
            StepStatus::OutcomeUnknown => {
                self.doubts += 1;
                let file = COUNTED.iter().find(|(id, _)| *id == step.id.as_str()).unwrap().1;
                if self.count(file, number) == 0 { Decision::Approve } else { Decision::Deny }
            }
            _ => return,
        };
        let digest = step.approval.as_ref().map(|request| request.digest.clone());
        let path = format!("/v1/tasks/{task}/steps/{}/approval", step.id);
        let body = ApprovalDecision { decision, digest };
        let decided: Result<TaskDoc, Problem> = self.runtime.block_on(self.client.post(&path, &body));
        decided.unwrap();
    }

    fn count(&self, file: &str, number: usize) -> usize {
        let text = std::fs::read_to_string(self.cluster.workspace(file)).unwrap_or_default();
        occurrences(&text, &word(number))
    }

    /// What happened, happened once, and is told as it was.
    fn check(&self, number: usize, document: &TaskDoc) {
        assert_eq!(document.status, TaskStatus::Succeeded, "{}", self.told(document));
        for (id, file) in COUNTED {
            let step = document.steps.iter().find(|step| step.id.as_str() == id);
            let step = step.unwrap_or_else(|| panic!("no {id}: {}", self.told(document)));
            assert_eq!(self.count(file, number), 1, "{:?}: {}", step.error, self.told(document));
        }
        let records = self.records(document.id);
        let mut ended = BTreeMap::new();
        for record in &records {
            if let TaskEvent::StepSucceeded { step, .. } = &record.event {
                *ended.entry(step.to_string()).or_insert(0) += 1;
            }
        }
        assert!(ended.values().all(|times| *times == 1), "a finished step ended again: {ended:?}");
    }

    /// The task in short, and what the processes logged last.
    fn told(&self, document: &TaskDoc) -> String {
        let line = |step: &StepDoc| {
            format!(
                "  {} {:?}, attempt {}, {:?} {:?}\n",
                step.id, step.status, step.attempt, step.waiting, step.error
            )
        };
        let steps: String = document.steps.iter().map(line).collect();
        let logs = self.cluster.logs();
        let last: Vec<&str> = logs.lines().rev().take(60).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        format!("{} {:?} {:?}\n{steps}{last}", document.id, document.status, document.degraded)
    }

    fn records(&self, task: TaskId) -> Vec<EventRecord> {
        let path = format!("/v1/tasks/{task}/events");
        self.runtime.block_on(async {
            let events = self.client.stream(Method::GET, &path, None::<&()>, &[]).await.unwrap();
            let records = events.filter_map(|event| async {
                let event = event.unwrap();
                (event.event == "record").then(|| serde_json::from_str(&event.data).unwrap())
            });
            records.collect().await
        })
    }

    /// Every task is there, no effect was lost or repeated, no memory is there twice, and the log verifies.
    fn account(&self) -> usize {
        let mut remembered: BTreeMap<TaskId, usize> = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/memories?limit=100{cursor}");
            let page: Page<Memory> = self.runtime.block_on(self.client.get(&path)).unwrap();
            for task in page.items.iter().filter_map(|memory| memory.source.task) {
                *remembered.entry(task).or_default() += 1;
            }
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        for (number, task) in self.tasks.iter().enumerate() {
            let document = self.document(*task).unwrap();
            self.check(number, &document);
            let kept = document
                .steps
                .iter()
                .any(|step| step.id.as_str() == "remember" && step.status == StepStatus::Succeeded);
            assert_eq!(
                remembered.get(task).copied().unwrap_or(0),
                usize::from(kept),
                "{}",
                self.told(&document)
            );
        }
        let text: String = COUNTED
            .iter()
            .map(|(_, file)| std::fs::read_to_string(self.cluster.workspace(file)).unwrap())
            .collect();
        assert_eq!(text.lines().count(), COUNTED.len() * self.tasks.len(), "a line that no task asked for");
        self.cluster.hub_home().run(&["log", "verify"]).succeeded();
        remembered.len()
    }
}

async fn submit(client: &Client, number: usize) -> Result<TaskAccepted, Problem> {
    let key = word(number);
    client.post_with_headers("/v1/tasks", &Campaign::request(number), &[("idempotency-key", &key)]).await
}

fn occurrences(text: &str, word: &str) -> usize {
    text.lines().filter(|line| line.trim_end() == word).count()
}

/// Moments of less than a scheduler's slice are waited for on the processor.
fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn nothing_is_lost_or_done_twice_whoever_is_killed() {
    let (kills, seed) = (setting("KAMIL_KILLS", 24) as usize, setting("KAMIL_SEED", 7));
    println!("{kills} kills with KAMIL_SEED={seed}");
    let begun = Instant::now();
    let mut campaign = Campaign::start(seed);
    for number in 0..kills {
        campaign.round(number);
        if number % 20 == 19 {
            println!("{} killed after {:.0} s", number + 1, begun.elapsed().as_secs_f64());
        }
    }
    let remembered = campaign.account();
    println!(
        "{kills} killed ({:?}), {} tasks, {} effects counted, {remembered} remembered, {} outcomes unknown: 0 lost, 0 twice; {:.0} s",
        campaign.kills,
        campaign.tasks.len(),
        campaign.tasks.len() * COUNTED.len(),
        campaign.doubts,
        begun.elapsed().as_secs_f64()
    );
    assert!(campaign.kills.len() == ROLES.len() || kills < ROLES.len());
}

#[test]
fn the_count_tells_an_effect_that_happened_twice() {
    let cluster = Cluster::start(script);
    for _ in 0..2 {
        cluster.run(&["ask", &Campaign::request(3).input]).succeeded();
    }
    let text = std::fs::read_to_string(cluster.workspace("appended.txt")).unwrap();
    assert_eq!(occurrences(&text, &word(3)), 2);
}
