//! What happens when no teacher is left.
//!
//! Without a [`Fallback`] the run fails with the pool's error and keeps its checkpoint. With one, it
//! continues from a recording of the same teacher, with the same bits, as far as the recording reaches.

use std::sync::atomic::{AtomicBool, Ordering};

use soft_targets::SoftTargets;
use teacher_pool::{PoolError, TeacherPool};

use super::{error::SoftTargetError, recorded::RecordedTargets};
use crate::events::NoticeSender;

/// A recording that replaces the teachers while none is left.
#[derive(Debug)]
pub struct Fallback {
    recorded: RecordedTargets,
    notices: NoticeSender,
    /// The pool has waited in vain since the last answer. Batches are then not queued unless a teacher is
    /// connected.
    waited: AtomicBool,
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

    /// Whether `error` means that no teacher is left.
    pub(super) fn applies_to(error: &PoolError) -> bool {
        matches!(
            error,
            PoolError::NoTeacher { .. } | PoolError::TeachersGone { .. }
        )
    }

    /// The recording that a run uses because `error` ended its search for a first teacher.
    ///
    /// # Errors
    /// What is wrong with the recording, after `error`.
    pub(super) fn at_start(
        recorded: Result<RecordedTargets, SoftTargetError>,
        error: PoolError,
        notices: &NoticeSender,
    ) -> Result<RecordedTargets, SoftTargetError> {
        let recorded = recorded.map_err(|wrong| wrong.without_teachers(error.clone()))?;
        notices.notice(takes_over(&error));
        Ok(recorded)
    }

    /// Notes that a teacher answered.
    pub(super) fn teacher_answered(&self) {
        self.waited.store(false, Ordering::Relaxed);
    }

    /// The recorded soft targets of a batch while no teacher is left; `None` if only a teacher can help.
    pub(super) fn instead_of(
        &self,
        pool: &TeacherPool,
        view: Option<u32>,
        samples: &[u32],
    ) -> Option<Result<SoftTargets, SoftTargetError>> {
        let no_teacher = self.waited.load(Ordering::Relaxed) && pool.teachers() == 0;
        let recorded = no_teacher && view.is_some_and(|view| self.recorded.has(view));
        recorded.then(|| self.recorded.gather(view, samples))
    }

    /// The recorded soft targets of a batch that no teacher answered, because of `error`.
    ///
    /// # Errors
    /// [`SoftTargetError::NotRecorded`].
    pub(super) fn take_over(
        &self,
        error: PoolError,
        view: Option<u32>,
        samples: &[u32],
    ) -> Result<SoftTargets, SoftTargetError> {
        match self.recorded.gather(view, samples) {
            Ok(targets) => {
                if !self.waited.swap(true, Ordering::Relaxed) {
                    self.notices.notice(takes_over(&error));
                }
                Ok(targets)
            }
            Err(recording) => Err(recording.without_teachers(error)),
        }
    }
}

fn takes_over(error: &PoolError) -> String {
    format!("{error}; continuing with recorded soft targets")
}
