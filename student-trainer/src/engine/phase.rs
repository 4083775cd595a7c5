//! The one training loop: every phase of every run goes through it.

use std::{
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use common::digest::{RollingSha256, Sha256};
use datasets::{
    Augmentation, Dataset, Normalization,
    random::{Purpose, RandomStreams},
};
use rand::Rng;
use tch::Tensor;
use tokio_util::sync::CancellationToken;
use torch_networks::{Mode, Precision, TorchNetwork};

use super::{
    TorchError,
    inference::{self, image_tensor},
    loss::{Targets, loss},
    meter::{Meter, Totals},
    optimizer::Sgd,
    schedule::Schedule,
    soft_targets::TeacherLogits,
};
use crate::{
    classification::{accuracy, predictions},
    config::{FixedViews, LossConfig, PhaseConfig},
    events::{EpochFinished, EventSink, PhaseStarted, RunEvent, StepProgress},
    loader::{BatchPlan, LoadedBatch},
    metrics,
    run::RunError,
    soft_targets::SoftTargetSource,
};

/// Steps between two looks at the loss.
const REPORT_INTERVAL: u64 = 20;

/// What a phase needs beside the network.
#[derive(Clone, Copy)]
pub struct PhaseContext<'r> {
    /// Position in the run, 0-based.
    pub index: usize,
    /// What the phase does.
    pub config: &'r PhaseConfig,
    /// The run's seed.
    pub seed: u64,
    /// Of convolutions and linear layers.
    pub precision: Precision,
    /// Images trained on.
    pub train: &'r Dataset,
    /// Images that accuracy is measured on after each epoch.
    pub validation: Option<&'r Dataset>,
    /// How pixels become the network's input.
    pub normalization: &'r Normalization,
    /// Random changes to training images.
    pub augmentation: Augmentation,
    /// Where soft targets come from.
    pub soft_targets: Option<SoftTargetSource<'r>>,
    /// What images show in a phase with soft targets, where not a new view every epoch.
    pub views: Option<FixedViews>,
    /// Where progress is told.
    pub events: &'r EventSink,
    /// Looked at between steps.
    pub cancel: &'r CancellationToken,
}

/// What a phase came to.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseSummary {
    /// Mean over the last epoch's samples.
    pub train_loss: f64,
    /// In the last epoch, against the hard labels, on augmented images; 0 to 1.
    pub train_accuracy: f64,
    /// After the last epoch, where there is a validation split.
    pub validation_accuracy: Option<f64>,
    /// What was trained on.
    pub consumed: Consumption,
}

/// Proof of what was trained on, each sample exactly once an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumption {
    /// Samples, over all epochs.
    pub samples: u64,
    /// Of (phase, epoch, sample, teacher) of every sample in the order of training: phase and epoch
    /// as u64 and the sample as u32, little-endian; the teacher's model id where one was asked.
    pub sha256: Sha256,
}

/// Trains `network` through one phase.
///
/// # Errors
/// [`RunError::Cancelled`], [`RunError::Diverged`], a lost teacher, or a failure of libtorch.
pub fn train_phase(
    network: &TorchNetwork,
    context: PhaseContext<'_>,
) -> Result<PhaseSummary, RunError> {
    let plan = BatchPlan {
        dataset: context.train,
        normalization: context.normalization,
        augmentation: context.augmentation,
        seed: context.seed,
        phase: context.index,
        epochs: context.config.epochs,
        batch_size: context.config.batch_size,
        soft_targets: context
            .soft_targets
            .filter(|_| context.config.loss.needs_soft_targets()),
        views: context
            .views
            .filter(|_| context.config.loss.needs_soft_targets()),
    };
    let steps_per_epoch = plan.steps_per_epoch() as u64;
    context.events.send(RunEvent::PhaseStarted(PhaseStarted {
        phase: context.index,
        kind: context.config.kind(),
        epochs: context.config.epochs,
        steps_per_epoch,
    }));
    thread::scope(|scope| {
        let batches = plan.load(scope);
        let mut phase = Phase {
            context,
            network,
            parameters: network
                .parameters()
                .iter()
                .map(|(_, parameter)| parameter.shallow_clone())
                .collect(),
            optimizer: Sgd::new(context.config.optimizer),
            schedule: Schedule::new(
                context.config.schedule,
                steps_per_epoch * context.config.epochs as u64,
            ),
            steps_per_epoch,
            consumed: RollingSha256::default(),
        };
        phase.train(&batches)
    })
}

/// A phase while it trains.
struct Phase<'r> {
    context: PhaseContext<'r>,
    network: &'r TorchNetwork,
    /// The network's own, sharing its storage.
    parameters: Vec<Tensor>,
    optimizer: Sgd,
    schedule: Schedule,
    steps_per_epoch: u64,
    consumed: RollingSha256,
}

/// What one step computed.
struct StepOutput {
    loss: Tensor,
    logits: Tensor,
    labels: Tensor,
    /// For soft targets.
    waited: Duration,
    /// False where none are wanted, and where all teachers are gone and hard labels had to do.
    used_soft_targets: bool,
}

impl StepOutput {
    fn samples(&self) -> usize {
        self.labels.size()[0] as usize
    }
}

impl Phase<'_> {
    fn train(&mut self, batches: &Receiver<LoadedBatch<'_>>) -> Result<PhaseSummary, RunError> {
        let epochs = self.context.config.epochs;
        let mut last = (Totals::default(), None);
        for epoch in 0..epochs {
            last = self.train_epoch(epoch, batches)?;
        }
        let (totals, validation_accuracy) = last;
        Ok(PhaseSummary {
            train_loss: totals.loss(),
            train_accuracy: totals.accuracy(),
            validation_accuracy,
            consumed: Consumption {
                samples: (self.context.train.len() * epochs) as u64,
                sha256: std::mem::take(&mut self.consumed).finish(),
            },
        })
    }

    fn train_epoch(
        &mut self,
        epoch: usize,
        batches: &Receiver<LoadedBatch<'_>>,
    ) -> Result<(Totals, Option<f64>), RunError> {
        let started = Instant::now();
        let PhaseContext { index, seed, .. } = self.context;
        let dropout = RandomStreams::new(seed, Purpose::Dropout, index as u64, epoch as u64);
        let mut totals = Totals::default();
        let mut interval = Interval::start()?;
        let mut step_began = Instant::now();
        for step in 0..self.steps_per_epoch {
            if self.context.cancel.is_cancelled() {
                return Err(RunError::Cancelled);
            }
            // The loader ends early only by a panic, which the scope passes on.
            let mut batch = batches.recv().map_err(|_| RunError::Cancelled)?;
            let samples = std::mem::take(&mut batch.samples);
            let learning_rate = self.learning_rate(epoch, step);
            let output = self.step(batch, learning_rate, dropout.at(step).next_u64())?;
            interval.add(&output)?;
            self.note_consumed(epoch, &samples, output.used_soft_targets);
            let now = Instant::now();
            let took = now.duration_since(step_began);
            metrics::step_done(output.samples(), took, output.waited);
            step_began = now;
            let done = step + 1;
            if done % REPORT_INTERVAL == 0 || done == self.steps_per_epoch {
                totals += self.report(epoch, done, &interval)?;
                interval = Interval::start()?;
            }
        }
        let validation_accuracy = self.validate()?;
        let finished = EpochFinished {
            phase: index,
            epoch: epoch + 1,
            train_loss: totals.loss(),
            train_accuracy: totals.accuracy(),
            validation_accuracy,
            learning_rate: self.learning_rate(epoch, self.steps_per_epoch - 1),
            seconds: started.elapsed().as_secs_f64(),
        };
        self.context.events.send(RunEvent::EpochFinished(finished));
        Ok((totals, validation_accuracy))
    }

    fn step(
        &mut self,
        batch: LoadedBatch<'_>,
        learning_rate: f64,
        dropout_seed: u64,
    ) -> Result<StepOutput, RunError> {
        let input = image_tensor(&batch.input, self.context.train.shape())?;
        let labels = Tensor::f_from_slice(&batch.labels)?;
        let mode = Mode::Train { dropout_seed };
        let logits = self.network.forward(&input, mode, self.context.precision)?;
        // Asked for only now: the student's forward pass needs none.
        let waiting = Instant::now();
        let asked = batch.soft_targets.is_some();
        let soft_targets = match batch.soft_targets {
            Some(pending) => pending.wait(self.context.cancel)?,
            None => None,
        };
        let hard_labels_only = asked && soft_targets.is_none();
        let soft_targets = soft_targets.as_ref().map(TeacherLogits::new).transpose()?;
        let waited = waiting.elapsed();
        let targets = Targets {
            labels: &labels,
            soft_targets: soft_targets.as_ref(),
        };
        let config = match hard_labels_only {
            true => LossConfig::CrossEntropy {},
            false => self.context.config.loss,
        };
        let loss = loss(config, &logits, &targets)?;
        let gradients = Tensor::f_run_backward(&[&loss], &self.parameters, false, false)?;
        self.optimizer
            .step(&mut self.parameters, gradients, learning_rate)?;
        Ok(StepOutput {
            loss,
            logits,
            labels,
            waited,
            used_soft_targets: soft_targets.is_some(),
        })
    }

    fn learning_rate(&self, epoch: usize, step: u64) -> f64 {
        self.schedule
            .learning_rate(epoch as u64 * self.steps_per_epoch + step)
    }

    fn note_consumed(&mut self, epoch: usize, samples: &[u32], used_soft_targets: bool) {
        let source = self.context.soft_targets.filter(|_| used_soft_targets);
        let teacher = source.map(|source| source.teacher());
        for sample in samples {
            self.consumed
                .update(&(self.context.index as u64).to_le_bytes());
            self.consumed.update(&(epoch as u64).to_le_bytes());
            self.consumed.update(&sample.to_le_bytes());
            if let Some(teacher) = teacher {
                self.consumed.update(teacher.model_id.as_bytes());
            }
        }
    }

    /// Tells how the steps of `interval` went; `step` is the last of them, 1-based.
    fn report(&self, epoch: usize, step: u64, interval: &Interval) -> Result<Totals, RunError> {
        let totals = interval.meter.read()?;
        let loss = totals.loss();
        if !loss.is_finite() {
            return Err(RunError::Diverged {
                loss,
                phase: self.context.index,
                kind: self.context.config.kind(),
                epoch: epoch + 1,
                step,
                learning_rate: self.learning_rate(epoch, step - 1),
            });
        }
        let seconds = interval.started.elapsed().as_secs_f64().max(1e-9);
        let asks_teachers = self.context.config.loss.needs_soft_targets();
        let source = self.context.soft_targets.filter(|_| asks_teachers);
        self.context
            .events
            .send(RunEvent::StepProgress(StepProgress {
                phase: self.context.index,
                epoch: epoch + 1,
                step,
                loss,
                train_accuracy: totals.accuracy(),
                learning_rate: self.learning_rate(epoch, step - 1),
                samples_per_second: totals.samples as f64 / seconds,
                teacher_wait_share: interval.waited.as_secs_f64() / seconds,
                teachers: source.map_or(0, |source| source.teachers()),
            }));
        Ok(totals)
    }

    fn validate(&self) -> Result<Option<f64>, RunError> {
        let Some(validation) = self.context.validation else {
            return Ok(None);
        };
        let logits = inference::logits(
            self.network,
            validation.pixels(),
            validation.shape(),
            self.context.normalization,
        )?;
        let predictions = predictions(&logits, validation.classes());
        Ok(Some(accuracy(&predictions, validation.labels())))
    }
}

/// The steps since the last report.
struct Interval {
    meter: Meter,
    started: Instant,
    waited: Duration,
}

impl Interval {
    fn start() -> Result<Self, TorchError> {
        Ok(Self {
            meter: Meter::new()?,
            started: Instant::now(),
            waited: Duration::ZERO,
        })
    }

    fn add(&mut self, step: &StepOutput) -> Result<(), TorchError> {
        self.waited += step.waited;
        Ok(self.meter.add(&step.loss, &step.logits, &step.labels)?)
    }
}
