//! An optimizer step from several batches, which workers share.
//!
//! What a batch contributes to the step is a row of numbers: its gradients, its statistics of batch-norm, its sums. Each
//! worker gathers the rows of all batches and adds them in the order of the batches. So all workers do the same step, and
//! its bits do not depend on how many they are: a single one does the same with its own rows.

use tch::{Device, Kind, TchError, Tensor};
use torch_distributed::Workers;
use torch_networks::{BATCH_NORM_MOMENTUM, TorchNetwork};

use super::{batch_sums::BatchSums, error::EngineError};

/// What one batch contributes to an optimizer step.
pub(super) struct Contribution {
    /// Of its share of the step's mean loss.
    pub(super) gradients: Vec<Tensor>,
    /// The batch's statistics of batch-norm times the momentum; empty if they are not collected.
    pub(super) statistics: Vec<Tensor>,
    pub(super) sums: BatchSums,
}

/// Exchanges the contributions of a phase's steps.
pub(super) struct Exchange<'w> {
    workers: &'w dyn Workers,
    /// Numbers of a row: gradients, statistics, sums.
    lengths: [usize; 3],
}

/// The contributions of all batches of a step, in their order: flat tensors, f32 [n].
#[derive(Default)]
pub(super) struct Rows {
    /// Added up, the gradients of the step; those of several batches may be added already.
    gradients: Vec<Tensor>,
    /// Of each batch, if they are collected.
    statistics: Vec<Tensor>,
    /// Of each batch.
    sums: Vec<Tensor>,
}

impl<'w> Exchange<'w> {
    /// For steps of `network` with a loss of `terms` terms. `collects_statistics`: whether forward passes change the
    /// statistics of batch-norm.
    pub(super) fn new(
        workers: &'w dyn Workers,
        network: &TorchNetwork,
        collects_statistics: bool,
        terms: usize,
    ) -> Self {
        let all: usize = network.tensors().map(|(_, tensor)| tensor.numel()).sum();
        let parameters = network.parameters().iter();
        let gradients = parameters.map(|(_, parameter)| parameter.numel()).sum();
        let statistics = if collects_statistics {
            all - gradients
        } else {
            0
        };
        Self {
            workers,
            lengths: [gradients, statistics, BatchSums::row_length(terms)],
        }
    }

    /// Whether contributions have statistics.
    pub(super) fn collects_statistics(&self) -> bool {
        self.lengths[1] > 0
    }

    /// Adds the contribution of this worker's next batch of a step to `own`. A single worker adds the gradients as they come,
    /// in the order of the batches: it needs memory for one copy of them, however many batches a step has.
    pub(super) fn collect(
        &self,
        own: &mut Vec<Contribution>,
        mut next: Contribution,
    ) -> Result<(), TchError> {
        if self.workers.count() == 1
            && let Some(first) = own.first_mut()
        {
            first.take_gradients(&mut next)?;
        }
        own.push(next);
        Ok(())
    }

    /// The contributions of the step's `batches` batches. `own` are those of this worker: of W workers, the one with
    /// rank r has the batches r, r + W, r + 2 W and so on.
    ///
    /// # Errors
    /// If a worker is lost, or if libtorch fails.
    pub(super) fn gather(
        &self,
        own: &[Contribution],
        batches: usize,
        device: Device,
    ) -> Result<Rows, EngineError> {
        let workers = self.workers.count();
        if workers == 1 {
            return Ok(Rows::of_one_worker(own)?);
        }
        let length: usize = self.lengths.iter().sum();
        // The last step of an epoch may have fewer batches for some workers, whose last row stays zero.
        let rows_of_a_worker = batches.div_ceil(workers);
        let size = |rows: usize| [rows as i64, length as i64];
        let own_rows = Tensor::f_zeros(size(rows_of_a_worker), (Kind::Float, device))?;
        for (index, contribution) in (0..).zip(own) {
            let mut row = own_rows.f_select(0, index)?;
            row.f_copy_(&contribution.to_row()?)?;
        }
        let mut all = Tensor::f_empty(size(workers * rows_of_a_worker), (Kind::Float, device))?;
        self.workers.gather(&own_rows, &mut all)?;
        let mut rows = Rows::default();
        for batch in 0..batches {
            let position = (batch % workers) * rows_of_a_worker + batch / workers;
            let row = all.f_select(0, position as i64)?;
            rows.add(&row, self.lengths)?;
        }
        Ok(rows)
    }
}

impl Contribution {
    /// Adds the gradients of a later batch, which keeps none. Neither is changed in place: autograd may return one tensor as
    /// the gradient of two parameters.
    fn take_gradients(&mut self, later: &mut Self) -> Result<(), TchError> {
        let pairs = self.gradients.iter().zip(later.gradients.drain(..));
        let sums = pairs.map(|(sum, gradient)| sum.f_add(&gradient));
        let sums: Vec<Tensor> = sums.collect::<Result<_, TchError>>()?;
        self.gradients = sums;
        Ok(())
    }

    /// f32 [n], on the device of the network.
    fn to_row(&self) -> Result<Tensor, TchError> {
        let parts = self.gradients.iter().chain(&self.statistics);
        let mut parts: Vec<Tensor> = parts.map(flat).collect::<Result<_, _>>()?;
        parts.push(self.sums.to_row()?);
        Tensor::f_cat(&parts, 0)
    }
}

impl Rows {
    fn of_one_worker(own: &[Contribution]) -> Result<Self, TchError> {
        let gradients = own.iter().map(|it| &it.gradients[..]);
        let gradients = gradients.filter(|it| !it.is_empty()).map(joined);
        let statistics = own.iter().map(|it| &it.statistics[..]);
        let statistics = statistics.filter(|it| !it.is_empty()).map(joined);
        let sums = own.iter().map(|it| it.sums.to_row());
        Ok(Self {
            gradients: gradients.collect::<Result<_, TchError>>()?,
            statistics: statistics.collect::<Result<_, TchError>>()?,
            sums: sums.collect::<Result<_, TchError>>()?,
        })
    }

    /// Adds the next batch's row, which has parts of these `lengths`, without keeping it: its gradients are large.
    fn add(&mut self, row: &Tensor, lengths: [usize; 3]) -> Result<(), TchError> {
        let [gradients, statistics, sums] = lengths.map(|length| length as i64);
        let next = row.f_narrow(0, 0, gradients)?;
        let sum = match self.gradients.pop() {
            Some(sum) => sum.f_add(&next)?,
            None => next,
        };
        self.gradients.push(sum);
        let part = |start: i64, length: i64| row.f_narrow(0, start, length)?.f_detach_copy();
        self.statistics.push(part(gradients, statistics)?);
        self.sums.push(part(gradients + statistics, sums)?);
        Ok(())
    }

    /// The gradients of the step, in the memory layout of `parameters`.
    pub(super) fn gradients(&self, parameters: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        let (first, others) = self
            .gradients
            .split_first()
            .ok_or_else(|| TchError::Shape("a step has no batches".to_owned()))?;
        let mut sum = first.shallow_clone();
        for gradients in others {
            sum = sum.f_add(gradients)?;
        }
        unflatten(&sum, parameters)
    }

    /// The running statistics of batch-norm after the step, from those `before` it: for each batch in order,
    /// r ← (1 − m) r + m s with the momentum m and the batch's statistics s, as `torch.nn.BatchNorm2d`.
    pub(super) fn statistics(&self, before: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        let mut running = joined(before)?;
        for statistics in &self.statistics {
            running = running
                .f_mul_scalar(1.0 - BATCH_NORM_MOMENTUM)?
                .f_add(statistics)?;
        }
        unflatten(&running, before)
    }

    /// The sums of each batch. `samples` are their numbers of samples.
    pub(super) fn sums(
        &self,
        samples: impl Iterator<Item = usize>,
    ) -> Result<Vec<BatchSums>, TchError> {
        let rows = self.sums.iter().zip(samples);
        rows.map(|(row, samples)| BatchSums::from_row(row, samples))
            .collect()
    }
}

/// The values in row-major order, f32 [n].
fn flat(tensor: &Tensor) -> Result<Tensor, TchError> {
    tensor.f_to_kind(Kind::Float)?.f_reshape([-1])
}

/// The values of all of `tensors`, one after the other, f32 [n].
fn joined(tensors: &[Tensor]) -> Result<Tensor, TchError> {
    let parts: Vec<Tensor> = tensors.iter().map(flat).collect::<Result<_, _>>()?;
    Tensor::f_cat(&parts, 0)
}

/// The values of `flat` as tensors with the shapes and memory layouts of `like`.
fn unflatten(flat: &Tensor, like: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
    let mut start = 0;
    let mut next = |like: &Tensor| -> Result<Tensor, TchError> {
        let length = like.numel() as i64;
        let values = flat.f_narrow(0, start, length)?.f_view_as(like)?;
        start += length;
        let mut tensor = like.f_empty_like()?;
        tensor.f_copy_(&values)?;
        Ok(tensor)
    };
    tch::no_grad(|| like.iter().map(&mut next).collect())
}

#[cfg(test)]
mod tests;
