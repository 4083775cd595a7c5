//! Teachers that are asked for every batch.

use bytes::Bytes;
use datasets::{Target, View};
use soft_targets::{ClassOrder, DrawSeeds, SampleReferences, SoftTargets};
use teacher_pool::{TeacherBatch, TeacherPool, Ticket};
use tokio_util::sync::CancellationToken;

use super::{error::SoftTargetError, fallback::Fallback, padding};

/// Teachers that are asked for every batch.
#[derive(Clone, Copy)]
pub struct LiveTargets<'r> {
    /// The teachers.
    pub pool: &'r TeacherPool,
    /// Number of batches to ask for ahead of training.
    pub prefetch: usize,
    /// What replaces the teachers when the pool has waited for one in vain. Without it, the run fails.
    pub fallback: Option<&'r Fallback>,
    /// Reorders the teachers' classes, if the data have them in another order.
    pub order: Option<&'r ClassOrder>,
}

/// A batch that needs soft targets.
pub struct BatchRequest<'b> {
    /// What its samples show. Also decides what a sampled encoding draws.
    pub view: View,
    /// Positions in the data set.
    pub samples: &'b [u32],
    /// The samples as the teacher sees them, row-major, little-endian; not needed by a recording.
    pub values: Bytes,
}

/// The soft targets of a batch, which may not have arrived yet.
#[must_use = "dropping it drops the answer"]
pub enum PendingSoftTargets<'r> {
    /// The teachers have the batch.
    Asked(AskedTeachers<'r>),
    /// Known already.
    Ready(Result<SoftTargets, SoftTargetError>),
}

/// A batch that the teachers have. The answer may have more rows than there are samples.
pub struct AskedTeachers<'r> {
    ticket: Ticket,
    view: Option<u32>,
    samples: Vec<u32>,
    fallback: Option<&'r Fallback>,
    order: Option<&'r ClassOrder>,
}

impl BatchRequest<'_> {
    /// Number of the view, if it is one of a fixed set.
    pub fn fixed_view(&self) -> Option<u32> {
        match self.view {
            View::Fixed { view, .. } => u32::try_from(view).ok(),
            View::Plain | View::OfEpoch { .. } => None,
        }
    }
}

impl<'r> LiveTargets<'r> {
    /// The teachers' input.
    pub fn input(&self) -> Target {
        target_of(self.pool)
    }

    /// Queues a batch for the teachers. While none is left, reads the recording that replaces them.
    pub(super) fn ask(&self, request: BatchRequest<'_>) -> PendingSoftTargets<'r> {
        let fixed_view = request.fixed_view();
        let BatchRequest {
            view,
            samples,
            values,
        } = request;
        let recorded = self
            .fallback
            .and_then(|fallback| fallback.instead_of(self.pool, fixed_view, samples));
        if let Some(targets) = recorded {
            return PendingSoftTargets::Ready(targets);
        }
        let (pixels, images) = match fixed_view {
            Some(_) => padding::pad(values, samples.len()),
            None => (values, samples.len()),
        };
        // The copies that pad a batch need seeds too.
        let padded = samples.iter().copied().cycle().take(images);
        let batch = TeacherBatch {
            data: pixels,
            samples: images,
            seeds: DrawSeeds::of(self.pool.encoding(), view, padded),
            references: SampleReferences::of(view, padding::positions(samples, images)),
        };
        PendingSoftTargets::Asked(AskedTeachers {
            ticket: self.pool.submit(batch),
            view: fixed_view,
            samples: samples.to_vec(),
            fallback: self.fallback,
            order: self.order,
        })
    }
}

/// The input of the teachers in `pool`.
pub(super) fn target_of(pool: &TeacherPool) -> Target {
    let shape = pool.input().dimensions.sample_shape();
    Target {
        // Holds: a teacher in the pool has a fixed input.
        shape: shape.expect("the pool checks the teacher's input"),
        interpolation: pool.interpolation(),
    }
}

impl PendingSoftTargets<'_> {
    /// Waits for the soft targets. Blocks: must not be called from an async task.
    ///
    /// # Errors
    /// See [`Ticket::wait`] and [`RecordedTargets::gather`](super::RecordedTargets::gather).
    pub fn wait(self, cancel: &CancellationToken) -> Result<SoftTargets, SoftTargetError> {
        match self {
            Self::Asked(asked) => asked.wait(cancel),
            Self::Ready(targets) => targets,
        }
    }
}

impl AskedTeachers<'_> {
    fn wait(self, cancel: &CancellationToken) -> Result<SoftTargets, SoftTargetError> {
        let targets = match (self.ticket.wait(cancel), self.fallback) {
            (Ok(targets), _) => targets,
            (Err(error), Some(fallback)) if Fallback::applies_to(&error) => {
                return fallback.take_over(error, self.view, &self.samples);
            }
            (Err(error), _) => return Err(error.into()),
        };
        if let Some(fallback) = self.fallback {
            fallback.teacher_answered();
        }
        let targets = targets.take(self.samples.len());
        Ok(match self.order {
            Some(order) => targets.reordered(order),
            None => targets,
        })
    }
}
