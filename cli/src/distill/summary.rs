//! `summary.json` and the table of `retort distill`.

use std::{collections::BTreeMap, path::Path};

use indicatif::{DecimalBytes, HumanCount};
use serde::{Deserialize, Serialize};

use super::{DistillArguments, data::Data};
use crate::CliError;

/// Incremented when a key changes its meaning or is removed.
const FORMAT_VERSION: u32 = 1;

/// The result of `student-trainer evaluate`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Evaluation {
    /// Number of samples.
    samples: usize,
    /// Figures by model.
    models: BTreeMap<String, Figures>,
}

/// Figures of one model. Those of the teacher's network are unknown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Figures {
    /// Share of labelled samples that are classified correctly; absent without labels.
    accuracy: Option<f64>,
    /// Share of samples that get the teacher's class.
    agreement: Option<f64>,
    /// Trainable parameters.
    parameters: Option<u64>,
    /// Multiply-adds for one sample.
    multiply_adds: Option<u64>,
    /// Size of the file, bytes.
    bytes: Option<u64>,
    /// Time of one sample on one thread, microseconds.
    latency_us: Option<Latency>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Latency {
    /// Median.
    p50: f64,
}

impl Evaluation {
    /// Reads the file that `evaluate` wrote.
    pub(super) fn read(file: &Path) -> Result<Self, CliError> {
        let json = std::fs::read(file).map_err(CliError::file(file))?;
        let parsed = serde_json::from_slice(&json);
        parsed.map_err(|error| CliError::file(file)(error.into()))
    }
}

/// Every figure of a distillation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    format_version: u32,
    retort_version: &'static str,
    teacher: String,
    data: String,
    training_samples: usize,
    labelled_samples: usize,
    seed: u64,
    /// Samples that the models were evaluated on; no training used them.
    test_samples: usize,
    models: BTreeMap<String, Figures>,
    /// Wall-clock time of the run.
    seconds: f64,
}

impl Summary {
    /// The figures of a distillation whose run took `seconds`.
    pub(super) fn new(
        arguments: &DistillArguments,
        data: &Data,
        evaluation: Evaluation,
        seconds: f64,
    ) -> Self {
        let (training_samples, labelled_samples) = data.training_samples();
        Self {
            format_version: FORMAT_VERSION,
            retort_version: env!("CARGO_PKG_VERSION"),
            teacher: arguments.teacher.clone(),
            data: data.path.display().to_string(),
            training_samples,
            labelled_samples,
            seed: arguments.seed,
            test_samples: evaluation.samples,
            models: evaluation.models,
            seconds,
        }
    }

    /// Pretty JSON with a final newline.
    pub(super) fn to_json(&self) -> Vec<u8> {
        // Cannot fail: every key is a string, and NaN becomes null.
        let mut json = serde_json::to_vec_pretty(self).expect("a summary serializes");
        json.push(b'\n');
        json
    }

    /// The table for a terminal, each line indented by two.
    pub(super) fn table(&self) -> String {
        const NAMES: [(&str, &str); 4] = [
            ("teacher", "teacher"),
            ("distilled", "student, distilled"),
            ("student", "student, at the end"),
            ("exported", "student, exported (ONNX)"),
        ];
        let mut text = format!(
            "  {:<24}  {:>9}  {:>10}  {:>10}  {:>10}  {:>13}  {:>9}\n",
            "", "accuracy", "as teacher", "parameters", "file size", "multiply-adds", "latency"
        );
        for (key, name) in NAMES {
            let Some(figures) = self.models.get(key) else {
                continue;
            };
            let cell = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
            text += &format!(
                "  {name:<24}  {:>9}  {:>10}  {:>10}  {:>10}  {:>13}  {:>9}\n",
                cell(figures.accuracy.map(percent)),
                cell(figures.agreement.map(percent)),
                cell(
                    figures
                        .parameters
                        .map(|count| HumanCount(count).to_string())
                ),
                cell(figures.bytes.map(|bytes| DecimalBytes(bytes).to_string())),
                cell(
                    figures
                        .multiply_adds
                        .map(|count| format!("{:.2} M", count as f64 / 1e6))
                ),
                cell(
                    figures
                        .latency_us
                        .map(|latency| format!("{:.0} µs", latency.p50))
                ),
            );
        }
        text + &format!(
            "  ({} samples that no training used)",
            HumanCount(self.test_samples as u64)
        )
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_figures_are_dashes_and_columns_are_aligned() {
        let figures = |accuracy, parameters| Figures {
            accuracy,
            agreement: Some(0.5),
            parameters,
            multiply_adds: None,
            bytes: None,
            latency_us: parameters.map(|_| Latency { p50: 12.3 }),
        };
        let summary = Summary {
            format_version: FORMAT_VERSION,
            retort_version: "0",
            teacher: "t.onnx".into(),
            data: "photos".into(),
            training_samples: 3,
            labelled_samples: 0,
            seed: 1,
            test_samples: 1234,
            models: BTreeMap::from([
                ("teacher".to_owned(), figures(None, None)),
                ("student".to_owned(), figures(Some(0.25), Some(9_000))),
            ]),
            seconds: 1.0,
        };
        let table = summary.table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        let width = lines[0].chars().count();
        assert!(
            lines[..3].iter().all(|line| line.chars().count() == width),
            "{table}"
        );
        assert!(
            lines[1].contains("–") && lines[2].contains("25.00 %"),
            "{table}"
        );
        assert!(
            lines[2].contains("9,000") && lines[2].contains("12 µs"),
            "{table}"
        );
        assert!(lines[3].contains("1,234"));
    }
}
