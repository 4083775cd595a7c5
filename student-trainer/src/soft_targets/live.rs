//! Teachers that are asked for every batch, and the recording that replaces them when none is left.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use soft_targets::{ClassOrder, SoftTargets};
use teacher_pool::{PoolError, TeacherPool, Ticket};
use tokio_util::sync::CancellationToken;

use super::{PendingSoftTargets, RecordedTargets, Request, padding};
use crate::{events::NoticeSender, run::RunError};

/// Teachers that are asked for every batch.
#[derive(Clone, Copy)]
pub struct LiveTargets<'r> {
    /// Who is asked.
    pub pool: &'r TeacherPool,
    /// For how many batches ahead of training.
    pub prefetch: usize,
    /// What replaces them when the pool has waited for one in vain. Without it, the run fails.
    pub fallback: Option<&'r Fallback>,
    /// Where the teachers' classes stand in another order than those of the data.
    pub order: Option<&'r ClassOrder>,
}

/// A recording that replaces the teachers while none is left.
#[derive(Debug)]
pub struct Fallback {
    recorded: RecordedTargets,
    notices: NoticeSender,
    /// The pool has waited in vain since the last answer. Batches are then not queued unless a teacher is
    /// connected.
    waited: AtomicBool,
}

/// A batch that teachers were asked for. The answer may have more rows than there are samples.
pub struct AskedTeachers<'r> {
    ticket: Ticket,
    view: Option<u32>,
    samples: Vec<u32>,
    fallback: Option<&'r Fallback>,
    order: Option<&'r ClassOrder>,
}

impl<'r> LiveTargets<'r> {
    /// Queues a batch for the teachers. While none is left, reads the recording that replaces them.
    pub(super) fn ask(&self, request: Request<'_>) -> PendingSoftTargets<'r> {
        let Request {
            view,
            samples,
            pixels,
            image: [channels, height, width],
        } = request;
        let fallback = self.fallback.filter(|it| it.is_active(self.pool));
        if let Some(targets) = fallback.and_then(|it| it.recorded(view, samples)) {
            return targets;
        }
        let (pixels, asked) = match view {
            Some(_) => padding::fill_up(pixels, samples.len()),
            None => (pixels, samples.len()),
        };
        let shape = [asked, channels, height, width];
        PendingSoftTargets::Asked(AskedTeachers {
            ticket: self.pool.submit(Bytes::from(pixels), shape),
            view,
            samples: samples.to_vec(),
            fallback: self.fallback,
            order: self.order,
        })
    }
}

impl AskedTeachers<'_> {
    /// Waits for the answer; see [`PendingSoftTargets::wait`].
    pub(super) fn wait(self, cancel: &CancellationToken) -> Result<SoftTargets, RunError> {
        match (self.ticket.wait(cancel), self.fallback) {
            (Ok(targets), fallback) => {
                if let Some(fallback) = fallback {
                    fallback.waited.store(false, Ordering::Relaxed);
                }
                let targets = targets.take(self.samples.len());
                Ok(match self.order {
                    Some(order) => targets.reordered(order),
                    None => targets,
                })
            }
            (
                Err(error @ (PoolError::NoTeacher { .. } | PoolError::TeachersGone { .. })),
                Some(fallback),
            ) => fallback
                .take_over(error, self.view, &self.samples)
                .wait(cancel),
            (Err(error), _) => Err(error.into()),
        }
    }
}

impl Fallback {
    /// Replaces teachers by `recorded`, and reports it through `notices`.
    pub fn new(recorded: RecordedTargets, notices: NoticeSender) -> Self {
        Self {
            recorded,
            notices,
            waited: AtomicBool::new(false),
        }
    }

    fn is_active(&self, pool: &TeacherPool) -> bool {
        self.waited.load(Ordering::Relaxed) && pool.teachers() == 0
    }

    /// The recorded soft targets of a batch that no teacher answered, because of `error`.
    fn take_over(
        &self,
        error: PoolError,
        view: Option<u32>,
        samples: &[u32],
    ) -> PendingSoftTargets<'_> {
        match self.recorded.ask(view, samples) {
            PendingSoftTargets::Failed(recording) => {
                PendingSoftTargets::Failed(recording.in_place_of_teachers(error))
            }
            targets => {
                if !self.waited.swap(true, Ordering::Relaxed) {
                    let notice = format!("{error}; going on from recorded soft targets");
                    self.notices.notice(notice);
                }
                targets
            }
        }
    }

    /// The recorded soft targets of a batch; `None` if the recording lacks its view.
    fn recorded(&self, view: Option<u32>, samples: &[u32]) -> Option<PendingSoftTargets<'_>> {
        let recorded = view.is_some_and(|view| self.recorded.has(view));
        recorded.then(|| self.recorded.ask(view, samples))
    }
}
