//! The one training loop: every phase of every run goes through it.

use std::{sync::mpsc::Receiver, thread, time::Instant};

use datasets::{
    Subset,
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
    error::{Divergence, EngineError, NotFinite},
    inference::{self, input_tensor},
    interval::{Interval, StepOutput},
    loss::{Targets, loss},
    meter::Totals,
    mixed_labels::MixedTargets,
    optimizer::Sgd,
    schedule::Schedule,
    soft_targets::TeacherLogits,
    state::{Checkpoints, EpochSummary, PhaseProgress, PhaseState},
};
use crate::{
    classification::{accuracy, labels, predict},
    config::PhaseConfig,
    events::{EpochFinished, EventSink, PhaseStarted, RunEvent, StepProgress},
    loader::{BatchPlan, LoadedBatch, LoadingResult, Position, TrainingSamples},
    metrics,
};

/// Steps between two reports of progress, which read the loss.
const REPORT_INTERVAL: u64 = 20;

/// The inputs of a phase besides the network.
#[derive(Clone, Copy)]
pub struct PhaseContext<'r> {
    /// Loss, optimizer and learning-rate schedule.
    pub config: &'r PhaseConfig,
    /// Number format of convolutions and linear layers.
    pub precision: Precision,
    /// The batches to train on.
    pub batches: BatchPlan<'r>,
    /// Samples that measure accuracy after each epoch.
    pub validation: Option<&'r Subset>,
    /// State from which an interrupted phase resumes; its weights replace the network's.
    pub resumed: Option<&'r PhaseState>,
    /// Stores checkpoints; without it, none are made.
    pub checkpoints: Option<&'r dyn Checkpoints>,
    /// Receives progress.
    pub events: &'r EventSink,
    /// Checked between steps.
    pub cancel: &'r CancellationToken,
}

/// Figures of a finished phase.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseSummary {
    /// The last epoch.
    pub last_epoch: EpochSummary,
    /// Digest of the training data; each sample is used exactly once an epoch.
    pub consumed: Consumption,
    /// Wall-clock time of all epochs.
    pub seconds: f64,
}

/// Trains `network` through one phase, or through the rest of a resumed one.
///
/// # Errors
/// See [`EngineError`]. A phase that is cancelled or that loses its teachers leaves a checkpoint of its
/// last step.
pub fn train_phase(
    network: &TorchNetwork,
    context: PhaseContext<'_>,
) -> Result<PhaseSummary, EngineError> {
    let PhaseContext {
        batches, resumed, ..
    } = context;
    let mut phase = Phase::new(network, context)?;
    // A resumed phase was announced when it began.
    if resumed.is_none() {
        context.events.send(RunEvent::PhaseStarted(PhaseStarted {
            phase: batches.phase,
            kind: context.config.kind(),
            epochs: batches.epochs,
            steps_per_epoch: phase.steps_per_epoch,
        }));
    }
    let start = resumed.map_or_else(Position::default, position);
    thread::scope(|scope| phase.train(&batches.load(scope, start)))
}

fn position(state: &PhaseState) -> Position {
    Position {
        epoch: state.progress.epoch,
        step: state.progress.step as usize,
    }
}

/// A phase in training.
struct Phase<'r> {
    context: PhaseContext<'r>,
    network: &'r TorchNetwork,
    /// The network's parameters, sharing its storage.
    parameters: Vec<Tensor>,
    optimizer: Sgd,
    schedule: Schedule,
    steps_per_epoch: u64,
    /// [`Self::keep_checkpoint`] updates its `unreported` sums, [`Self::take_time`] its times.
    progress: PhaseProgress,
    interval: Interval,
    /// Time from here on is not yet in `progress`.
    uncounted_since: Instant,
    step_ended: Instant,
}

impl<'r> Phase<'r> {
    fn new(network: &'r TorchNetwork, context: PhaseContext<'r>) -> Result<Self, EngineError> {
        let config = context.config;
        let steps_per_epoch = context.batches.steps_per_epoch() as u64;
        let steps = steps_per_epoch * context.batches.epochs as u64;
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

    fn train(
        &mut self,
        batches: &Receiver<LoadingResult<'_>>,
    ) -> Result<PhaseSummary, EngineError> {
        while self.progress.epoch < self.context.batches.epochs {
            self.train_epoch(batches)?;
        }
        let PhaseProgress {
            last_epoch,
            consumed,
            seconds,
            ..
        } = self.progress.clone();
        Ok(PhaseSummary {
            // Holds: a validated phase has at least one epoch, and each epoch sets this.
            last_epoch: last_epoch.expect("a phase has an epoch"),
            consumed,
            seconds,
        })
    }

    /// Trains the rest of an epoch.
    fn train_epoch(&mut self, batches: &Receiver<LoadingResult<'_>>) -> Result<(), EngineError> {
        let BatchPlan { phase, seed, .. } = self.context.batches;
        let epoch = self.progress.epoch;
        let dropout = RandomStreams::new(seed, Purpose::Dropout, phase as u64, epoch as u64);
        self.step_ended = Instant::now();
        while self.progress.step < self.steps_per_epoch {
            if self.context.cancel.is_cancelled() {
                return Err(self.end_early(EngineError::Cancelled));
            }
            let waiting = Instant::now();
            // The loader ends early only if it panics; the scope then panics too.
            let Ok(batch) = batches.recv() else {
                return Err(self.end_early(EngineError::Cancelled));
            };
            self.interval.waited_for_data += waiting.elapsed();
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Err(self.end_early(error.into())),
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

    /// Does one optimizer step and counts it.
    fn step(&mut self, mut batch: LoadedBatch<'_>, dropout_seed: u64) -> Result<(), EngineError> {
        let samples = std::mem::take(&mut batch.samples);
        let output = self.train_on(batch, dropout_seed)?;
        self.interval.add(&output)?;
        let took = self.step_ended.elapsed();
        metrics::step_done(output.samples(), took, output.waited);
        self.step_ended += took;
        self.progress.step += 1;
        let batches = &self.context.batches;
        let epoch = self.progress.epoch;
        self.progress.consumed.add(ConsumedStep {
            phase: batches.phase as u64,
            epoch: epoch as u64,
            view: batches
                .fixed_view(epoch)
                .map_or(epoch as u64, |(_, view)| view.into()),
            samples: &samples,
            teacher: batches
                .soft_targets
                .map(|source| &*source.teacher().model_id),
        });
        Ok(())
    }

    /// Trains on one batch. If its soft targets do not arrive, the network stays as it was.
    fn train_on(
        &mut self,
        batch: LoadedBatch<'_>,
        dropout_seed: u64,
    ) -> Result<StepOutput, EngineError> {
        let input = input_tensor(&batch.input, self.context.batches.samples.input)?;
        let labels = Tensor::f_from_slice(&batch.labels)?;
        let mixed = batch.mixed.as_ref().map(MixedTargets::new).transpose()?;
        let statistics = if batch.soft_targets.is_some() {
            self.network.copy_statistics()?
        } else {
            Vec::new()
        };
        let mode = Mode::Train { dropout_seed };
        let logits = self.network.forward(&input, mode, self.context.precision)?;
        // Only now: the student's forward pass does not need them.
        let waiting = Instant::now();
        let pending = batch.soft_targets;
        let soft_targets = match pending.map(|pending| pending.wait(self.context.cancel)) {
            None => None,
            Some(Ok(answer)) => Some(TeacherLogits::new(&answer)?),
            Some(Err(error)) => {
                self.network.restore_statistics(&statistics)?;
                return Err(self.end_early(error.into()));
            }
        };
        let waited = waiting.elapsed();
        let targets = Targets {
            labels: &labels,
            mixed: mixed.as_ref(),
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

    /// The learning rate of step `step` of the current epoch.
    fn learning_rate(&self, step: u64) -> f64 {
        self.schedule
            .learning_rate(self.progress.epoch as u64 * self.steps_per_epoch + step)
    }

    /// Reports the steps since the last report.
    fn report(&mut self) -> Result<(), EngineError> {
        let totals = self.read_interval()?;
        let interval = &self.interval;
        let seconds = interval.started.elapsed().as_secs_f64().max(1e-9);
        let source = self.context.batches.soft_targets;
        let trained = totals.samples - interval.samples_before;
        self.context
            .events
            .send(RunEvent::StepProgress(StepProgress {
                phase: self.context.batches.phase,
                epoch: self.progress.epoch + 1,
                step: self.progress.step,
                loss: totals.loss(),
                train_accuracy: totals.accuracy(),
                learning_rate: self.learning_rate(self.progress.step - 1),
                samples_per_second: trained as f64 / seconds,
                teacher_wait_share: interval.waited.as_secs_f64() / seconds,
                data_wait_share: interval.waited_for_data.as_secs_f64() / seconds,
                teachers: source.map_or(0, |source| source.teachers()),
            }));
        self.progress.reported += totals;
        self.interval = Interval::start(self.progress.step, Totals::default())?;
        Ok(())
    }

    /// Sums since the last report.
    ///
    /// # Errors
    /// [`EngineError::Diverged`] if a loss among them is not finite.
    fn read_interval(&self) -> Result<Totals, EngineError> {
        let totals = self.interval.meter.read()?;
        if totals.samples == 0 || totals.loss().is_finite() {
            return Ok(totals);
        }
        let first = self.interval.meter.first_not_finite()?;
        // If every loss is finite, their sum overflowed.
        let (steps_before, loss) = first.unwrap_or((0, totals.loss()));
        let step = self.interval.first_step + steps_before;
        let step = self.progress.epoch as u64 * self.steps_per_epoch + step;
        Err(self.diverged(NotFinite::Loss(loss), step))
    }

    /// The current weights.
    ///
    /// # Errors
    /// [`EngineError::Diverged`] if one of them is not finite.
    fn weights(&self) -> Result<Weights, EngineError> {
        self.network.weights().map_err(|error| match error {
            TorchError::Weights(WeightsError::NotFinite(name)) => {
                let last = self.steps_done().saturating_sub(1);
                self.diverged(NotFinite::Weight(name), last)
            }
            error => error.into(),
        })
    }

    /// `step` counts from 0 over all epochs.
    fn diverged(&self, what: NotFinite, step: u64) -> EngineError {
        EngineError::Diverged(Box::new(Divergence {
            what,
            phase: self.context.batches.phase,
            kind: self.context.config.kind(),
            epoch: (step / self.steps_per_epoch) as usize + 1,
            step: step % self.steps_per_epoch + 1,
            learning_rate: self.schedule.learning_rate(step),
        }))
    }

    fn end_epoch(&mut self) -> Result<(), EngineError> {
        let summary = EpochSummary {
            train_loss: self.progress.reported.loss(),
            train_accuracy: self.progress.reported.accuracy(),
            validation_accuracy: self.validate()?,
        };
        self.take_time();
        self.context
            .events
            .send(RunEvent::EpochFinished(EpochFinished {
                phase: self.context.batches.phase,
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

    /// Ends the phase between two steps and writes a checkpoint.
    fn end_early(&mut self, error: EngineError) -> EngineError {
        match self.keep_checkpoint() {
            Ok(()) => error,
            Err(error) => error,
        }
    }

    /// Steps done in the phase.
    fn steps_done(&self) -> u64 {
        self.progress.epoch as u64 * self.steps_per_epoch + self.progress.step
    }

    fn checkpoint_is_due(&self) -> bool {
        let done = self.steps_done();
        let every = self.context.checkpoints.map_or(0, Checkpoints::every_steps);
        every > 0 && done.is_multiple_of(every)
    }

    fn keep_checkpoint(&mut self) -> Result<(), EngineError> {
        let Some(checkpoints) = self.context.checkpoints else {
            return Ok(());
        };
        if (self.progress.epoch, self.progress.step) == (0, 0) {
            // This is the end of the phase before, or the start of the run.
            return Ok(());
        }
        self.progress.unreported = self.read_interval()?;
        self.take_time();
        let named = self.network.parameters().iter().map(|(name, _)| name);
        let velocities = named
            .zip(self.optimizer.velocities())
            .map(|(name, velocity)| Ok((name.clone(), to_values(velocity)?)))
            .collect::<Result<_, TorchError>>()?;
        let state = PhaseState {
            progress: self.progress.clone(),
            weights: self.weights()?,
            velocities,
        };
        checkpoints.keep(state).map_err(EngineError::Checkpoint)
    }

    /// Adds the time since the last call.
    fn take_time(&mut self) {
        let seconds = self.uncounted_since.elapsed().as_secs_f64();
        self.uncounted_since = Instant::now();
        self.progress.epoch_seconds += seconds;
        self.progress.seconds += seconds;
    }

    fn validate(&self) -> Result<Option<f64>, EngineError> {
        let Some(validation) = self.context.validation else {
            return Ok(None);
        };
        let TrainingSamples {
            input,
            normalization,
            ..
        } = self.context.batches.samples;
        let network = self.network;
        let predictions = predict(validation, &input.dimensions(), |values| {
            inference::logits(network, values, input, normalization).map_err(EngineError::from)
        })?;
        Ok(accuracy(&predictions, &labels(validation)))
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
