//! The one training loop: every phase of every run goes through it.

use std::{sync::mpsc::Receiver, thread, time::Instant};

use datasets::{
    Augmentation, Dataset, Normalization,
    random::{Purpose, RandomStreams},
};
use networks::{Weights, WeightsError};
use rand::Rng;
use soft_targets::consumption::{ConsumedStep, Consumption};
use tch::Tensor;
use tokio_util::sync::CancellationToken;
use torch_networks::{Mode, Precision, TorchNetwork, to_tensor, to_values};

use super::{
    TorchError,
    inference::{self, image_tensor},
    interval::{Interval, StepOutput},
    loss::{Targets, loss},
    meter::Totals,
    optimizer::Sgd,
    schedule::Schedule,
    soft_targets::TeacherLogits,
    state::{Checkpoints, EpochSummary, PhaseProgress, PhaseState},
};
use crate::{
    classification::{accuracy, predictions},
    config::{FixedViews, PhaseConfig},
    events::{EpochFinished, EventSink, PhaseStarted, RunEvent, StepProgress},
    loader::{BatchPlan, LoadedBatch, Position},
    metrics,
    run::{NotFinite, RunError},
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
    /// What an earlier process did of the phase; its weights take the place of the network's.
    pub resumed: Option<&'r PhaseState>,
    /// Where checkpoints go; none are made without.
    pub checkpoints: Option<&'r dyn Checkpoints>,
    /// Where progress is told.
    pub events: &'r EventSink,
    /// Looked at between steps.
    pub cancel: &'r CancellationToken,
}

/// What a phase came to.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseSummary {
    /// The last epoch.
    pub last_epoch: EpochSummary,
    /// What was trained on, each sample exactly once an epoch.
    pub consumed: Consumption,
    /// Wall-clock time of all epochs.
    pub seconds: f64,
}

/// Trains `network` through one phase, or through what is left of it.
///
/// # Errors
/// [`RunError::Cancelled`], [`RunError::Diverged`], a lost teacher, a checkpoint that cannot be
/// written, or a failure of libtorch. A phase that is cancelled or that lost its teachers leaves a
/// checkpoint of the last step done.
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
        start: context.resumed.map_or_else(Position::default, position),
        soft_targets: context
            .soft_targets
            .filter(|_| context.config.loss.needs_soft_targets()),
        views: context
            .views
            .filter(|_| context.config.loss.needs_soft_targets()),
    };
    let mut phase = Phase::new(network, context, plan.steps_per_epoch() as u64)?;
    // A resumed phase was announced when it began.
    if context.resumed.is_none() {
        context.events.send(RunEvent::PhaseStarted(PhaseStarted {
            phase: context.index,
            kind: context.config.kind(),
            epochs: context.config.epochs,
            steps_per_epoch: phase.steps_per_epoch,
        }));
    }
    thread::scope(|scope| phase.train(&plan.load(scope)))
}

fn position(state: &PhaseState) -> Position {
    Position {
        epoch: state.progress.epoch,
        step: state.progress.step as usize,
    }
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
    /// Its `unreported` sums and its times are brought up to date by [`Self::state`].
    progress: PhaseProgress,
    interval: Interval,
    /// From here on, time is not yet in `progress`.
    uncounted_since: Instant,
    step_ended: Instant,
}

impl<'r> Phase<'r> {
    fn new(
        network: &'r TorchNetwork,
        context: PhaseContext<'r>,
        steps_per_epoch: u64,
    ) -> Result<Self, RunError> {
        let config = context.config;
        let steps = steps_per_epoch * config.epochs as u64;
        let (progress, velocities) = match context.resumed {
            None => (PhaseProgress::default(), Vec::new()),
            Some(state) => {
                network.load_weights(&state.weights)?;
                (state.progress.clone(), velocities(network, state)?)
            }
        };
        let parameters = network.parameters().iter();
        Ok(Self {
            context,
            network,
            parameters: parameters
                .map(|(_, parameter)| parameter.shallow_clone())
                .collect(),
            optimizer: Sgd::new(config.optimizer, velocities),
            schedule: Schedule::new(config.schedule, steps),
            steps_per_epoch,
            interval: Interval::start(progress.step, progress.unreported)?,
            progress,
            uncounted_since: Instant::now(),
            step_ended: Instant::now(),
        })
    }

    fn train(&mut self, batches: &Receiver<LoadedBatch<'_>>) -> Result<PhaseSummary, RunError> {
        while self.progress.epoch < self.context.config.epochs {
            self.train_epoch(batches)?;
        }
        let PhaseProgress {
            last_epoch,
            consumed,
            seconds,
            ..
        } = self.progress.clone();
        Ok(PhaseSummary {
            // Holds: a configuration has an epoch a phase at least, and after it this is set.
            last_epoch: last_epoch.expect("a phase has an epoch"),
            consumed,
            seconds,
        })
    }

    /// Trains what is left of an epoch.
    fn train_epoch(&mut self, batches: &Receiver<LoadedBatch<'_>>) -> Result<(), RunError> {
        let PhaseContext { index, seed, .. } = self.context;
        let epoch = self.progress.epoch;
        let dropout = RandomStreams::new(seed, Purpose::Dropout, index as u64, epoch as u64);
        self.step_ended = Instant::now();
        while self.progress.step < self.steps_per_epoch {
            if self.context.cancel.is_cancelled() {
                return Err(self.end_early(RunError::Cancelled { checkpoint: None }));
            }
            // The loader ends early only by a panic, which the scope passes on.
            let Ok(batch) = batches.recv() else {
                return Err(self.end_early(RunError::Cancelled { checkpoint: None }));
            };
            self.step(batch, dropout.at(self.progress.step).next_u64())?;
            let ends_epoch = self.progress.step == self.steps_per_epoch;
            let checkpoint = !ends_epoch && self.checkpoint_is_due();
            if ends_epoch || checkpoint || self.progress.step.is_multiple_of(REPORT_INTERVAL) {
                self.report()?;
            }
            if checkpoint {
                self.keep_checkpoint()?;
            }
        }
        self.end_epoch()
    }

    /// One optimizer step, counted only when it is done.
    fn step(&mut self, mut batch: LoadedBatch<'_>, dropout_seed: u64) -> Result<(), RunError> {
        let samples = std::mem::take(&mut batch.samples);
        let asked = batch.soft_targets.is_some();
        let output = self.train_on(batch, dropout_seed)?;
        self.interval.add(&output)?;
        let took = self.step_ended.elapsed();
        metrics::step_done(output.samples(), took, output.waited);
        self.step_ended += took;
        self.progress.step += 1;
        let source = self.context.soft_targets;
        let teacher = source.filter(|_| asked);
        let epoch = self.progress.epoch as u64;
        // A phase without soft targets shows a new view every epoch.
        let views = self.context.views.filter(|_| asked);
        self.progress.consumed.add(ConsumedStep {
            phase: self.context.index as u64,
            epoch,
            view: views.map_or(epoch, |views| epoch % u64::from(views.count)),
            samples: &samples,
            teacher: teacher.map(|source| &*source.teacher().model_id),
        });
        Ok(())
    }

    /// Changes the network. Where the soft targets do not come, it is as it was.
    fn train_on(
        &mut self,
        batch: LoadedBatch<'_>,
        dropout_seed: u64,
    ) -> Result<StepOutput, RunError> {
        let input = image_tensor(&batch.input, self.context.train.shape())?;
        let labels = Tensor::f_from_slice(&batch.labels)?;
        let asked = batch.soft_targets.is_some();
        let statistics = match asked {
            true => self.network.copy_statistics()?,
            false => Vec::new(),
        };
        let mode = Mode::Train { dropout_seed };
        let logits = self.network.forward(&input, mode, self.context.precision)?;
        // Asked for only now: the student's forward pass needs none.
        let waiting = Instant::now();
        let pending = batch.soft_targets;
        let soft_targets = match pending.map(|pending| pending.wait(self.context.cancel)) {
            None => None,
            Some(Ok(answer)) => Some(TeacherLogits::new(&answer)?),
            Some(Err(error)) => {
                self.network.restore_statistics(&statistics)?;
                return Err(self.end_early(error));
            }
        };
        let waited = waiting.elapsed();
        let targets = Targets {
            labels: &labels,
            soft_targets: soft_targets.as_ref(),
        };
        let loss = loss(self.context.config.loss, &logits, &targets)?;
        let gradients = Tensor::f_run_backward(&[&loss], &self.parameters, false, false)?;
        let learning_rate = self.learning_rate(self.progress.step);
        self.optimizer
            .step(&mut self.parameters, gradients, learning_rate)?;
        Ok(StepOutput {
            loss,
            logits,
            labels,
            waited,
        })
    }

    /// Of step `step` of the epoch under way.
    fn learning_rate(&self, step: u64) -> f64 {
        self.schedule
            .learning_rate(self.progress.epoch as u64 * self.steps_per_epoch + step)
    }

    /// Tells how the steps since the last report went.
    fn report(&mut self) -> Result<(), RunError> {
        let totals = self.read_interval()?;
        let interval = &self.interval;
        let seconds = interval.started.elapsed().as_secs_f64().max(1e-9);
        let asks_teachers = self.context.config.loss.needs_soft_targets();
        let source = self.context.soft_targets.filter(|_| asks_teachers);
        let trained = totals.samples - interval.samples_before;
        self.context
            .events
            .send(RunEvent::StepProgress(StepProgress {
                phase: self.context.index,
                epoch: self.progress.epoch + 1,
                step: self.progress.step,
                loss: totals.loss(),
                train_accuracy: totals.accuracy(),
                learning_rate: self.learning_rate(self.progress.step - 1),
                samples_per_second: trained as f64 / seconds,
                teacher_wait_share: interval.waited.as_secs_f64() / seconds,
                teachers: source.map_or(0, |source| source.teachers()),
            }));
        self.progress.reported += totals;
        self.interval = Interval::start(self.progress.step, Totals::default())?;
        Ok(())
    }

    /// Sums since the last report.
    ///
    /// # Errors
    /// [`RunError::Diverged`] where a loss among them is no number.
    fn read_interval(&self) -> Result<Totals, RunError> {
        let totals = self.interval.meter.read()?;
        if totals.samples == 0 || totals.loss().is_finite() {
            return Ok(totals);
        }
        let first = self.interval.meter.first_not_finite()?;
        // Without one, it is the sum that is too large.
        let (steps_before, loss) = first.unwrap_or((0, totals.loss()));
        let step = self.interval.first_step + steps_before;
        let step = self.progress.epoch as u64 * self.steps_per_epoch + step;
        Err(self.diverged(NotFinite::Loss(loss), step))
    }

    /// The weights, which the last step has changed.
    ///
    /// # Errors
    /// [`RunError::Diverged`] where one of them is no number.
    fn weights(&self) -> Result<Weights, RunError> {
        self.network.weights().map_err(|error| match error {
            TorchError::Weights(WeightsError::NotFinite(name)) => {
                let last = self.steps_done().saturating_sub(1);
                self.diverged(NotFinite::Weight(name), last)
            }
            error => error.into(),
        })
    }

    /// `step` is counted from 0 over all epochs.
    fn diverged(&self, what: NotFinite, step: u64) -> RunError {
        RunError::Diverged {
            what,
            phase: self.context.index,
            kind: self.context.config.kind(),
            epoch: (step / self.steps_per_epoch) as usize + 1,
            step: step % self.steps_per_epoch + 1,
            learning_rate: self.schedule.learning_rate(step),
            checkpoint: None,
        }
    }

    fn end_epoch(&mut self) -> Result<(), RunError> {
        let summary = EpochSummary {
            train_loss: self.progress.reported.loss(),
            train_accuracy: self.progress.reported.accuracy(),
            validation_accuracy: self.validate()?,
        };
        self.take_time();
        self.context
            .events
            .send(RunEvent::EpochFinished(EpochFinished {
                phase: self.context.index,
                epoch: self.progress.epoch + 1,
                train_loss: summary.train_loss,
                train_accuracy: summary.train_accuracy,
                validation_accuracy: summary.validation_accuracy,
                learning_rate: self.learning_rate(self.steps_per_epoch - 1),
                seconds: self.progress.epoch_seconds,
            }));
        let progress = &mut self.progress;
        progress.epoch += 1;
        progress.step = 0;
        progress.reported = Totals::default();
        progress.last_epoch = Some(summary);
        progress.epoch_seconds = 0.0;
        self.interval = Interval::start(0, Totals::default())?;
        self.keep_checkpoint()
    }

    /// Ends the phase between two steps, for want of soft targets or because it was asked to.
    fn end_early(&mut self, error: RunError) -> RunError {
        match self.keep_checkpoint() {
            Ok(()) => error,
            Err(error) => error,
        }
    }

    /// Of the phase.
    fn steps_done(&self) -> u64 {
        self.progress.epoch as u64 * self.steps_per_epoch + self.progress.step
    }

    fn checkpoint_is_due(&self) -> bool {
        let done = self.steps_done();
        let every = self.context.checkpoints.map_or(0, Checkpoints::every_steps);
        every > 0 && done.is_multiple_of(every)
    }

    fn keep_checkpoint(&mut self) -> Result<(), RunError> {
        let Some(checkpoints) = self.context.checkpoints else {
            return Ok(());
        };
        if (self.progress.epoch, self.progress.step) == (0, 0) {
            // The end of the phase before, or the start of the run.
            return Ok(());
        }
        self.progress.unreported = self.read_interval()?;
        self.take_time();
        let named = self.network.parameters().iter().map(|(name, _)| name);
        let velocities = named
            .zip(self.optimizer.velocities())
            .map(|(name, velocity)| Ok((name.clone(), to_values(velocity)?)))
            .collect::<Result<_, TorchError>>()?;
        checkpoints.keep(PhaseState {
            progress: self.progress.clone(),
            weights: self.weights()?,
            velocities,
        })
    }

    /// Adds the time since the last call.
    fn take_time(&mut self) {
        let seconds = self.uncounted_since.elapsed().as_secs_f64();
        self.uncounted_since = Instant::now();
        self.progress.epoch_seconds += seconds;
        self.progress.seconds += seconds;
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

/// The optimizer's velocities in `state`, in the order of the network's parameters.
fn velocities(network: &TorchNetwork, state: &PhaseState) -> Result<Vec<Tensor>, TorchError> {
    if state.velocities.is_empty() {
        return Ok(Vec::new());
    }
    let velocity = |(name, _): &(String, Tensor)| {
        let values = state.velocities.get(name);
        let values = values.ok_or_else(|| WeightsError::Missing(name.clone()))?;
        Ok(to_tensor(values)?.f_to_device(network.device())?)
    };
    network.parameters().iter().map(velocity).collect()
}
