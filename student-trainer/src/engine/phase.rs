//! The one training loop: every phase of every run goes through it.

mod context;
mod result;
mod step;

use std::{sync::mpsc::Receiver, thread, time::Instant};

use datasets::random::{Purpose, RandomStreams};
use networks::{Weights, WeightsError};
use torch_networks::{FakeQuantizedNetwork, TorchNetwork};
use traces::Span;

use self::step::Epoch;
use super::{
    TorchError,
    error::{Divergence, EngineError, NotFinite},
    exchange::Exchange,
    gradients::Accumulation,
    interval::Interval,
    loss::Term,
    meter::Totals,
    schedule::Schedule,
    state::{Checkpoints, EpochSummary, PhaseProgress, PhaseState},
    term_sources::TermSources,
    updater::Updater,
};
use crate::{
    events::{EpochFinished, PhaseStarted, RunEvent, StepProgress, TermLoss},
    loader::{BatchPlan, LoadingResult, Position},
    soft_targets::PhaseTargets,
};

pub use context::PhaseContext;
pub use result::PhaseSummary;

/// Optimizer steps between two reports of progress, which read the loss.
const REPORT_INTERVAL: u64 = 20;

/// Trains `network` through one phase, or through the rest of a resumed one. Afterwards `network` has the phase's
/// result: the last weights, their moving average (`ema`), or those of the best epoch (`early_stopping`).
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
    let start = phase.position();
    thread::scope(|scope| phase.train(&batches.load(scope, start)))
}

/// A phase in training.
struct Phase<'r> {
    context: PhaseContext<'r>,
    network: &'r TorchNetwork,
    /// Its form in int8, if the phase is quantization-aware.
    quantized: Option<FakeQuantizedNetwork>,
    loss_terms: Vec<Term>,
    /// What the terms learn from.
    sources: TermSources,
    updater: Updater<'r>,
    accumulation: Accumulation,
    /// Present if steps have several batches, which workers may share.
    exchange: Option<Exchange<'r>>,
    schedule: Schedule,
    /// Optimizer steps.
    steps_per_epoch: u64,
    /// Weights of `progress.best_epoch`.
    best: Option<Weights>,
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
        let accumulation = Accumulation {
            batches: config.accumulate,
            batch_size: context.batches.batch_size,
            samples: context.batches.samples.source.len(),
        };
        let steps_per_epoch = config.steps_per_epoch(accumulation.samples);
        let progress = match context.resumed {
            None => PhaseProgress::default(),
            Some(state) => {
                network.load_weights(&state.weights)?;
                state.progress.clone()
            }
        };
        let soft_targets = context.batches.soft_targets;
        let teachers = soft_targets.map(PhaseTargets::terms).unwrap_or_default();
        let (sources, loss_terms) = TermSources::new(config.loss.terms(), teachers);
        let quantized = context.quantized(network)?;
        let exchange = (config.accumulate > 1).then(|| {
            // A quantization-aware phase keeps the statistics of batch-norm.
            Exchange::new(
                context.workers,
                network,
                quantized.is_none(),
                loss_terms.len(),
            )
        });
        Ok(Self {
            context,
            network,
            quantized,
            exchange,
            loss_terms,
            sources,
            updater: Updater::new(network, config, context.resumed)?,
            accumulation,
            schedule: Schedule::new(config.schedule.clone(), config.epochs, steps_per_epoch),
            best: context.resumed.and_then(|state| state.best.clone()),
            steps_per_epoch,
            interval: Interval::start(progress.step, progress.unreported.clone())?,
            progress,
            uncounted_since: Instant::now(),
            step_ended: Instant::now(),
        })
    }

    fn train(
        &mut self,
        batches: &Receiver<LoadingResult<'_>>,
    ) -> Result<PhaseSummary, EngineError> {
        while !self.progress.is_over(self.context.config) {
            self.train_epoch(batches)?;
        }
        self.finish()
    }

    /// Trains the rest of an epoch.
    fn train_epoch(&mut self, batches: &Receiver<LoadingResult<'_>>) -> Result<(), EngineError> {
        let epoch = self.progress.epoch;
        let span = Span::begin("epoch").with("retort.epoch", epoch as i64 + 1);
        let _entered = span.enter();
        let trained = self.train_steps(epoch, batches);
        trained.inspect_err(|error| error.mark(&span))
    }

    /// Trains the rest of `epoch`, and validates the result.
    fn train_steps(
        &mut self,
        epoch: usize,
        batches: &Receiver<LoadingResult<'_>>,
    ) -> Result<(), EngineError> {
        let plan = self.context.batches;
        let BatchPlan { phase, seed, .. } = plan;
        let epoch = Epoch {
            dropout: RandomStreams::new(seed, Purpose::Dropout, phase as u64, epoch as u64),
            sampler: plan.sampler(epoch),
        };
        self.step_ended = Instant::now();
        while self.progress.step < self.steps_per_epoch {
            self.step(batches, &epoch)?;
            if self.is_reported_after(self.progress.step) {
                self.report()?;
            }
            if self.is_kept_after(self.progress.step) {
                self.keep_checkpoint()?;
            }
        }
        self.end_epoch()
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
        let soft_targets = self.context.batches.soft_targets;
        let trained = totals.samples - interval.samples_before;
        self.context
            .events
            .send(RunEvent::StepProgress(StepProgress {
                phase: self.context.batches.phase,
                epoch: self.progress.epoch + 1,
                step: self.progress.step,
                loss: totals.loss(),
                terms: self.term_losses(&totals),
                train_accuracy: totals.accuracy(),
                learning_rate: self.learning_rate(self.progress.step - 1),
                gradient_norm: self.updater.gradient_norm()?,
                samples_per_second: trained as f64 / seconds,
                teacher_wait_share: interval.waited.as_secs_f64() / seconds,
                data_wait_share: interval.waited_for_data.as_secs_f64() / seconds,
                teachers: soft_targets.map_or(0, PhaseTargets::connected),
            }));
        self.progress.reported += totals;
        self.interval = Interval::start(self.progress.step, Totals::default())?;
        Ok(())
    }

    /// The mean of each term of the loss, if there are several.
    fn term_losses(&self, totals: &Totals) -> Vec<TermLoss> {
        let kinds = self.loss_terms.iter().map(|term| term.config.kind.as_str());
        kinds
            .zip(totals.terms())
            .map(|(kind, loss)| TermLoss {
                kind: kind.to_owned(),
                loss,
            })
            .collect()
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
        let (batches_before, loss) = first.unwrap_or((0, totals.loss()));
        let step = self.interval.first_step + batches_before / self.accumulation.batches as u64;
        let step = self.progress.epoch as u64 * self.steps_per_epoch + step;
        Err(self.diverged(NotFinite::Loss(loss), step))
    }

    /// The current weights of `network`: the one in training, or its moving average.
    ///
    /// # Errors
    /// [`EngineError::Diverged`] if one of them is not finite.
    fn weights(&self, network: &TorchNetwork) -> Result<Weights, EngineError> {
        network.weights().map_err(|error| match error {
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
        self.note_best(summary)?;
        self.take_time();
        self.context
            .events
            .send(RunEvent::EpochFinished(EpochFinished {
                phase: self.context.batches.phase,
                epoch: self.progress.epoch + 1,
                train_loss: summary.train_loss,
                terms: self.term_losses(&self.progress.reported),
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

    /// The position of the next batch.
    fn position(&self) -> Position {
        Position {
            epoch: self.progress.epoch,
            step: self.accumulation.first_batch(self.progress.step),
        }
    }

    /// Optimizer steps done in the phase.
    fn steps_done(&self) -> u64 {
        self.progress.epoch as u64 * self.steps_per_epoch + self.progress.step
    }

    /// Whether progress is reported when `step` steps of the current epoch are done.
    fn is_reported_after(&self, step: u64) -> bool {
        let ends_epoch = step == self.steps_per_epoch;
        ends_epoch || step.is_multiple_of(REPORT_INTERVAL) || self.is_kept_after(step)
    }

    /// Whether a checkpoint is written when `step` steps of the current epoch are done, before its end.
    fn is_kept_after(&self, step: u64) -> bool {
        let done = self.progress.epoch as u64 * self.steps_per_epoch + step;
        let every = self.context.checkpoints.map_or(0, Checkpoints::every_steps);
        step < self.steps_per_epoch && every > 0 && done.is_multiple_of(every)
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
        let average = self.updater.average();
        let state = PhaseState {
            progress: self.progress.clone(),
            weights: self.weights(self.network)?,
            optimizer: self.updater.optimizer_state()?,
            ema: average.map(|average| self.weights(average)).transpose()?,
            best: self.best.clone(),
            ranges: self.context.ranges.cloned(),
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
}
