//! One optimizer step: its batches, their gradients, and the update of the network.

use std::{
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use datasets::{EpochSampler, random::RandomStreams};
use rand::Rng;
use soft_targets::consumption::ConsumedStep;
use tch::Tensor;
use torch_networks::{Mode, to_device};

use super::Phase;
use crate::{
    engine::{
        batch_sums::BatchSums,
        error::EngineError,
        exchange::{Contribution, Exchange},
        inference::input_tensor,
        loss::{Targets, loss},
        mixed_labels::MixedTargets,
        optimizer::Step,
        term_sources::answers,
    },
    loader::{LoadedBatch, LoadingResult},
    metrics,
    soft_targets::PhaseTargets,
};

/// What decides the batches of an epoch.
pub(super) struct Epoch {
    pub(super) dropout: RandomStreams,
    pub(super) sampler: EpochSampler,
}

/// The batches of an optimizer step that is not counted yet.
struct TrainedStep {
    /// Of their mean loss.
    gradients: Vec<Tensor>,
    /// Of each batch.
    sums: Vec<BatchSums>,
    /// Time spent waiting for soft targets.
    waited: Duration,
}

impl Phase<'_> {
    /// Does one optimizer step and counts it.
    pub(super) fn step(
        &mut self,
        batches: &Receiver<LoadingResult<'_>>,
        epoch: &Epoch,
    ) -> Result<(), EngineError> {
        // A step that ends early, because soft targets do not arrive or between two of its batches, leaves the
        // network as it was.
        let may_end_early = self.context.batches.soft_targets.is_some() || self.exchange.is_some();
        let statistics = if may_end_early {
            self.network.copy_statistics()?
        } else {
            Vec::new()
        };
        let trained = match self.train_on_batches(batches, epoch, &statistics) {
            Ok(trained) => trained,
            Err(
                error @ (EngineError::Cancelled
                | EngineError::LostWorker(_)
                | EngineError::Sample(_)
                | EngineError::SoftTargets(_)),
            ) => {
                self.network.restore_statistics(&statistics)?;
                return Err(self.end_early(error));
            }
            Err(error) => return Err(error),
        };
        let step = Step {
            done: self.steps_done(),
            learning_rate: self.learning_rate(self.progress.step),
        };
        if self.is_reported_after(self.progress.step + 1) {
            self.updater.measure(&trained.gradients)?;
        }
        self.updater.step(trained.gradients, step)?;
        self.count(&trained.sums, trained.waited, epoch)
    }

    /// Trains on the batches of one optimizer step that this worker has, and gathers those of the others. `statistics` are
    /// those of batch-norm before the step.
    fn train_on_batches(
        &mut self,
        batches: &Receiver<LoadingResult<'_>>,
        epoch: &Epoch,
        statistics: &[Tensor],
    ) -> Result<TrainedStep, EngineError> {
        let positions = self.accumulation.batches_of(self.progress.step);
        let samples_of_step = self.accumulation.samples_of(self.progress.step) as f64;
        let own_share = self.context.batches.share;
        let exchange = self.exchange.as_ref();
        let collects_statistics = exchange.is_some_and(Exchange::collects_statistics);
        let mut own = Vec::new();
        let mut waited = Duration::ZERO;
        for position in positions.clone().filter(|it| own_share.has(*it)) {
            if self.context.cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let waiting = Instant::now();
            // The loader ends early only if it panics; the scope then panics too.
            let batch = batches.recv().map_err(|_| EngineError::Cancelled)?;
            self.interval.waited_for_data += waiting.elapsed();
            let batch = batch?;
            let share = batch.samples.len() as f64 / samples_of_step;
            let dropout_seed = epoch.dropout.at(position as u64).next_u64();
            if collects_statistics {
                self.network.zero_statistics()?;
            }
            let (mut contribution, of_batch) = self.train_on(batch, dropout_seed, share)?;
            if collects_statistics {
                contribution.statistics = self.network.copy_statistics()?;
            }
            match &self.exchange {
                Some(exchange) => exchange.collect(&mut own, contribution)?,
                None => own.push(contribution),
            }
            waited += of_batch;
        }
        let Some(exchange) = &self.exchange else {
            // A single batch.
            let parts = own.into_iter().map(|it| (it.gradients, it.sums));
            let (gradients, sums): (Vec<_>, Vec<_>) = parts.unzip();
            return Ok(TrainedStep {
                gradients: gradients.into_iter().next().unwrap_or_default(),
                sums,
                waited,
            });
        };
        let rows = exchange.gather(&own, positions.len(), self.network.device())?;
        if collects_statistics {
            let statistics = rows.statistics(statistics)?;
            self.network.restore_statistics(&statistics)?;
        }
        let samples = positions.map(|position| epoch.sampler.batch(position).len());
        Ok(TrainedStep {
            gradients: rows.gradients(self.updater.parameters())?,
            sums: rows.sums(samples)?,
            waited,
        })
    }

    /// Counts an optimizer step with batches of these `sums`.
    fn count(
        &mut self,
        sums: &[BatchSums],
        waited: Duration,
        epoch: &Epoch,
    ) -> Result<(), EngineError> {
        let plan = &self.context.batches;
        let number = self.progress.epoch;
        let positions = self.accumulation.batches_of(self.progress.step);
        for (position, sums) in positions.zip(sums) {
            self.interval.meter.add(sums)?;
            self.progress.consumed.add(ConsumedStep {
                phase: plan.phase as u64,
                epoch: number as u64,
                view: plan
                    .fixed_view(number)
                    .map_or(number as u64, |(_, view)| view.into()),
                samples: epoch.sampler.batch(position),
                teacher: plan.soft_targets.map(PhaseTargets::consumed),
            });
        }
        self.interval.waited += waited;
        let took = self.step_ended.elapsed();
        let samples = sums.iter().map(|batch| batch.samples);
        metrics::step_done(samples.sum(), took, waited);
        self.step_ended += took;
        self.progress.step += 1;
        Ok(())
    }

    /// Trains on one batch. Returns what it contributes, with the gradients of `share` times its mean loss and without
    /// statistics, and the time spent waiting for soft targets.
    fn train_on(
        &self,
        batch: LoadedBatch<'_>,
        dropout_seed: u64,
        share: f64,
    ) -> Result<(Contribution, Duration), EngineError> {
        let device = self.network.device();
        let input = input_tensor(&batch.input, self.context.batches.samples.input)?;
        let input = to_device(input, device)?;
        let labels = to_device(Tensor::f_from_slice(&batch.labels)?, device)?;
        let mixed = batch.mixed.as_ref();
        let mixed = mixed.map(|mixed| MixedTargets::new(mixed, device));
        let mixed = mixed.transpose()?;
        let mode = Mode::Train { dropout_seed };
        let logits = match &self.quantized {
            None => self.network.forward(&input, mode, self.context.precision)?,
            Some(quantized) => quantized.forward(&input)?,
        };
        // Only now: the student's forward pass does not need them.
        let waiting = Instant::now();
        let answers = answers(batch.soft_targets, self.context.cancel, device)?;
        let soft_targets = self.sources.targets(&answers, &batch.routed)?;
        let waited = waiting.elapsed();
        let targets = Targets {
            labels: &labels,
            mixed: mixed.as_ref(),
            soft_targets: &soft_targets,
            epoch: self.progress.epoch + 1,
        };
        let loss = loss(&self.loss_terms, &logits, &targets)?;
        let gradients = if share == 1.0 {
            self.updater.gradients(&loss.total)?
        } else {
            self.updater.gradients(&loss.total.f_mul_scalar(share)?)?
        };
        let contribution = Contribution {
            gradients,
            statistics: Vec::new(),
            sums: BatchSums::of(&loss, &logits, &labels)?,
        };
        Ok((contribution, waited))
    }
}
