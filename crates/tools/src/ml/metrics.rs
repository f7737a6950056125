//! How good the predictions are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Decimal places that are reported.
const PLACES: f64 = 1e4;

/// Precision, recall and F1 of one class, 0–1 to four places; 0 where a share of nothing would be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ClassScore {
    pub(crate) class: String,
    pub(crate) precision: f64,
    pub(crate) recall: f64,
    pub(crate) f1: f64,
    /// Rows that are of this class.
    pub(crate) rows: u64,
}

/// Predictions compared with the truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Evaluation {
    /// Share of rows predicted right, 0–1.
    pub(crate) accuracy: f64,
    /// Rows predicted right.
    pub(crate) correct: u64,
    /// Mean of the classes' F1.
    pub(crate) macro_f1: f64,
    /// What always guessing the commonest class would reach.
    pub(crate) baseline_accuracy: f64,
    pub(crate) per_class: Vec<ClassScore>,
    /// One row per true class, one column per predicted class, in the order of `per_class`.
    pub(crate) confusion_matrix: Vec<Vec<u64>>,
}

impl Evaluation {
    /// Compares; labels are below `classes.len()`.
    pub(crate) fn new(classes: &[String], truth: &[u32], predicted: &[u32]) -> Self {
        let mut matrix = vec![vec![0u64; classes.len()]; classes.len()];
        for (truth, predicted) in truth.iter().zip(predicted) {
            matrix[*truth as usize][*predicted as usize] += 1;
        }
        let total: u64 = matrix.iter().flatten().sum();
        let per_class: Vec<ClassScore> = classes
            .iter()
            .enumerate()
            .map(|(index, class)| {
                let right = matrix[index][index];
                let rows: u64 = matrix[index].iter().sum();
                let claimed: u64 = matrix.iter().map(|row| row[index]).sum();
                ClassScore {
                    class: class.clone(),
                    precision: share(right, claimed),
                    recall: share(right, rows),
                    f1: share(2 * right, rows + claimed),
                    rows,
                }
            })
            .collect();
        let correct = (0..classes.len()).map(|index| matrix[index][index]).sum();
        let commonest = per_class.iter().map(|score| score.rows).max().unwrap_or(0);
        let macro_f1 = per_class.iter().map(|score| score.f1).sum::<f64>() / classes.len().max(1) as f64;
        Self {
            accuracy: share(correct, total),
            correct,
            macro_f1: rounded(macro_f1),
            baseline_accuracy: share(commonest, total),
            per_class,
            confusion_matrix: matrix,
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { rounded(part as f64 / whole as f64) }
}

pub(crate) fn rounded(value: f64) -> f64 {
    (value * PLACES).round() / PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_worked_out_by_hand() {
        let classes = ["a", "b", "c"].map(str::to_owned);
        let truth = [0, 0, 0, 1, 1, 1, 1, 2];
        let predicted = [0, 0, 1, 1, 1, 1, 0, 1];
        let evaluation = Evaluation::new(&classes, &truth, &predicted);
        assert_eq!(evaluation.confusion_matrix, [[2, 1, 0], [1, 3, 0], [0, 1, 0]]);
        assert_eq!((evaluation.correct, evaluation.accuracy, evaluation.baseline_accuracy), (5, 0.625, 0.5));
        let b = &evaluation.per_class[1];
        assert_eq!((b.precision, b.recall, b.f1, b.rows), (0.6, 0.75, 0.6667, 4));
        let c = &evaluation.per_class[2];
        assert_eq!((c.precision, c.recall, c.f1, c.rows), (0.0, 0.0, 0.0, 1));
        assert_eq!(evaluation.macro_f1, 0.4445);
    }
}
