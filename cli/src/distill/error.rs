//! Errors that end `retort distill`.

/// Why distilling failed.
#[derive(Debug, thiserror::Error)]
pub enum DistillError {
    /// Student and data do not fit together.
    #[error("--student {student} takes {takes}, but {path} has {found}")]
    Student {
        /// The family.
        student: String,
        /// What it takes.
        takes: &'static str,
        /// The data.
        path: String,
        /// What the data has.
        found: String,
    },
    /// A published network has one size.
    #[error(
        "--student {student} has one size: leave out --width and --depth, or choose cnn, resnet, mobilenet_v2, \
         efficientnet_lite or mlp"
    )]
    Sizes {
        /// The network.
        student: String,
    },
    /// The labels of the data are not the teacher's classes.
    #[error(
        "{path} has the classes {found}, but the teacher has {teacher}; rename the classes, or group the teacher's \
         with --teacher-set 'model.classes.NAME=[\"0-9\"]'"
    )]
    Classes {
        /// The data.
        path: String,
        /// Its classes.
        found: String,
        /// The teacher's classes.
        teacher: String,
    },
}
