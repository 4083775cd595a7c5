//! `summary.json` and the table of `retort distill`.

use std::collections::BTreeMap;

use indicatif::HumanCount;
use serde::Serialize;

use super::{DistillArguments, data::Data};
use crate::{
    command_line,
    comparison::{Figures, Row, table},
    local::{Evaluation, TEACHER},
};

/// Incremented when a key changes its meaning or is removed.
const FORMAT_VERSION: u32 = 1;

/// Every figure of a distillation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    format_version: u32,
    retort_version: &'static str,
    /// The command line.
    command: String,
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
        evaluation: &Evaluation,
        seconds: f64,
    ) -> Self {
        let (training_samples, labelled_samples) = data.training_samples();
        Self {
            format_version: FORMAT_VERSION,
            retort_version: env!("CARGO_PKG_VERSION"),
            command: command_line::of_this_process(),
            teacher: arguments.teacher.clone(),
            data: data.path.display().to_string(),
            training_samples,
            labelled_samples,
            seed: arguments.seed,
            test_samples: evaluation.samples,
            models: evaluation
                .models
                .iter()
                .map(|(name, figures)| (name.clone(), figures.into()))
                .collect(),
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
        const NAMES: [(&str, &str); 5] = [
            (TEACHER, "teacher"),
            ("distilled", "student, distilled"),
            ("student", "student, at the end"),
            ("exported", "student, exported (ONNX)"),
            ("int8", "student, int8 (ONNX)"),
        ];
        let known = NAMES
            .iter()
            .filter_map(|(key, name)| Some(Row::new(*name, self.models.get(*key)?)));
        let samples = HumanCount(self.test_samples as u64);
        let rows: Vec<Row> = known.collect();
        format!(
            "{}  ({samples} samples that no training used)",
            table(&rows)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_evaluated_models_and_the_number_of_samples() {
        let student = Figures {
            accuracy: Some(0.25),
            ..Figures::default()
        };
        let summary = Summary {
            format_version: FORMAT_VERSION,
            retort_version: "0",
            command: "retort distill".into(),
            teacher: "t.onnx".into(),
            data: "photos".into(),
            training_samples: 3,
            labelled_samples: 0,
            seed: 1,
            test_samples: 1234,
            models: BTreeMap::from([
                (TEACHER.to_owned(), Figures::default()),
                ("student".to_owned(), student),
            ]),
            seconds: 1.0,
        };
        let table = summary.table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[2].contains("student, at the end") && lines[2].contains("25.00 %"));
        assert!(lines[3].contains("1,234"));
    }
}
