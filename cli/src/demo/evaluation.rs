//! The results of `student-trainer evaluate` on the test split.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::DemoError;

/// The figures of all models on the same images.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Evaluation {
    /// Number of images.
    pub samples: usize,
    /// Figures by the names given on the command line.
    models: BTreeMap<String, ModelFigures>,
    /// The true class of every image.
    pub labels: Vec<usize>,
}

/// Figures of one model.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ModelFigures {
    /// Fraction of correct predictions, 0 to 1.
    pub accuracy: f64,
    /// Trainable parameters, including those of batch-norm.
    pub parameters: u64,
    /// Multiply-adds per image.
    pub multiply_adds: u64,
    /// Size of the weights file.
    pub bytes: u64,
    /// Fraction of images for which the teacher predicts the same class, 0 to 1.
    pub agreement: f64,
    /// Latency of single images, one at a time.
    pub latency_us: Latency,
    /// The predicted class of every image.
    pub predictions: Vec<usize>,
}

/// Latency in microseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Latency {
    /// The median.
    pub p50: f64,
}

impl Evaluation {
    /// Reads and checks the file that `evaluate` wrote.
    pub(super) fn read(file: &Path) -> Result<Self, DemoError> {
        let wrong = |problem: String| DemoError::Evaluation {
            file: file.to_owned(),
            problem,
        };
        let json = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
        let evaluation: Self =
            serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?;
        let counts = evaluation
            .models
            .iter()
            .map(|(name, model)| (&**name, model.predictions.len()));
        for (name, count) in counts.chain([("labels", evaluation.labels.len())]) {
            if count != evaluation.samples {
                let samples = evaluation.samples;
                return Err(wrong(format!(
                    "{count} values of {name} for {samples} images"
                )));
            }
        }
        Ok(evaluation)
    }

    /// The figures of a model that was named on the command line.
    pub(super) fn model(&self, name: &str, file: &Path) -> Result<&ModelFigures, DemoError> {
        self.models.get(name).ok_or_else(|| DemoError::Evaluation {
            file: file.to_owned(),
            problem: format!("`models.{name}` is missing"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &str) -> Result<Evaluation, DemoError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("evaluation.json");
        let json = format!(
            r#"{{"samples": 2, "labels": {labels}, "extra": 1, "models": {{"teacher": {{
                "accuracy": 0.5, "parameters": 7, "multiply_adds": 8, "bytes": 9, "agreement": 1.0,
                "latency_us": {{"p50": 12.5}}, "predictions": [1, 2]}}}}}}"#
        );
        std::fs::write(&file, json).unwrap();
        Evaluation::read(&file)
    }

    #[test]
    fn figures_are_found_by_name() {
        let evaluation = read("[1, 0]").unwrap();
        let file = Path::new("e.json");
        assert_eq!(
            evaluation.model("teacher", file).unwrap().latency_us.p50,
            12.5
        );
        let error = evaluation.model("student", file).unwrap_err().to_string();
        assert!(error.contains("`models.student`"), "{error}");
    }

    #[test]
    fn counts_must_agree() {
        let error = read("[1]").unwrap_err().to_string();
        assert!(
            error.contains("evaluation.json") && error.contains("1 values of labels"),
            "{error}"
        );
        assert!(read("[1, ").is_err());
    }
}
