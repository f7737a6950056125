//! Fitting, saving and using a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartcore::{
    linalg::basic::matrix::DenseMatrix,
    linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters},
    tree::decision_tree_classifier::{DecisionTreeClassifier, DecisionTreeClassifierParameters},
};

use super::{dataset::Table, metrics};

/// Version of the file format.
const FORMAT: &str = "kamil-model/1";
/// Largest saved model that is read, in bytes.
pub(crate) const MAX_MODEL_BYTES: u64 = 16 << 20;
/// A tree grows no deeper, so that noise cannot make it as large as the table.
const MAX_TREE_DEPTH: u16 = 12;
/// Strength of the L2 penalty on standardised features.
const PENALTY: f64 = 1.0;

/// Why something could not be computed, for the person.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Reason {
    pub(crate) detail: String,
    pub(crate) next_step: Option<String>,
}

impl Reason {
    pub(crate) fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), next_step: None }
    }

    pub(crate) fn next(mut self, next_step: impl Into<String>) -> Self {
        self.next_step = Some(next_step.into());
        self
    }

    /// Names what there is instead, at most 20 of it.
    pub(crate) fn next_list(self, what: &str, names: &[String]) -> Self {
        let shown: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
        let more = if names.len() > shown.len() { ", …" } else { "" };
        self.next(format!("{what}: {}{more}.", shown.join(", ")))
    }

    pub(crate) fn csv(error: &csv::Error) -> Self {
        Self::new(format!("the file is not a CSV table: {error}"))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ModelKind {
    #[default]
    DecisionTree,
    LogisticRegression,
}

impl ModelKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::DecisionTree => "decision_tree",
            Self::LogisticRegression => "logistic_regression",
        }
    }
}

type Tree = DecisionTreeClassifier<f64, u32, DenseMatrix<f64>, Vec<u32>>;
type Regression = LogisticRegression<f64, u32, DenseMatrix<f64>, Vec<u32>>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Estimator {
    DecisionTree(Tree),
    LogisticRegression(Regression),
}

/// Mean and standard deviation of each feature in the rows that were trained on.
#[derive(Debug, Serialize, Deserialize)]
struct Scale {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Scale {
    fn of(rows: &[Vec<f64>]) -> Self {
        let count = rows.len().max(1) as f64;
        let width = rows.first().map_or(0, Vec::len);
        let column = |index: usize| rows.iter().map(move |row| row[index]);
        let mean: Vec<f64> = (0..width).map(|index| column(index).sum::<f64>() / count).collect();
        let deviation = (0..width)
            .map(|index| {
                let variance = column(index).map(|value| (value - mean[index]).powi(2)).sum::<f64>() / count;
                // A column that never changes carries nothing; dividing by 1 leaves it at zero.
                if variance > 0.0 { variance.sqrt() } else { 1.0 }
            })
            .collect();
        Self { mean, deviation }
    }

    fn apply(&self, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let scaled = |row: &Vec<f64>| {
            let columns = row.iter().zip(&self.mean).zip(&self.deviation);
            columns.map(|((value, mean), deviation)| (value - mean) / deviation).collect()
        };
        rows.iter().map(scaled).collect()
    }
}

/// A fitted model with all that is needed to use it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Model {
    format: String,
    pub(crate) kind: ModelKind,
    /// Name of the data it was trained on.
    pub(crate) dataset: String,
    pub(crate) target: String,
    pub(crate) features: Vec<String>,
    pub(crate) classes: Vec<String>,
    pub(crate) trained_rows: u64,
    pub(crate) seed: u64,
    scale: Option<Scale>,
    estimator: Estimator,
}

impl Model {
    /// Fits a model to the rows at `train`.
    pub(crate) fn fit(
        kind: ModelKind,
        dataset: &str,
        table: &Table,
        train: &[usize],
        seed: u64,
    ) -> Result<Self, Reason> {
        let (rows, labels) = table.select(train);
        let fault =
            |error: smartcore::error::Failed| Reason::new(format!("the model cannot be fitted: {error}"));
        let (scale, estimator) = match kind {
            ModelKind::DecisionTree => {
                let mut parameters =
                    DecisionTreeClassifierParameters::default().with_max_depth(MAX_TREE_DEPTH);
                parameters.seed = Some(seed);
                let tree = Tree::fit(&matrix(&rows)?, &labels, parameters).map_err(fault)?;
                (None, Estimator::DecisionTree(tree))
            }
            ModelKind::LogisticRegression => {
                let scale = Scale::of(&rows);
                let parameters = LogisticRegressionParameters::default().with_alpha(PENALTY);
                let regression =
                    Regression::fit(&matrix(&scale.apply(&rows))?, &labels, parameters).map_err(fault)?;
                (Some(scale), Estimator::LogisticRegression(regression))
            }
        };
        Ok(Self {
            format: FORMAT.to_owned(),
            kind,
            dataset: dataset.to_owned(),
            target: table.target.clone(),
            features: table.features.clone(),
            classes: table.classes.clone(),
            trained_rows: rows.len() as u64,
            seed,
            scale,
            estimator,
        })
    }

    /// Predicts a class for each row; rows have as many numbers as the model has features.
    pub(crate) fn predict(&self, rows: &[Vec<f64>]) -> Result<Vec<u32>, Reason> {
        if let Some(row) = rows.iter().find(|row| row.len() != self.features.len()) {
            return Err(Reason::new(format!(
                "a row has {} numbers, the model needs {}",
                row.len(),
                self.features.len()
            ))
            .next_list("In this order", &self.features));
        }
        let fault =
            |error: smartcore::error::Failed| Reason::new(format!("the model cannot predict: {error}"));
        let scaled = self.scale.as_ref().map(|scale| scale.apply(rows));
        let matrix = matrix(scaled.as_deref().unwrap_or(rows))?;
        match &self.estimator {
            Estimator::DecisionTree(tree) => tree.predict(&matrix),
            Estimator::LogisticRegression(regression) => regression.predict(&matrix),
        }
        .map_err(fault)
    }

    /// What the model looks at most: at most five features with their shares of all importance, largest first; for
    /// decision trees only.
    pub(crate) fn importances(&self) -> Vec<(String, f64)> {
        let Estimator::DecisionTree(tree) = &self.estimator else { return Vec::new() };
        let mut shares: Vec<(String, f64)> = self
            .features
            .iter()
            .cloned()
            .zip(tree.compute_feature_importances(true))
            .filter(|(_, share)| share.is_finite() && *share > 0.0)
            .map(|(feature, share)| (feature, metrics::rounded(share)))
            .collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        shares.truncate(5);
        shares
    }

    /// As a file.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, Reason> {
        serde_json::to_vec(self).map_err(|error| Reason::new(format!("the model cannot be saved: {error}")))
    }

    /// From a file.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, Reason> {
        let not_ours = |why: String| {
            Reason::new(format!("the file is not a saved model: {why}"))
                .next("ml_tools.train saves models in the folder models.")
        };
        let model: Self = serde_json::from_slice(bytes).map_err(|error| not_ours(error.to_string()))?;
        if model.format != FORMAT {
            return Err(not_ours(format!("its format is `{}`, not `{FORMAT}`", model.format)));
        }
        Ok(model)
    }
}

fn matrix(rows: &[Vec<f64>]) -> Result<DenseMatrix<f64>, Reason> {
    DenseMatrix::from_2d_vec(&rows.to_vec())
        .map_err(|error| Reason::new(format!("the rows do not make a table: {error}")))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{dataset::Bundled, metrics::Evaluation, split::stratified},
        *,
    };

    fn train(bundled: Bundled, kind: ModelKind, seed: u64) -> (Model, Evaluation) {
        let table = bundled.load();
        let (train, test) = stratified(&table.labels, table.classes.len(), 0.3, seed);
        let model = Model::fit(kind, bundled.name(), &table, &train, seed).unwrap();
        let (rows, truth) = table.select(&test);
        let evaluation = Evaluation::new(&table.classes, &truth, &model.predict(&rows).unwrap());
        (model, evaluation)
    }

    #[test]
    fn both_kinds_learn_iris_from_any_seed() {
        for kind in [ModelKind::DecisionTree, ModelKind::LogisticRegression] {
            let mut sum = 0.0;
            for seed in 0..10 {
                let (_, evaluation) = train(Bundled::Iris, kind, seed);
                assert!(evaluation.accuracy >= 0.84, "{kind:?} with seed {seed}: {}", evaluation.accuracy);
                assert_eq!(evaluation.confusion_matrix.iter().flatten().sum::<u64>(), 45);
                sum += evaluation.accuracy;
            }
            assert!(sum / 10.0 > 0.92, "{kind:?}: {} in the mean", sum / 10.0);
        }
    }

    #[test]
    fn a_run_repeats_to_the_byte_and_a_saved_model_predicts_the_same() {
        for kind in [ModelKind::DecisionTree, ModelKind::LogisticRegression] {
            let (model, evaluation) = train(Bundled::Iris, kind, 7);
            let (again, same) = train(Bundled::Iris, kind, 7);
            assert_eq!(evaluation, same);
            let saved = model.to_json().unwrap();
            assert_eq!(saved, again.to_json().unwrap());
            let rows = Bundled::Iris.load().rows;
            let loaded = Model::from_json(&saved).unwrap();
            assert_eq!(loaded.predict(&rows).unwrap(), model.predict(&rows).unwrap());
            assert!(loaded.predict(&[vec![1.0]]).unwrap_err().detail.contains("needs 4"));
        }
        assert!(Model::from_json(b"{}").unwrap_err().detail.contains("not a saved model"));
    }
}
