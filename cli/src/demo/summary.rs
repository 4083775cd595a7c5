//! `summary.json`: every figure of a demo. docs/summary.md documents its keys.

use serde::Serialize;

use crate::comparison::Figures;

/// Incremented when a key changes its meaning or is removed.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Every figure of a demo; accuracies and agreements are fractions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    pub format_version: u32,
    pub retort_version: &'static str,
    pub seed: u64,
    pub quick: bool,
    pub test_samples: usize,
    pub teacher: Figures,
    pub baseline: Figures,
    pub distilled: Figures,
    pub student: Figures,
    pub exported: Figures,
    pub served: ServedModelFigures,
    pub seconds: Seconds,
}

/// The model as the inference service serves it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct ServedModelFigures {
    pub accuracy: f64,
    pub agreement: f64,
    pub inference_count: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub images_per_second: f64,
}

/// Wall-clock time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Seconds {
    pub start: f64,
    pub teacher: f64,
    pub baseline: f64,
    pub student: f64,
    pub distill: f64,
    pub fine_tune: f64,
    pub evaluate: f64,
    pub serve: f64,
    pub total: f64,
}

impl Summary {
    /// Pretty JSON with a final newline.
    pub(super) fn to_json(&self) -> Vec<u8> {
        // Cannot fail: every key is a string, and NaN becomes null.
        let mut json = serde_json::to_vec_pretty(self).expect("a summary serializes");
        json.push(b'\n');
        json
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    pub(in crate::demo) fn example() -> Summary {
        let model = Figures {
            accuracy: Some(0.9045),
            parameters: Some(39_154),
            multiply_adds: Some(1_234_567),
            bytes: Some(157_000),
            agreement: Some(0.95),
            p50_us: Some(210.4),
        };
        Summary {
            format_version: FORMAT_VERSION,
            retort_version: env!("CARGO_PKG_VERSION"),
            seed: 1,
            quick: false,
            test_samples: 10_000,
            teacher: model,
            baseline: model,
            distilled: model,
            student: model,
            exported: model,
            served: ServedModelFigures {
                accuracy: 0.9045,
                agreement: 0.95,
                inference_count: 10_000,
                p50_us: 400.0,
                p99_us: 900.0,
                images_per_second: 4_000.0,
            },
            seconds: Seconds::default(),
        }
    }

    fn keys(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
        for (key, value) in value.as_object().unwrap() {
            let path = format!("{prefix}{key}");
            match value {
                Value::Object(_) => keys(value, &format!("{path}."), found),
                _ => {
                    found.insert(path);
                }
            }
        }
    }

    /// The first cells of the document's tables; `MODEL` stands for each of the five models.
    fn documented() -> BTreeSet<String> {
        let text = include_str!("../../../docs/summary.md");
        let cells = text.lines().filter_map(|line| line.strip_prefix("| `"));
        let names = cells.filter_map(|rest| rest.split('`').next());
        let models = ["teacher", "baseline", "distilled", "student", "exported"];
        names
            .flat_map(|name| match name.strip_prefix("MODEL.") {
                Some(key) => models.map(|model| format!("{model}.{key}")).to_vec(),
                None => vec![name.to_owned()],
            })
            .collect()
    }

    #[test]
    fn the_document_lists_exactly_the_written_keys() {
        let mut written = BTreeSet::new();
        keys(
            &serde_json::from_slice(&example().to_json()).unwrap(),
            "",
            &mut written,
        );
        assert_eq!(written, documented());
    }
}
