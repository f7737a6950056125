//! Training runs in a process of its own, confined, so that a deadline, a bound on memory or a caller who goes away
//! can end it at any moment. That process is the same binary, started with [`ARGUMENT`].

use std::{ffi::OsString, io::Read, path::Path, path::PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    failure::Failure,
    ml::{
        dataset::{Bundled, MAX_CSV_BYTES, Table},
        metrics::Evaluation,
        model::{MAX_MODEL_BYTES, Model, ModelKind, Reason},
        split,
    },
    workspace::{Workspace, WorkspacePath},
};

/// The argument that makes a process the worker.
pub const ARGUMENT: &str = "__ml-worker";
/// Longest request, in bytes.
const MAX_REQUEST_BYTES: u64 = 1 << 20;

/// The program that trains: a binary whose `main` begins with [`run_if_requested`], and the arguments that lead there.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Absolute path of the binary.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl Worker {
    /// A worker that is `program` with the one argument it needs.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: vec![ARGUMENT.into()] }
    }

    /// The running binary as its own worker.
    ///
    /// # Errors
    /// When the system cannot tell the path of the running binary.
    pub fn current() -> std::io::Result<Self> {
        std::env::current_exe().map(Self::new)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Job {
    Train { data: Data, model: ModelKind, test_fraction: f64, seed: u64 },
    Evaluate { model: String, data: Data },
    Predict { model: String, rows: Vec<Vec<f64>> },
}

/// Where the rows come from: the name of a bundled set, or a CSV file of the workspace.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Data {
    pub(crate) name: String,
    pub(crate) target: String,
    pub(crate) ignore: Vec<String>,
}

impl Data {
    /// Whether it is in the binary, and not a file that anyone may have written.
    pub(crate) fn bundled(&self) -> Option<Bundled> {
        Bundled::named(&self.name)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trained {
    pub(crate) dataset: String,
    pub(crate) target: String,
    pub(crate) features: u64,
    pub(crate) n_train: u64,
    pub(crate) n_test: u64,
    pub(crate) evaluation: Evaluation,
    pub(crate) importances: Vec<(String, f64)>,
    pub(crate) saved: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Evaluated {
    pub(crate) dataset: String,
    pub(crate) kind: ModelKind,
    pub(crate) rows: u64,
    pub(crate) evaluation: Evaluation,
    pub(crate) seen_in_training: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Predicted {
    pub(crate) target: String,
    pub(crate) classes: Vec<String>,
}

/// Reads what the worker has written.
pub(crate) fn parse_reply<R: DeserializeOwned>(stdout: &[u8]) -> Result<R, Failure> {
    let reply: Result<R, Reason> = serde_json::from_slice(stdout)
        .map_err(|error| Failure::Internal(format!("the worker's reply cannot be read: {error}")))?;
    reply.map_err(|reason| match reason.next_step {
        Some(next) => Failure::failed(format!("{}. {next}", reason.detail)),
        None => Failure::failed(reason.detail),
    })
}

/// Does the work and ends the process, if the process was started as a worker; else returns at once. To be called
/// first in `main`.
pub fn run_if_requested() {
    if std::env::args_os().nth(1).is_none_or(|argument| argument != ARGUMENT) {
        return;
    }
    std::process::exit(run());
}

/// The exit code: 0 when a reply was written, be it a fault.
fn run() -> i32 {
    let mut request = Vec::new();
    let reply = std::io::stdin()
        .take(MAX_REQUEST_BYTES)
        .read_to_end(&mut request)
        .map_err(|error| Reason::new(format!("the request cannot be read: {error}")))
        .and_then(|_| {
            serde_json::from_slice::<Job>(&request)
                .map_err(|error| Reason::new(format!("the request cannot be read: {error}")))
        })
        .and_then(|job| {
            let workspace = Workspace::open(Path::new(kamil_sandbox::WORKSPACE))
                .map_err(|error| Reason::new(format!("the workspace cannot be opened: {error}")))?;
            perform(&job, &workspace)
        });
    let written = serde_json::to_writer(std::io::stdout().lock(), &reply);
    i32::from(written.is_err())
}

fn perform(job: &Job, workspace: &Workspace) -> Result<serde_json::Value, Reason> {
    let value = match job {
        Job::Train { data, model, test_fraction, seed } => {
            serde_json::to_value(train(workspace, data, *model, *test_fraction, *seed)?)
        }
        Job::Evaluate { model, data } => serde_json::to_value(evaluate(workspace, model, data)?),
        Job::Predict { model, rows } => {
            let model = load(workspace, model)?;
            let labels = model.predict(rows)?;
            let classes = labels.iter().map(|label| model.classes[*label as usize].clone()).collect();
            serde_json::to_value(Predicted { target: model.target, classes })
        }
    };
    value.map_err(|error| Reason::new(format!("the reply cannot be written: {error}")))
}

fn train(
    workspace: &Workspace,
    data: &Data,
    kind: ModelKind,
    test_fraction: f64,
    seed: u64,
) -> Result<Trained, Reason> {
    let (name, table) = read_table(workspace, data)?;
    let (train, test) = split::stratified(&table.labels, table.classes.len(), test_fraction, seed);
    if test.is_empty() {
        return Err(Reason::new("no row is left to test on: every class has a single row"));
    }
    let model = Model::fit(kind, &name, &table, &train, seed)?;
    let (rows, truth) = table.select(&test);
    let evaluation = Evaluation::new(&table.classes, &truth, &model.predict(&rows)?);
    let stem: String = Path::new(&name)
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_alphanumeric() || c == '_' { c } else { '-' })
        .take(80)
        .collect();
    let path = parse(&format!("models/{stem}-{}.json", kind.name()))?;
    workspace.write(&path, &model.to_json()?, true).map_err(|failure| Reason::new(failure.to_string()))?;
    Ok(Trained {
        dataset: name,
        features: table.features.len() as u64,
        target: table.target,
        n_train: train.len() as u64,
        n_test: test.len() as u64,
        evaluation,
        importances: model.importances(),
        saved: path.to_string(),
    })
}

fn evaluate(workspace: &Workspace, model: &str, data: &Data) -> Result<Evaluated, Reason> {
    let model = load(workspace, model)?;
    let (name, table) = match data.bundled() {
        Some(bundled) => (bundled.name().to_owned(), bundled.load()),
        None => {
            let path = parse(&data.name)?;
            let bytes = read(workspace, &path, MAX_CSV_BYTES)?;
            let target = if data.target.is_empty() { &model.target } else { &data.target };
            (path.to_string(), Table::from_csv_for(&bytes, target, &model.features)?)
        }
    };
    let table = table.arranged(&model.features, &model.classes)?;
    let predicted = model.predict(&table.rows)?;
    Ok(Evaluated {
        seen_in_training: name == model.dataset,
        dataset: name,
        kind: model.kind,
        rows: table.rows.len() as u64,
        evaluation: Evaluation::new(&model.classes, &table.labels, &predicted),
    })
}

fn read_table(workspace: &Workspace, data: &Data) -> Result<(String, Table), Reason> {
    if let Some(bundled) = data.bundled() {
        return Ok((bundled.name().to_owned(), bundled.load()));
    }
    let path = parse(&data.name)?;
    let bytes = read(workspace, &path, MAX_CSV_BYTES).map_err(|reason| {
        let hint = format!("Name a CSV file of the workspace or a bundled data set: {}.", Bundled::NAMES);
        if reason.next_step.is_some() { reason.next(hint) } else { reason }
    })?;
    Ok((path.to_string(), Table::from_csv(&bytes, &data.target, &data.ignore)?))
}

fn load(workspace: &Workspace, path: &str) -> Result<Model, Reason> {
    Model::from_json(&read(workspace, &parse(path)?, MAX_MODEL_BYTES)?)
}

fn parse(path: &str) -> Result<WorkspacePath, Reason> {
    WorkspacePath::parse("path", path).map_err(|failure| Reason::new(failure.to_string()))
}

fn read(workspace: &Workspace, path: &WorkspacePath, limit: u64) -> Result<Vec<u8>, Reason> {
    workspace.read(path, limit).map_err(|failure| match failure {
        Failure::Failed { detail, next_step: Some(next) } => Reason::new(detail).next(next),
        other => Reason::new(other.to_string()),
    })
}
