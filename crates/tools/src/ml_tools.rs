//! `ml_tools.*`: training, examining and using small models, each in a confined process.

use std::sync::Arc;

use kamil_protocol::tool::SideEffect;
use kamil_sandbox::{Command, Outcome, Status};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    confinement::{self, Confinement},
    failure::Failure,
    ml::{
        metrics::{ClassScore, Evaluation},
        model::ModelKind,
    },
    tool::{About, Call, Product, Tool},
    worker::{self, Data, Evaluated, Job, Predicted, Trained, Worker},
};

const TIMEOUT_MS: u64 = 120_000;
/// Rows that one prediction may ask for.
const MAX_ROWS: usize = 500;

pub(crate) fn tools(confinement: &Arc<Confinement>, worker: &Worker) -> Result<Vec<Tool>, Failure> {
    let bench = Bench { confinement: Arc::clone(confinement), worker: worker.clone() };
    Ok(vec![train(bench.clone())?, evaluate(bench.clone())?, predict(bench)?])
}

#[derive(Clone)]
struct Bench {
    confinement: Arc<Confinement>,
    worker: Worker,
}

impl Bench {
    fn perform<R: DeserializeOwned>(&self, job: &Job, call: &Call) -> Result<(R, Vec<String>), Failure> {
        let mut command = Command::new(&self.worker.program, self.worker.args.iter());
        command.stdin = serde_json::to_vec(job).map_err(|error| {
            Failure::Internal(format!("the request to the worker cannot be written: {error}"))
        })?;
        let visible = [self.worker.program.clone()];
        let outcome = self.confinement.run(&command, &visible, call)?;
        match outcome.status {
            Status::Exited(0) => Ok((worker::parse_reply(&outcome.stdout)?, confinement::layers(&outcome))),
            _ => Err(died(&outcome)),
        }
    }
}

fn died(outcome: &Outcome) -> Failure {
    let said: String = String::from_utf8_lossy(&outcome.stderr).trim().chars().take(300).collect();
    let how = match outcome.status {
        Status::Signalled(signal) => confinement::signal_meaning(signal),
        _ => "it gave up",
    };
    Failure::failed_next(
        format!("the worker ended without a result ({how}) {said}").trim_end().to_owned(),
        "Try fewer rows or columns.",
    )
}

fn iris() -> String {
    "iris".to_owned()
}

const fn test_fraction() -> f64 {
    0.3
}

const fn seed() -> u64 {
    42
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TrainArguments {
    /// iris, breast_cancer, digits, or a CSV file of the workspace.
    #[serde(default = "iris")]
    #[schemars(length(min = 1))]
    dataset: String,
    /// Column to predict; empty: the last.
    #[serde(default)]
    target: String,
    #[serde(default)]
    model: ModelKind,
    #[serde(default = "test_fraction")]
    #[schemars(range(min = 0.05, max = 0.9))]
    test_fraction: f64,
    #[serde(default = "seed")]
    seed: u64,
    /// Columns to leave out.
    #[serde(default)]
    #[schemars(length(max = 200))]
    ignore: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct FeatureShare {
    feature: String,
    /// Share of all importance, 0–1.
    importance: f64,
}

#[derive(Serialize, JsonSchema)]
struct TrainResult {
    summary: String,
    dataset: String,
    model: ModelKind,
    /// The column that is predicted.
    target: String,
    /// How many columns it is predicted from.
    features: u64,
    n_train: u64,
    n_test: u64,
    /// Share of the test rows predicted right, 0–1.
    accuracy: f64,
    macro_f1: f64,
    /// What always guessing the commonest class would reach.
    baseline_accuracy: f64,
    /// On the test rows.
    per_class: Vec<ClassScore>,
    /// One row per true class, one column per predicted class, in the order of `classes`.
    confusion_matrix: Vec<Vec<u64>>,
    classes: Vec<String>,
    /// What a decision tree looks at most.
    important_features: Vec<FeatureShare>,
    /// The saved model, in the workspace.
    model_path: String,
    seed: u64,
}

fn train(bench: Bench) -> Result<Tool, Failure> {
    let about = About {
        name: "ml_tools.train",
        description: "Train a small classifier on a bundled data set or a CSV file, test it, save it.",
        side_effect: SideEffect::Write,
        // The same arguments give the same model, to the byte.
        idempotent: true,
        timeout_ms: TIMEOUT_MS,
        examples: vec![
            (
                "Train a model on the breast cancer data",
                json!({"dataset": "breast_cancer", "model": "decision_tree"}),
            ),
            (
                "Fit a logistic regression that predicts churn from customers.csv",
                json!({"dataset": "customers.csv", "target": "churn", "model": "logistic_regression"}),
            ),
        ],
    };
    Tool::new(about, move |arguments: TrainArguments, call| {
        let data = Data { name: arguments.dataset, target: arguments.target, ignore: arguments.ignore };
        let bundled = data.bundled().is_some();
        let (model, seed) = (arguments.model, arguments.seed);
        let job = Job::Train { data, model, test_fraction: arguments.test_fraction, seed };
        let (trained, layers): (Trained, _) = bench.perform(&job, call)?;
        let Evaluation { accuracy, correct, macro_f1, baseline_accuracy, per_class, confusion_matrix } =
            trained.evaluation;
        let summary = format!(
            "{} on {}: accuracy {accuracy} ({correct} of {} test rows right), trained on {} rows",
            model.name(),
            trained.dataset,
            trained.n_test,
            trained.n_train
        );
        let importances = trained.importances.into_iter();
        let result = TrainResult {
            summary,
            dataset: trained.dataset,
            model,
            target: trained.target,
            features: trained.features,
            n_train: trained.n_train,
            n_test: trained.n_test,
            accuracy,
            macro_f1,
            baseline_accuracy,
            classes: per_class.iter().map(|score| score.class.clone()).collect(),
            per_class,
            confusion_matrix,
            important_features: importances
                .map(|(feature, importance)| FeatureShare { feature, importance })
                .collect(),
            model_path: trained.saved,
            seed,
        };
        Ok(product(result, bundled).enforced(layers))
    })
}

/// Names of classes and columns come from the file, so that anyone who wrote it speaks through them.
fn product<R>(output: R, bundled: bool) -> Product<R> {
    if bundled { Product::computed(output) } else { Product::from_files(output) }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EvaluateArguments {
    /// A saved model, such as models/iris-decision_tree.json.
    #[schemars(length(min = 1))]
    model: String,
    /// iris, breast_cancer, digits, or a CSV file of the workspace.
    #[serde(default = "iris")]
    #[schemars(length(min = 1))]
    dataset: String,
}

#[derive(Serialize, JsonSchema)]
struct EvaluateResult {
    summary: String,
    dataset: String,
    model: ModelKind,
    rows: u64,
    /// Share of the rows predicted right, 0–1.
    accuracy: f64,
    macro_f1: f64,
    baseline_accuracy: f64,
    per_class: Vec<ClassScore>,
    /// One row per true class, one column per predicted class, in the order of `per_class`.
    confusion_matrix: Vec<Vec<u64>>,
    /// Whether the model was trained on part of this data, so that the figures flatter it.
    seen_in_training: bool,
}

fn evaluate(bench: Bench) -> Result<Tool, Failure> {
    let about = About {
        name: "ml_tools.evaluate",
        description: "Test a saved model on all rows of a data set.",
        side_effect: SideEffect::Read,
        idempotent: true,
        timeout_ms: TIMEOUT_MS,
        examples: vec![(
            "How good is the saved customers model on new.csv?",
            json!({"model": "models/customers-decision_tree.json", "dataset": "new.csv"}),
        )],
    };
    Tool::new(about, move |arguments: EvaluateArguments, call| {
        let data = Data { name: arguments.dataset, target: String::new(), ignore: Vec::new() };
        let (evaluated, layers): (Evaluated, _) =
            bench.perform(&Job::Evaluate { model: arguments.model, data }, call)?;
        let Evaluation { accuracy, correct, macro_f1, baseline_accuracy, per_class, confusion_matrix } =
            evaluated.evaluation;
        let (kind, rows, dataset) = (evaluated.kind, evaluated.rows, evaluated.dataset);
        let result = EvaluateResult {
            summary: format!(
                "{} on {dataset}: accuracy {accuracy} ({correct} of {rows} rows right)",
                kind.name()
            ),
            dataset,
            model: kind,
            rows,
            accuracy,
            macro_f1,
            baseline_accuracy,
            per_class,
            confusion_matrix,
            seen_in_training: evaluated.seen_in_training,
        };
        Ok(Product::from_files(result).enforced(layers))
    })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PredictArguments {
    /// A saved model, such as models/iris-decision_tree.json.
    #[schemars(length(min = 1))]
    model: String,
    /// Rows of numbers, in the order of the model's columns.
    #[schemars(length(min = 1, max = MAX_ROWS))]
    rows: Vec<Vec<f64>>,
}

#[derive(Serialize, JsonSchema)]
struct PredictResult {
    /// The column that is predicted.
    target: String,
    /// One class per row.
    predictions: Vec<String>,
}

fn predict(bench: Bench) -> Result<Tool, Failure> {
    let about = About {
        name: "ml_tools.predict",
        description: "Predict classes for rows of numbers with a saved model.",
        side_effect: SideEffect::Read,
        idempotent: true,
        timeout_ms: TIMEOUT_MS,
        examples: vec![(
            "Which iris species has measurements 5.1, 3.5, 1.4, 0.2?",
            json!({"model": "models/iris-decision_tree.json", "rows": [[5.1, 3.5, 1.4, 0.2]]}),
        )],
    };
    Tool::new(about, move |arguments: PredictArguments, call| {
        let job = Job::Predict { model: arguments.model, rows: arguments.rows };
        let (predicted, layers): (Predicted, _) = bench.perform(&job, call)?;
        let result = PredictResult { target: predicted.target, predictions: predicted.classes };
        Ok(Product::from_files(result).enforced(layers))
    })
}
