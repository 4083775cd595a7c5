//! Why data cannot be used.

use std::path::{Path, PathBuf};

use crate::SampleError;

/// Why a data set cannot be used; the text names the file.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file is missing or cannot be read.
    #[error("cannot read {}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file's content violates its format.
    #[error("{} is not a usable {format} file: {problem}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Name of the format.
        format: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Images and labels do not belong together.
    #[error("{} holds {images} images but {} holds {labels} labels", images_file.display(), labels_file.display())]
    CountMismatch {
        /// File of the images.
        images_file: PathBuf,
        /// Its images.
        images: usize,
        /// File of the labels.
        labels_file: PathBuf,
        /// Its labels.
        labels: usize,
    },
    /// A label has no class.
    #[error("{}: label {label} of sample {index} is not below the number of classes, {classes}", file.display())]
    LabelOutOfRange {
        /// File of the labels.
        file: PathBuf,
        /// Position of the sample.
        index: usize,
        /// Its label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A folder does not have the layout of its format.
    #[error("{}: {problem}", folder.display())]
    Layout {
        /// The folder.
        folder: PathBuf,
        /// What is missing or wrong, and what is expected.
        problem: String,
    },
    /// Too many files cannot be used.
    #[error("{}: {unreadable} of {files} files cannot be used, more than the permitted share of {allowed}: {first}", path.display())]
    TooManyUnreadable {
        /// The data set.
        path: PathBuf,
        /// Files that cannot be used.
        unreadable: usize,
        /// All files.
        files: usize,
        /// Largest share of unreadable files.
        allowed: f64,
        /// The first few, each with its problem.
        first: String,
    },
    /// More samples are requested than exist.
    #[error("{wanted} samples are requested {purpose}, but the data set has {available}")]
    TooFewSamples {
        /// For example "for validation".
        purpose: &'static str,
        /// How many.
        wanted: usize,
        /// How many exist.
        available: usize,
    },
    /// A sample cannot be read.
    #[error(transparent)]
    Sample(#[from] SampleError),
}

impl DatasetError {
    /// A problem of the folder or file at `path`.
    pub(crate) fn layout(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Layout {
            folder: path.as_ref().to_owned(),
            problem: problem.into(),
        }
    }

    /// `file` cannot be read.
    pub(crate) fn unreadable(file: impl AsRef<Path>, reason: impl ToString) -> Self {
        Self::Unreadable {
            file: file.as_ref().to_owned(),
            reason: reason.to_string(),
        }
    }

    /// The content of `file` violates `format`.
    pub(crate) fn malformed(
        file: impl AsRef<Path>,
        format: &'static str,
        problem: impl Into<String>,
    ) -> Self {
        Self::Malformed {
            file: file.as_ref().to_owned(),
            format,
            problem: problem.into(),
        }
    }
}
