//! Where soft targets come from: teachers, or a recording of theirs.
//!
//! - [`SoftTargetSupply`]: all that a run needs for them, as its configuration says.
//! - [`SoftTargetEpochs`]: for which epochs, and so for which views.
//! - [`SoftTargetSource`]: what a phase's loader asks.
//! - [`live`]: teachers, and the recording that replaces them when none is left.
//! - [`recorded`]: views of a recording, each usable once it is whole.
//! - [`recording_run`]: adds what is missing to a recording while a run reads it.
//! - [`recorder`]: asks teachers for the shards that a recording lacks.
//! - [`record`]: `student-trainer record`, recording ahead of any run.
//!
//! A teacher's logits of an image do not depend on the other images of a batch, nor on how many they
//! are, as long as there are [a few](padding). So a recording, made in the order of the data set,
//! gives a student the same bits as asking for each shuffled batch of the same view.

mod epochs;
mod live;
mod padding;
pub mod record;
mod recorded;
mod recorder;
mod recording_run;
mod supply;

use artifacts::manifest::TeacherIdentity;
use soft_targets::SoftTargets;
use tokio_util::sync::CancellationToken;

use crate::run::RunError;

pub use epochs::SoftTargetEpochs;
pub use live::{AskedTeachers, Fallback, LiveTargets};
pub use recorded::RecordedTargets;
pub use recorder::{Progress, Recorder};
pub use supply::{SoftTargetSupply, SupplyContext};

/// Batches gathered from a recording ahead of training.
const PREFETCH: usize = 4;

/// Where a phase's soft targets come from; a cheap handle.
#[derive(Clone, Copy)]
pub enum SoftTargetSource<'r> {
    /// Teachers, asked for every batch.
    Live(LiveTargets<'r>),
    /// A recording.
    Recorded(&'r RecordedTargets),
}

/// A batch whose soft targets are wanted.
pub struct Request<'b> {
    /// Which of a fixed set of views its images show, where there is one.
    pub view: Option<u32>,
    /// Positions in the data set.
    pub samples: &'b [u32],
    /// u8, row-major.
    pub pixels: Vec<u8>,
    /// [channels, height, width]
    pub image: [usize; 3],
}

/// Soft targets on their way.
#[must_use = "the answer is lost with it"]
pub enum PendingSoftTargets<'r> {
    /// A teacher is asked.
    Asked(AskedTeachers<'r>),
    /// They are here.
    Ready(SoftTargets),
    /// There will be none.
    Failed(RunError),
}

impl<'r> SoftTargetSource<'r> {
    /// Whose logits they are.
    pub fn teacher(&self) -> &'r TeacherIdentity {
        match self {
            Self::Live(live) => live.pool.identity(),
            Self::Recorded(recorded) => recorded.teacher(),
        }
    }

    /// Teachers connected now.
    pub fn teachers(&self) -> usize {
        match self {
            Self::Live(live) => live.pool.teachers(),
            Self::Recorded(_) => 0,
        }
    }

    /// For how many batches to ask ahead of training.
    pub fn prefetch(&self) -> usize {
        match self {
            Self::Live(live) => live.prefetch,
            Self::Recorded(_) => PREFETCH,
        }
    }

    /// Asks for the soft targets of a batch. Teachers are not waited for; a view that is still being
    /// recorded is.
    pub fn ask(&self, request: Request<'_>) -> PendingSoftTargets<'r> {
        match self {
            Self::Live(live) => live.ask(request),
            Self::Recorded(recorded) => recorded.ask(request.view, request.samples),
        }
    }
}

impl RecordedTargets {
    /// Gathers the soft targets of `samples`.
    ///
    /// # Panics
    /// Where `view` is absent: recordings are of fixed views, and the configuration was checked.
    fn ask<'r>(&self, view: Option<u32>, samples: &[u32]) -> PendingSoftTargets<'r> {
        let view = view.expect("recordings are of fixed views; the configuration was checked");
        match self.gather(view, samples) {
            Ok(targets) => PendingSoftTargets::Ready(targets),
            Err(error) => PendingSoftTargets::Failed(error),
        }
    }
}

impl PendingSoftTargets<'_> {
    /// Waits for them. Blocks: must not be called from an async task.
    ///
    /// # Errors
    /// Why there are none; see [`Ticket::wait`](teacher_pool::Ticket::wait) and
    /// [`RecordedTargets::gather`].
    pub fn wait(self, cancel: &CancellationToken) -> Result<SoftTargets, RunError> {
        match self {
            Self::Asked(asked) => asked.wait(cancel),
            Self::Ready(targets) => Ok(targets),
            Self::Failed(error) => Err(error),
        }
    }
}
