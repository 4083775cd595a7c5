//! The data to distil on.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use common::output::Narration;
use datasets::{Normalization, Opened, SampleKind, Source};
use indicatif::HumanCount;

use super::{DistillArguments, DistillError, Student};
use crate::{CliError, class_list::shown, data_set, text_path::text_path};

/// Samples that the normalization is computed from.
const NORMALIZED_SAMPLES: usize = 2_000;
/// Files that are named if they cannot be read.
const NAMED_FILES: usize = 5;

/// An opened data set, and how a student sees it.
pub(super) struct Data {
    /// Absolute.
    pub(super) path: PathBuf,
    /// Name of the format, if it was given.
    pub(super) format: Option<String>,
    /// Shape of one sample of the student's input.
    pub(super) input: Vec<usize>,
    /// Of the training images; the trainer standardizes rows itself.
    pub(super) normalization: Option<Normalization>,
    opened: Opened,
}

impl Data {
    /// Opens the data, which reads every sample once, and prints what it has.
    pub(super) fn open(arguments: &DistillArguments) -> Result<Self, CliError> {
        let path = arguments.data.canonicalize();
        let path = path.map_err(CliError::file(&arguments.data))?;
        text_path(&path)?;
        let opened = data_set::open(&path, arguments.format.as_deref(), arguments.ground)?;
        let input = input_shape(arguments, &path, opened.train.kind())?;
        let normalization = match opened.train.kind() {
            SampleKind::Image { .. } => {
                let estimated = Normalization::estimate(&*opened.train, &input, NORMALIZED_SAMPLES);
                Some(estimated.map_err(datasets::DatasetError::from)?)
            }
            SampleKind::Row { .. } => None,
        };
        let data = Self {
            path,
            format: arguments.format.clone(),
            input,
            normalization,
            opened,
        };
        data.describe();
        Ok(data)
    }

    /// In label order; empty if the data has no labels.
    pub(super) fn class_names(&self) -> &[String] {
        self.opened.train.class_names()
    }

    /// Number of samples to train on, and of those that have a label.
    pub(super) fn training_samples(&self) -> (usize, usize) {
        let train = &self.opened.train;
        let labelled = (0..train.len() as u32).filter(|sample| train.label(*sample).is_some());
        (train.len(), labelled.count())
    }

    /// Number of training samples to hold out: data without labels is not split, and a student must be compared
    /// with its teacher on samples that no training used. A test split is enough, unless the run itself
    /// `needs_validation` samples.
    pub(super) fn samples_to_hold_out(&self, needs_validation: bool) -> usize {
        const SHARE: usize = 10;
        let has_test = self.opened.test.is_some() && !needs_validation;
        if self.opened.validation.is_some() || has_test {
            return 0;
        }
        self.opened.train.len() / SHARE
    }

    fn describe(&self) {
        let count = |source: Option<&Arc<dyn Source>>| {
            let samples = source.map_or(0, |source| source.len());
            HumanCount(samples as u64).to_string()
        };
        let (_, labelled) = self.training_samples();
        let classes = match self.class_names() {
            [] => "no labels".to_owned(),
            names => format!("{} classes ({})", names.len(), shown(names)),
        };
        writeln!(
            Narration,
            "{}: {} training samples ({} labelled), {} for validation, {} for the test; {classes}",
            self.path.display(),
            count(Some(&self.opened.train)),
            HumanCount(labelled as u64),
            count(self.opened.validation.as_ref()),
            count(self.opened.test.as_ref()),
        );
        let unreadable = &self.opened.unreadable;
        for file in unreadable.iter().take(NAMED_FILES) {
            writeln!(Narration, "  left out: {file}");
        }
        if unreadable.len() > NAMED_FILES {
            writeln!(
                Narration,
                "  … and {} more files",
                unreadable.len() - NAMED_FILES
            );
        }
    }
}

fn input_shape(
    arguments: &DistillArguments,
    path: &Path,
    kind: SampleKind,
) -> Result<Vec<usize>, CliError> {
    let wrong = |takes| {
        let error = DistillError::Student {
            student: arguments.student.preset(),
            takes,
            path: path.display().to_string(),
            found: kind.tensor("samples").to_string(),
        };
        Err(error.into())
    };
    match (arguments.student, kind) {
        (Student::Mlp, SampleKind::Row { values }) => Ok(vec![values]),
        (Student::Mlp, SampleKind::Image { .. }) => wrong("rows of numbers"),
        (_, SampleKind::Row { .. }) => wrong("images; use --student mlp"),
        (_, SampleKind::Image { channels, .. }) => {
            let channels = if arguments.gray { 1 } else { channels };
            Ok(vec![channels, arguments.size, arguments.size])
        }
    }
}
