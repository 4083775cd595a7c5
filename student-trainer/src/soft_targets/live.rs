//! Teachers that are asked for every batch, and what takes their place when all of them are gone.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use soft_targets::{ClassOrder, SoftTargets};
use tokio_util::sync::CancellationToken;

use super::{PendingSoftTargets, RecordedTargets, Request, padding};
use crate::{
    events::NoticeSender,
    pool::{PoolError, TeacherPool, Ticket},
    run::RunError,
};

/// Teachers that are asked for every batch.
#[derive(Clone, Copy)]
pub struct LiveTargets<'r> {
    /// Who is asked.
    pub pool: &'r TeacherPool,
    /// For how many batches ahead of training.
    pub prefetch: usize,
    /// What takes their place when the pool has waited for them in vain; without, the run fails.
    pub when_gone: Option<&'r Gone>,
    /// Where the teachers' classes stand in another order than those of the data.
    pub order: Option<&'r ClassOrder>,
}

/// What takes the teachers' place when all of them are gone.
#[derive(Debug)]
pub struct Gone {
    /// Used instead.
    pub substitute: Substitute,
    notices: NoticeSender,
    /// The pool has waited in vain since the last answer. Batches are not queued then unless a teacher is
    /// connected.
    waited: AtomicBool,
}

/// What is used instead of teachers.
#[derive(Debug)]
pub enum Substitute {
    /// A recording of theirs, as far as it reaches.
    Recorded(Box<RecordedTargets>),
    /// Hard labels.
    HardLabels,
}

/// A batch that teachers were asked for. The answer may have more rows than there are samples.
pub struct AskedTeachers<'r> {
    ticket: Ticket,
    view: Option<u32>,
    samples: Vec<u32>,
    when_gone: Option<&'r Gone>,
    order: Option<&'r ClassOrder>,
}

impl<'r> LiveTargets<'r> {
    /// Queues a batch for the teachers; where they are gone and something takes their place, asks that.
    pub(super) fn ask(&self, request: Request<'_>) -> PendingSoftTargets<'r> {
        let Request {
            view,
            samples,
            pixels,
            image: [channels, height, width],
        } = request;
        let gone = self.when_gone.filter(|gone| gone.are_gone(self.pool));
        if let Some(targets) = gone.and_then(|gone| gone.instead(view, samples)) {
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
            when_gone: self.when_gone,
            order: self.order,
        })
    }
}

impl AskedTeachers<'_> {
    /// Waits for the answer; see [`PendingSoftTargets::wait`].
    pub(super) fn wait(self, cancel: &CancellationToken) -> Result<Option<SoftTargets>, RunError> {
        match (self.ticket.wait(cancel), self.when_gone) {
            (Ok(targets), gone) => {
                if let Some(gone) = gone {
                    gone.waited.store(false, Ordering::Relaxed);
                }
                let targets = targets.take(self.samples.len());
                Ok(Some(match self.order {
                    Some(order) => targets.reordered(order),
                    None => targets,
                }))
            }
            (
                Err(error @ (PoolError::NoTeacher { .. } | PoolError::TeachersGone { .. })),
                Some(gone),
            ) => gone.take_over(error, self.view, &self.samples).wait(cancel),
            (Err(error), _) => Err(error.into()),
        }
    }
}

impl Gone {
    /// Tells people through `notices` when it comes to that.
    pub fn new(substitute: Substitute, notices: NoticeSender) -> Self {
        Self {
            substitute,
            notices,
            waited: AtomicBool::new(false),
        }
    }

    fn are_gone(&self, pool: &TeacherPool) -> bool {
        self.waited.load(Ordering::Relaxed) && pool.teachers() == 0
    }

    fn notice(&self, error: &PoolError) {
        if self.waited.swap(true, Ordering::Relaxed) {
            return;
        }
        let instead = match self.substitute {
            Substitute::Recorded(_) => "going on from recorded soft targets",
            Substitute::HardLabels => "going on with hard labels alone until a teacher is back",
        };
        self.notices.notice(format!("{error}; {instead}"));
    }

    /// What is used in place of an answer that there will not be, for `error`.
    fn take_over(
        &self,
        error: PoolError,
        view: Option<u32>,
        samples: &[u32],
    ) -> PendingSoftTargets<'_> {
        let targets = match &self.substitute {
            Substitute::Recorded(recorded) => recorded.ask(view, samples),
            Substitute::HardLabels => PendingSoftTargets::HardLabels,
        };
        match targets {
            PendingSoftTargets::Failed(recording) => {
                PendingSoftTargets::Failed(recording.in_place_of_teachers(error))
            }
            targets => {
                self.notice(&error);
                targets
            }
        }
    }

    /// What is used while teachers are known to be gone; `None` where only they can help.
    fn instead(&self, view: Option<u32>, samples: &[u32]) -> Option<PendingSoftTargets<'_>> {
        match &self.substitute {
            Substitute::Recorded(recorded) => view
                .is_some_and(|view| recorded.has(view))
                .then(|| recorded.ask(view, samples)),
            Substitute::HardLabels => Some(PendingSoftTargets::HardLabels),
        }
    }
}
