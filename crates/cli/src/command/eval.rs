//! `kamil eval`: what the planner makes of a set of requests whose right calls are known.
//!
//! Every item goes through `POST /v1/plans/preview`, which plans as for a task; its tools take the place of the registered ones, and
//! nothing is run. With `--plain` the same model is asked without any help: the measure for what the planner adds.

mod gold;
mod plain;

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kamil_node::{Client, Home};
use kamil_protocol::{
    ErrorCode, Problem,
    node::Role,
    planning::{PlanPreviewReply, PlanPreviewRequest},
    task::{StepKind, StepSpec},
};
use serde_json::{Map, Value, json};

use self::gold::Item;
use crate::{
    arguments::{EvalFlags, EvalSet, EvalSubject},
    context::Context,
    failure::{Exit, Failure},
    hub::Hub,
    models,
    single_process::Services,
    stopping::Requests,
    terminal,
};

/// Longest time for one item.
const ITEM_WITHIN: Duration = Duration::from_secs(1_200);

pub(super) async fn run(context: &Context, flags: EvalFlags) -> Result<Exit, Failure> {
    let (EvalSubject::Tools(set) | EvalSubject::Plans(set)) = &flags.subject;
    let limit = set.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let items = gold::read(&set.gold, limit)?;
    let done = predicted(&set.out)?;
    let left: Vec<&Item> = items.iter().filter(|item| !done.contains(&item.id)).collect();
    terminal::note(format_args!("{} of {} items are left", left.len(), items.len()));
    if left.is_empty() {
        return Ok(Exit::Done);
    }
    let mut out = Predictions::open(&set.out)?;
    models::make_ready(context, Some(&set.model)).await?;
    let context = apart(context)?;
    let services = Services { resumes: false, ..Services::only(&[Role::Llm]) };
    let hub = Hub::local(&context, services.with_model(Some(set.model.clone()))).await?;
    let mut stop = Requests::listen();
    let exit = tokio::select! {
        ended = all(&hub.client, &flags.subject, set, &left, &mut out) => ended.map(|()| Exit::Done),
        () = stop.next() => {
            terminal::note("stopped; the same command goes on from here");
            Ok(Exit::Failed)
        }
    };
    hub.close().await;
    exit
}

async fn all(
    client: &Client,
    subject: &EvalSubject,
    set: &EvalSet,
    items: &[&Item],
    out: &mut Predictions,
) -> Result<(), Failure> {
    let client = client.with_timeout(ITEM_WITHIN);
    let begun = Instant::now();
    let mut invalid = 0;
    for (number, item) in items.iter().enumerate() {
        let started = Instant::now();
        let mut prediction = if set.plain {
            plain::predict(&client, &set.model, subject, item).await
        } else {
            planned(&client, subject, item).await
        }
        .map_err(|problem| not_planned(item, problem))?;
        prediction.insert("id".to_owned(), json!(item.id));
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        prediction.insert("ms".to_owned(), json!(ms));
        invalid += u64::from(prediction.get("valid") == Some(&json!(false)));
        out.append(&Value::Object(prediction))?;
        let made = number + 1;
        let per_item = begun.elapsed() / u32::try_from(made).unwrap_or(u32::MAX);
        let left = per_item * u32::try_from(items.len() - made).unwrap_or(u32::MAX);
        terminal::note(format_args!(
            "{made}/{} {} {:.1} s; about {} min left",
            items.len(),
            item.id,
            started.elapsed().as_secs_f64(),
            left.as_secs().div_ceil(60)
        ));
    }
    terminal::note(format_args!(
        "{} of {} predictions hold a call that its tool's schema refuses",
        invalid,
        items.len()
    ));
    Ok(())
}

fn not_planned(item: &Item, problem: Problem) -> Failure {
    let code = problem.code;
    let failure = Failure::from(problem);
    Failure::new(failure.exit, format!("item `{}`: {failure}", item.id)).next(match code {
        ErrorCode::ContextExceeded => "leave the item out of the set",
        _ => "the same command goes on from here",
    })
}

async fn planned(client: &Client, subject: &EvalSubject, item: &Item) -> Result<Map<String, Value>, Problem> {
    let asked = PlanPreviewRequest { request: item.request(), tools: Some(item.tools.clone()) };
    let told: PlanPreviewReply = client.post("/v1/plans/preview", &asked).await?;
    let steps: Vec<&StepSpec> = told.steps.iter().filter(|step| step.kind == StepKind::Tool).collect();
    let mut prediction = Map::new();
    match subject {
        EvalSubject::Tools(_) => {
            // A call that needs another's result comes in a later turn.
            let now = steps.iter().filter(|step| gold::sources(&step.inputs).is_empty());
            let calls = now.map(|step| json!({"name": step.tool, "args": step.inputs}));
            prediction.insert("calls".to_owned(), calls.collect());
        }
        EvalSubject::Plans(_) => prediction.append(&mut gold::graph(&steps)),
    }
    prediction.insert("valid".to_owned(), json!(gold::all_valid(&item.tools, &steps)));
    prediction.insert("asked".to_owned(), json!(told.asked));
    prediction.insert("refused".to_owned(), json!(told.refused));
    prediction.insert("tokens_in".to_owned(), json!(told.usage.tokens_in));
    prediction.insert("tokens_out".to_owned(), json!(told.usage.tokens_out));
    prediction.insert("tokens_forced".to_owned(), json!(told.usage.tokens_forced));
    Ok(prediction)
}

/// A folder of its own within Kamil's, so that what is measured leaves no trace in the journal and the memory of the person.
fn apart(context: &Context) -> Result<Context, Failure> {
    let cannot = |what: &Path, error: &dyn std::fmt::Display| {
        Failure::failed(format!("{} cannot be used: {error}", what.display()))
    };
    let folder = context.home.path().join("eval");
    let models = folder.join("models");
    std::fs::create_dir_all(&folder).map_err(|error| cannot(&folder, &error))?;
    if models.read_link().ok().as_deref() != Some(&context.home.models()) {
        let _ = std::fs::remove_file(&models);
        std::os::unix::fs::symlink(context.home.models(), &models)
            .map_err(|error| cannot(&models, &error))?;
    }
    let home = Home::resolve(Some(folder.clone())).map_err(|error| cannot(&folder, &error))?;
    Ok(context.at(home))
}

/// The ids that a file of predictions holds already; a last line that was cut off counts for nothing.
fn predicted(path: &Path) -> Result<BTreeSet<String>, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(Failure::usage(format!("{} cannot be read: {error}", path.display()))),
    };
    let mut ids = BTreeSet::new();
    for line in BufReader::new(file).lines() {
        let line =
            line.map_err(|error| Failure::usage(format!("{} cannot be read: {error}", path.display())))?;
        let id = serde_json::from_str::<Value>(&line).ok();
        ids.extend(id.and_then(|line| line.get("id")?.as_str().map(str::to_owned)));
    }
    Ok(ids)
}

/// The file of predictions, a line each, every line durable before the next item.
struct Predictions {
    path: PathBuf,
    file: File,
}

impl Predictions {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(|error| Failure::usage(format!("{} cannot be written: {error}", path.display())))?;
        let mut predictions = Self { path: path.to_owned(), file };
        let text = std::fs::read(path).unwrap_or_default();
        if text.last().is_some_and(|last| *last != b'\n') {
            predictions.write("\n")?;
        }
        Ok(predictions)
    }

    fn append(&mut self, prediction: &Value) -> Result<(), Failure> {
        self.write(&format!("{prediction}\n"))
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written
            .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", self.path.display())))
    }
}
