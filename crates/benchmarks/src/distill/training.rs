//! The demo's student in training, with soft targets from different sources.

use std::path::Path;

use proto::runs::v1::SubmitRunRequest;
use toml::{Table, Value};

use crate::{
    process::Server,
    recipe,
    task::Task,
    trainer::{Trainer, Training, text},
};

/// Augmented views of each image in a recording.
const VIEWS: usize = 1;

/// The source of a run's soft targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SoftTargets {
    /// No soft targets: hard labels.
    None,
    /// A live teacher.
    Live,
    /// A live teacher, and the run records its soft targets.
    Record,
    /// A recording.
    Recorded,
}

/// Training data and its amount.
#[derive(Debug, Clone, Copy)]
pub(super) struct Workload<'a> {
    /// The images and the student's input.
    pub task: Task,
    /// Folder of the images.
    pub data: &'a Path,
    /// Number of training images.
    pub samples: usize,
    /// Measured epochs per run.
    pub epochs: usize,
}

/// The demo's student and its trainer.
pub(super) struct Student<'a> {
    trainer: Trainer,
    recording: String,
    data: String,
    workload: Workload<'a>,
}

impl<'a> Student<'a> {
    /// Starts a trainer whose runs are below `folder`.
    pub(super) async fn start(folder: &Path, workload: Workload<'a>) -> anyhow::Result<Self> {
        Ok(Self {
            trainer: Trainer::start(Trainer::program()?, folder, workload.data).await?,
            recording: text(&folder.join("soft-targets"))?,
            data: text(workload.data)?,
            workload,
        })
    }

    /// Trains through the first phase; see [`Trainer::train`].
    pub(super) async fn train(
        &self,
        soft_targets: SoftTargets,
        teacher: Option<&Server>,
    ) -> anyhow::Result<Training> {
        let request = SubmitRunRequest {
            name: soft_targets.name().to_owned(),
            config_toml: self.config(soft_targets)?.to_string(),
            overrides: self.overrides(soft_targets, teacher),
        };
        let samples = self.workload.samples as u64;
        self.trainer.train(request, samples, teacher).await
    }

    /// The run of the demo's student, reduced to its first phase.
    fn config(&self, soft_targets: SoftTargets) -> anyhow::Result<Table> {
        let mut config = recipe::student()?;
        self.workload.task.adapt(&mut config)?;
        let mut phase = recipe::first_phase(&config)?;
        // One additional epoch, which is not measured.
        let epochs = i64::try_from(self.workload.epochs + 1)?;
        phase.insert("epochs".to_owned(), Value::from(epochs));
        if soft_targets == SoftTargets::None {
            phase.insert("loss".to_owned(), Value::Table(recipe::hard_labels()));
        }
        config.insert("phases".to_owned(), Value::from(vec![phase]));
        Ok(config)
    }

    fn overrides(&self, soft_targets: SoftTargets, teacher: Option<&Server>) -> Vec<String> {
        let quoted = |text: &str| Value::from(text).to_string();
        let mut overrides = vec![
            "export.onnx=false".to_owned(),
            format!("data.path={}", quoted(&self.data)),
            format!("data.train_samples={}", self.workload.samples),
        ];
        if let Some(teacher) = teacher {
            overrides.push(format!("teacher.endpoints=[{}]", quoted(&teacher.grpc())));
        }
        if let SoftTargets::Record | SoftTargets::Recorded = soft_targets {
            overrides.push(format!("soft_targets.mode={}", soft_targets.name()));
            overrides.push(format!("soft_targets.views={VIEWS}"));
            overrides.push(format!("soft_targets.folder={}", quoted(&self.recording)));
        }
        overrides
    }
}

impl SoftTargets {
    fn name(self) -> &'static str {
        match self {
            Self::None => "supervised",
            Self::Live => "live",
            Self::Record => "record",
            Self::Recorded => "recorded",
        }
    }
}
