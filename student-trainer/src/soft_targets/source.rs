//! Where the loader gets the soft targets of its batches.

use artifacts::manifest::TeacherIdentity;
use datasets::Target;

use super::{
    live::{BatchRequest, LiveTargets, PendingSoftTargets},
    recorded::RecordedTargets,
};

/// Batches that are read from a recording ahead of training.
const PREFETCH: usize = 4;

/// Where a phase's soft targets come from; a cheap handle.
#[derive(Clone, Copy)]
pub enum SoftTargetSource<'r> {
    /// Teachers, asked for every batch.
    Live(LiveTargets<'r>),
    /// A recording.
    Recorded(&'r RecordedTargets),
}

impl<'r> SoftTargetSource<'r> {
    /// The teacher whose logits they are.
    pub fn teacher(&self) -> &'r TeacherIdentity {
        match self {
            Self::Live(live) => live.pool.identity(),
            Self::Recorded(recorded) => recorded.teacher(),
        }
    }

    /// The teachers' input; `None` if no teacher is asked.
    pub fn teacher_input(&self) -> Option<Target> {
        match self {
            Self::Live(live) => Some(live.input()),
            Self::Recorded(_) => None,
        }
    }

    /// Number of teachers that are connected now.
    pub fn teachers(&self) -> usize {
        match self {
            Self::Live(live) => live.pool.teachers(),
            Self::Recorded(_) => 0,
        }
    }

    /// Number of batches to ask for ahead of training.
    pub fn prefetch(&self) -> usize {
        match self {
            Self::Live(live) => live.prefetch,
            Self::Recorded(_) => PREFETCH,
        }
    }

    /// Asks for the soft targets of a batch. Does not wait for teachers, but waits for a view that is
    /// still being recorded.
    pub fn ask(&self, request: BatchRequest<'_>) -> PendingSoftTargets<'r> {
        match self {
            Self::Live(live) => live.ask(request),
            Self::Recorded(recorded) => {
                PendingSoftTargets::Ready(recorded.gather(request.fixed_view(), request.samples))
            }
        }
    }
}
