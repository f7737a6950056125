//! A table with numbers and one column of classes: bundled, or read from CSV.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::model::Reason;

/// Largest CSV file, in bytes.
pub(crate) const MAX_CSV_BYTES: u64 = 16 << 20;
const MAX_ROWS: usize = 100_000;
const MAX_FEATURES: usize = 200;
const MAX_CLASSES: usize = 50;
const MIN_ROWS: usize = 5;

/// The classic data sets that are in the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bundled {
    Iris,
    BreastCancer,
    Digits,
}

impl Bundled {
    pub(crate) const NAMES: &str = "iris, breast_cancer, digits";

    /// The data set of this name, as people write it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name.trim().to_lowercase().replace([' ', '-'], "_").trim_end_matches("_dataset") {
            "iris" => Some(Self::Iris),
            "breast_cancer" => Some(Self::BreastCancer),
            "digits" => Some(Self::Digits),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Iris => "iris",
            Self::BreastCancer => "breast_cancer",
            Self::Digits => "digits",
        }
    }

    /// The data, as published at <https://archive.ics.uci.edu>.
    pub(crate) fn load(self) -> Table {
        use smartcore::dataset;
        match self {
            Self::Iris => {
                let data = dataset::iris::load_dataset();
                Table::from_flat("species", &data.feature_names, &data.target_names, &data.data, &data.target)
            }
            Self::BreastCancer => {
                let data = dataset::breast_cancer::load_dataset();
                let classes = ["malignant", "benign"].map(str::to_owned);
                Table::from_flat("diagnosis", &data.feature_names, &classes, &data.data, &data.target)
            }
            Self::Digits => {
                let data = dataset::digits::load_dataset();
                let features: Vec<String> = (0..64).map(|pixel| format!("pixel {pixel}")).collect();
                let classes: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
                let target: Vec<u32> = data.target.iter().map(|class| f64::from(*class) as u32).collect();
                Table::from_flat("digit", &features, &classes, &data.data, &target)
            }
        }
    }
}

/// Rows of numbers, each with the index of its class.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) target: String,
    pub(crate) features: Vec<String>,
    pub(crate) classes: Vec<String>,
    pub(crate) rows: Vec<Vec<f64>>,
    pub(crate) labels: Vec<u32>,
}

impl Table {
    fn from_flat(
        target: &str,
        features: &[String],
        classes: &[String],
        data: &[f32],
        labels: &[u32],
    ) -> Self {
        let rows = data
            .chunks(features.len())
            // 5.1 as f32 is not 5.1 as f64; the decimal form is what was published.
            .map(|row| {
                row.iter().map(|value| value.to_string().parse().unwrap_or(f64::from(*value))).collect()
            })
            .collect();
        Self {
            target: target.to_owned(),
            features: features.to_vec(),
            classes: classes.to_vec(),
            rows,
            labels: labels.to_vec(),
        }
    }

    /// Reads CSV with a header; the delimiter is a comma, semicolon or tab, whichever the header has most of.
    /// `target` is the column of classes, empty for the last one; the columns in `ignore` are left out.
    pub(crate) fn from_csv(bytes: &[u8], target: &str, ignore: &[String]) -> Result<Self, Reason> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter(bytes))
            .trim(csv::Trim::All)
            .from_reader(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
        let header: Vec<String> =
            reader.headers().map_err(|error| Reason::csv(&error))?.iter().map(str::to_owned).collect();
        let columns = Columns::choose(&header, target, ignore)?;
        let mut table = Self {
            target: header[columns.target].clone(),
            features: columns.features.iter().map(|column| header[*column].clone()).collect(),
            classes: Vec::new(),
            rows: Vec::new(),
            labels: Vec::new(),
        };
        let mut names = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| Reason::csv(&error))?;
            let line = record.position().map_or(0, csv::Position::line);
            if table.rows.len() == MAX_ROWS {
                return Err(Reason::new(format!("the table has more than {MAX_ROWS} rows, the limit")));
            }
            let row = columns.features.iter().map(|column| {
                let text = &record[*column];
                number(text).ok_or_else(|| not_a_number(&header[*column], text, line))
            });
            table.rows.push(row.collect::<Result<_, _>>()?);
            let class = &record[columns.target];
            if class.is_empty() {
                return Err(Reason::new(format!("the column `{}` is empty in line {line}", table.target)));
            }
            names.push(class.to_owned());
        }
        table.name_classes(&names)?;
        Ok(table)
    }

    /// As [`from_csv`](Self::from_csv), with only those feature columns that a model knows.
    pub(crate) fn from_csv_for(bytes: &[u8], target: &str, features: &[String]) -> Result<Self, Reason> {
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter(bytes)).trim(csv::Trim::All).from_reader(bytes);
        let header = reader.headers().map_err(|error| Reason::csv(&error))?;
        let alike = |a: &str, b: &str| a.trim_start_matches('\u{feff}').eq_ignore_ascii_case(b);
        let ignore: Vec<String> = header
            .iter()
            .filter(|column| !alike(column, target) && !features.iter().any(|feature| alike(column, feature)))
            .map(|column| column.trim_start_matches('\u{feff}').to_owned())
            .collect();
        Self::from_csv(bytes, target, &ignore)
    }

    fn name_classes(&mut self, names: &[String]) -> Result<(), Reason> {
        if names.len() < MIN_ROWS {
            return Err(Reason::new(format!(
                "the table has {} rows; at least {MIN_ROWS} are needed",
                names.len()
            )));
        }
        let mut index: BTreeMap<&str, u32> = names.iter().map(|name| (name.as_str(), 0)).collect();
        if index.len() > MAX_CLASSES {
            return Err(Reason::new(format!(
                "the column `{}` has {} different values: too many for classes (at most {MAX_CLASSES})",
                self.target,
                index.len()
            ))
            .next("Choose a target column with few different values."));
        }
        if index.len() < 2 {
            return Err(Reason::new(format!("the column `{}` has the same value in every row", self.target)));
        }
        for (number, value) in (0..).zip(index.values_mut()) {
            *value = number;
        }
        self.labels = names.iter().map(|name| index[name.as_str()]).collect();
        self.classes = index.into_keys().map(str::to_owned).collect();
        Ok(())
    }

    /// The rows at these positions.
    pub(crate) fn select(&self, positions: &[usize]) -> (Vec<Vec<f64>>, Vec<u32>) {
        positions.iter().map(|position| (self.rows[*position].clone(), self.labels[*position])).unzip()
    }

    /// The same table with columns and classes in another model's order.
    pub(crate) fn arranged(self, features: &[String], classes: &[String]) -> Result<Self, Reason> {
        let columns: Vec<usize> = features
            .iter()
            .map(|feature| {
                position(&self.features, feature).ok_or_else(|| {
                    Reason::new(format!(
                        "the model needs a column `{feature}`, which the table does not have"
                    ))
                    .next_list("Its columns are", &self.features)
                })
            })
            .collect::<Result<_, _>>()?;
        let renamed: Vec<u32> = self
            .classes
            .iter()
            .map(|class| {
                position(classes, class).and_then(|index| u32::try_from(index).ok()).ok_or_else(|| {
                    Reason::new(format!("the table has a class `{class}` that the model does not know"))
                        .next_list("It knows", classes)
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            target: self.target,
            features: features.to_vec(),
            classes: classes.to_vec(),
            rows: self.rows.iter().map(|row| columns.iter().map(|column| row[*column]).collect()).collect(),
            labels: self.labels.iter().map(|label| renamed[*label as usize]).collect(),
        })
    }
}

struct Columns {
    target: usize,
    features: Vec<usize>,
}

impl Columns {
    fn choose(header: &[String], target: &str, ignore: &[String]) -> Result<Self, Reason> {
        let find = |name: &str| {
            position(header, name).ok_or_else(|| {
                Reason::new(format!("there is no column `{name}`")).next_list("The columns are", header)
            })
        };
        let target = if target.is_empty() {
            header.len().checked_sub(1).ok_or_else(|| Reason::new("the table has no columns"))?
        } else {
            find(target)?
        };
        let ignored = ignore.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
        let features: Vec<usize> =
            (0..header.len()).filter(|column| *column != target && !ignored.contains(column)).collect();
        match features.len() {
            0 => Err(Reason::new("no column is left to learn from")),
            1..=MAX_FEATURES => Ok(Self { target, features }),
            count => Err(Reason::new(format!(
                "the table has {count} feature columns; at most {MAX_FEATURES} will do"
            ))),
        }
    }
}

fn position(names: &[String], name: &str) -> Option<usize> {
    names.iter().position(|other| other == name).or_else(|| {
        let mut alike = (0..names.len()).filter(|index| names[*index].eq_ignore_ascii_case(name));
        alike.next().filter(|_| alike.next().is_none())
    })
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

fn not_a_number(column: &str, text: &str, line: u64) -> Reason {
    let found = if text.is_empty() {
        "is empty".to_owned()
    } else {
        format!("is `{}`, which is not a number,", text.chars().take(40).collect::<String>())
    };
    Reason::new(format!("the feature column `{column}` {found} in line {line}"))
        .next("Leave the column out with `ignore`, or fill it with numbers.")
}

fn delimiter(bytes: &[u8]) -> u8 {
    let header = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |delimiter: u8| header.iter().filter(|byte| **byte == delimiter).count();
    [b',', b';', b'\t'].into_iter().rev().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_data_is_what_was_published() {
        let iris = Bundled::Iris.load();
        assert_eq!((iris.rows.len(), iris.features.len(), iris.classes.len()), (150, 4, 3));
        assert_eq!(iris.rows[0], [5.1, 3.5, 1.4, 0.2]);
        assert_eq!(iris.classes[iris.labels[149] as usize], "virginica");
        for class in 0..3 {
            assert_eq!(iris.labels.iter().filter(|label| **label == class).count(), 50);
        }
        let cancer = Bundled::BreastCancer.load();
        assert_eq!((cancer.rows.len(), cancer.features.len()), (569, 30));
        // The publication counts 357 benign and 212 malignant cases.
        assert_eq!(
            cancer.labels.iter().filter(|label| cancer.classes[**label as usize] == "benign").count(),
            357
        );
        let digits = Bundled::Digits.load();
        assert_eq!((digits.rows.len(), digits.features.len(), digits.classes.len()), (1797, 64, 10));
        assert!(digits.labels.iter().all(|label| *label < 10));
    }

    #[test]
    fn faults_of_a_table_are_named() {
        let read = |text: &str, target: &str, ignore: &[&str]| {
            let ignore: Vec<String> = ignore.iter().map(|name| (*name).to_owned()).collect();
            Table::from_csv(text.as_bytes(), target, &ignore).map_err(|reason| reason.detail)
        };
        let good = "Ada;1.5;a\nBob;2;b\nCid;3;a\nDan;4;b\nEve;5;a\n";
        let table = read(&format!("name;x;kind\n{good}"), "", &["name"]).unwrap();
        assert_eq!((table.features, table.target), (vec!["x".to_owned()], "kind".to_owned()));
        assert_eq!(
            (table.classes, table.labels),
            (vec!["a".to_owned(), "b".to_owned()], vec![0, 1, 0, 1, 0])
        );
        let fault = read(&format!("name;x;kind\n{good}"), "", &[]).unwrap_err();
        assert!(fault.contains("`name`") && fault.contains("`Ada`") && fault.contains("line 2"), "{fault}");
        assert!(read(&format!("name;x;kind\n{good}"), "sort", &[]).unwrap_err().contains("no column `sort`"));
        assert!(read("x,y\n1,a\n2,b\n", "y", &[]).unwrap_err().contains("2 rows"));
        assert!(read("x,y\n1,a\n2,a\n3,a\n4,a\n5,a\n", "y", &[]).unwrap_err().contains("same value"));
        assert!(read("x,y\n1,a\n2\n", "y", &[]).unwrap_err().contains("line"));
        assert!(read("x,y\n1,a\nNaN,b\n3,a\n4,b\n5,a\n", "y", &[]).unwrap_err().contains("line 3"));
    }
}
