//! What a run asks of its teachers.

use artifacts::manifest::TeacherIdentity;

/// What a run asks of a teacher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedTeacher {
    /// Shape of one image: [channels, height, width].
    pub input_shape: [usize; 3],
    /// Number of classes.
    pub classes: usize,
    /// Names of the classes, which the teacher must know, in any order; without, only their number counts.
    pub class_names: Option<Vec<String>>,
    /// Images that it will be asked for at a time, at most.
    pub largest_batch: BatchSize,
    /// Who a resumed run's teacher was, as its checkpoint says; without, the first that fits.
    pub identity: Option<TeacherIdentity>,
}

/// Images a batch, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSize {
    /// 1 or more.
    pub images: usize,
    /// Key of the configuration.
    pub key: String,
}
