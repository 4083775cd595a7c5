//! What a run requires of its teachers.

use artifacts::manifest::TeacherIdentity;
use soft_targets::DataReference;
use tensors::TensorSpec;

/// What a run requires of its teachers.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedTeacher {
    /// What the run's samples are. A teacher fits if its data type and the fixed dimensions are the same; it decides
    /// the open ones. The name is not compared.
    pub input: TensorSpec,
    /// Number of classes.
    pub classes: usize,
    /// Names of the classes, which the teacher must know, in any order; `None` compares their number only.
    pub class_names: Option<Vec<String>>,
    /// The largest batch that the run submits.
    pub largest_batch: BatchSize,
    /// Identity of a resumed run's teacher, from the checkpoint; `None` accepts the first teacher that fits.
    pub identity: Option<TeacherIdentity>,
    /// The run's data. A teacher that has it gets positions in it instead of pixels; `None`: every teacher gets pixels.
    pub data: Option<DataReference>,
}

/// A number of samples per batch, and the configuration key that sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSize {
    /// 1 or more.
    pub images: usize,
    /// Named in errors.
    pub key: String,
}
