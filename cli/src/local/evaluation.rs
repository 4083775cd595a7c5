//! `student-trainer evaluate` as a process of this machine, and its results.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{LocalError, LocalServices, OutputFolder};
use crate::{CliError, comparison::Figures, text_path::text_path};

/// Name of the teacher among the models.
pub(crate) const TEACHER: &str = "teacher";

/// The command line of `student-trainer evaluate`.
#[derive(Debug)]
pub(crate) struct Evaluate(Vec<String>);

/// The figures of all models on the same samples, which no training used.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Evaluation {
    /// Number of samples.
    pub samples: usize,
    /// The true class of every sample, if it has a label.
    pub labels: Vec<Option<usize>>,
    /// Figures by the names given on the command line.
    pub models: BTreeMap<String, ModelFigures>,
    /// The file that holds them.
    #[serde(skip)]
    file: PathBuf,
}

/// Figures of one model. Those of a live teacher's network are unknown.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct ModelFigures {
    /// Share of labelled samples that are classified correctly; absent without labels.
    pub accuracy: Option<f64>,
    /// Share of samples for which the teacher predicts the same class, 0 to 1.
    pub agreement: Option<f64>,
    /// Trainable parameters, including those of batch-norm.
    pub parameters: Option<u64>,
    /// Multiply-adds for one sample.
    pub multiply_adds: Option<u64>,
    /// Size of the weights file.
    pub bytes: Option<u64>,
    /// Latency of single samples, one at a time, on one thread.
    pub latency_us: Option<Latency>,
    /// The predicted class of every sample.
    pub predictions: Vec<usize>,
    /// The probability that the model gives this class, 0 to 1; absent in files of older builds.
    pub confidences: Option<Vec<f64>>,
    /// KL(teacher ‖ model) of every sample, in nats, at a temperature of 1; absent without a teacher.
    pub divergences: Option<Vec<f64>>,
}

/// Latency in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Latency {
    /// The median.
    pub p50: f64,
}

impl Evaluate {
    /// An evaluation of models beside [`TEACHER`]; `options` say what data and which teacher it uses.
    pub(crate) fn with(options: &[(&str, &str)]) -> Self {
        let mut arguments = vec!["evaluate".to_owned()];
        let teacher = ("--teacher", TEACHER);
        for (flag, value) in options.iter().chain([&teacher]) {
            arguments.extend([flag, value].map(|argument| (*argument).to_owned()));
        }
        Self(arguments)
    }

    /// Adds the artifact folder `path` under a name.
    pub(crate) fn model(self, name: &str, path: &Path) -> Result<Self, CliError> {
        self.named("--model", name, path)
    }

    /// Adds the ONNX file `path` under a name.
    pub(crate) fn onnx(self, name: &str, path: &Path) -> Result<Self, CliError> {
        self.named("--onnx", name, path)
    }

    /// Evaluates; the results are also in `folder`.
    pub(crate) async fn finish(
        self,
        services: &mut LocalServices,
        folder: &OutputFolder,
    ) -> Result<Evaluation, CliError> {
        let file = folder.join(Evaluation::FILE);
        let Self(mut arguments) = self;
        arguments.extend(["--output".to_owned(), text_path(&file)?.to_owned()]);
        services
            .finish("evaluate", "student-trainer", &arguments)
            .await?;
        Ok(Evaluation::read(file)?)
    }

    fn named(mut self, flag: &str, name: &str, path: &Path) -> Result<Self, CliError> {
        let value = format!("{name}={}", text_path(path)?);
        self.0.extend([flag.to_owned(), value]);
        Ok(self)
    }
}

impl Evaluation {
    /// Name of the file.
    pub(crate) const FILE: &str = "evaluation.json";

    /// Reads and checks the file that `evaluate` wrote.
    pub(crate) fn read(file: PathBuf) -> Result<Self, LocalError> {
        let wrong = |problem: String| LocalError::Evaluation {
            file: file.clone(),
            problem,
        };
        let json = std::fs::read(&file).map_err(|error| wrong(error.to_string()))?;
        let evaluation: Self =
            serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?;
        let counts = evaluation.models.iter().flat_map(|(name, model)| {
            let per_sample = [&model.confidences, &model.divergences];
            let known = per_sample.into_iter().flatten().map(Vec::len);
            let counts = known.chain([model.predictions.len()]);
            counts.map(move |count| (&**name, count))
        });
        for (name, count) in counts.chain([("labels", evaluation.labels.len())]) {
            if count != evaluation.samples {
                let samples = evaluation.samples;
                return Err(wrong(format!(
                    "{count} values of {name} for {samples} samples"
                )));
            }
        }
        Ok(Self { file, ..evaluation })
    }

    /// The figures of a model that was named on the command line.
    pub(crate) fn model(&self, name: &str) -> Result<&ModelFigures, LocalError> {
        self.models.get(name).ok_or_else(|| LocalError::Evaluation {
            file: self.file.clone(),
            problem: format!("`models.{name}` is missing"),
        })
    }

    /// Share of labelled samples that `predictions` classify correctly, 0 to 1.
    pub(crate) fn accuracy_of(&self, predictions: &[usize]) -> f64 {
        let labelled = self.labels.iter().zip(predictions);
        let labelled = labelled.filter_map(|(label, prediction)| Some((*label)? == *prediction));
        share(labelled)
    }
}

impl ModelFigures {
    /// Share of samples for which `predictions` are the same as this model's, 0 to 1.
    pub(crate) fn agreement_with(&self, predictions: &[usize]) -> f64 {
        let pairs = self.predictions.iter().zip(predictions);
        share(pairs.map(|(a, b)| a == b))
    }
}

impl From<&ModelFigures> for Figures {
    fn from(figures: &ModelFigures) -> Self {
        Self {
            accuracy: figures.accuracy,
            parameters: figures.parameters,
            bytes: figures.bytes,
            multiply_adds: figures.multiply_adds,
            agreement: figures.agreement,
            p50_us: figures.latency_us.map(|latency| latency.p50),
        }
    }
}

/// Share of true values; 0 if there is none.
fn share(values: impl Iterator<Item = bool>) -> f64 {
    let (mut all, mut hits) = (0_usize, 0_usize);
    for value in values {
        all += 1;
        hits += usize::from(value);
    }
    hits as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &str) -> Result<Evaluation, LocalError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(Evaluation::FILE);
        let json = format!(
            r#"{{"samples": 2, "labels": {labels}, "extra": 1, "models": {{"teacher": {{
                "accuracy": 0.5, "parameters": 7, "multiply_adds": 8, "bytes": 9, "agreement": 1.0,
                "latency_us": {{"p50": 12.5}}, "predictions": [1, 2]}}}}}}"#
        );
        std::fs::write(&file, json).unwrap();
        Evaluation::read(file)
    }

    #[test]
    fn figures_are_found_by_name() {
        let evaluation = read("[1, 0]").unwrap();
        let teacher = evaluation.model("teacher").unwrap();
        assert_eq!(Figures::from(teacher).p50_us, Some(12.5));
        let error = evaluation.model("student").unwrap_err().to_string();
        assert!(error.contains("`models.student`"), "{error}");
    }

    #[test]
    fn counts_must_agree() {
        let error = read("[1]").unwrap_err().to_string();
        assert!(
            error.contains(Evaluation::FILE) && error.contains("1 values of labels"),
            "{error}"
        );
        assert!(read("[1, ").is_err());
    }

    #[test]
    fn accuracy_is_of_labelled_samples_and_agreement_of_all() {
        let evaluation = read("[null, 2]").unwrap();
        assert_eq!(evaluation.accuracy_of(&[0, 2]), 1.0);
        assert_eq!(read("[null, null]").unwrap().accuracy_of(&[0, 2]), 0.0);
        let teacher = evaluation.model("teacher").unwrap();
        assert_eq!(teacher.agreement_with(&[0, 2]), 0.5);
    }
}
