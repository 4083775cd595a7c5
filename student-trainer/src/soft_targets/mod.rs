//! Where soft targets come from: teachers, or a recording of their logits.
//!
//! - [`TeacherSupplies`]: everything that a run needs for its soft targets, by its configuration; for each teacher,
//!   [`supply`] has its pool or its recording.
//! - [`PhaseTargets`]: the teachers of a phase, and the samples of a batch that each gets.
//! - [`SoftTargetEpochs`]: the epochs, and so the views, that still need soft targets.
//! - [`SoftTargetSource`]: what a phase asks of one teacher: its [`live`] pool or a [`recorded`] view.
//! - [`fallback`]: what happens when no teacher is left.
//! - [`recording_run`]: records missing shards while a run reads the recording.
//! - [`recorder`]: asks teachers for the shards that a recording lacks.
//! - [`unused_samples`]: how many samples of a recording the run does not use.
//! - [`record`]: `student-trainer record`, which records ahead of any run.
//!
//! A teacher's logits of an image do not depend on the rest of its batch, if the batch is not too
//! [small](padding). So a recording, made in the order of the data set, gives a student the same bits as
//! shuffled batches of the same view that go to a teacher.

mod context;
mod epochs;
mod error;
mod fallback;
mod live;
mod live_predictions;
mod padding;
mod phase_targets;
pub mod record;
mod recorded;
mod recorder;
mod recording_run;
mod run_reference;
mod source;
mod supplies;
mod supply;
mod unused_samples;

pub use context::SupplyContext;
pub use epochs::SoftTargetEpochs;
pub use error::SoftTargetError;
pub use fallback::Fallback;
pub use live::{AskedTeachers, BatchRequest, LiveTargets, PendingSoftTargets};
pub use live_predictions::LiveTeacher;
pub use phase_targets::{PendingAnswer, PhaseTargets, TeacherAnswer, TeacherBatch};
pub use recorded::RecordedTargets;
pub use recorder::{Progress, Recorded, Recorder};
pub use run_reference::RunReference;
pub use source::SoftTargetSource;
pub use supplies::{SuppliedTeacher, TeacherSupplies};
