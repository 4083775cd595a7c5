//! Describes a data set, and what opening it gives.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize, Serializer};

use crate::{Alpha, DatasetError, Decoding, Ground, Source, Subset};

/// A data set on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSpec {
    /// A folder or a file.
    pub path: PathBuf,
    /// How the data is stored; detected if absent.
    pub format: Option<Format>,
    /// Names of the classes in label order, if the data's own order or names do not suit.
    pub class_names: Option<Vec<String>>,
    /// Column of a table that holds the label; searched by its usual names if absent.
    pub label_column: Option<String>,
    /// Color that shows through transparent pixels of pictures.
    pub ground: Ground,
    /// Most pixels of a picture.
    pub max_pixels: u64,
    /// Largest share of files that may be unreadable, 0 to 1.
    pub max_unreadable: f64,
    /// How labelled data without validation and test samples is split.
    pub shares: Shares,
}

impl DataSpec {
    /// The data at `path`, with defaults for everything else.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: None,
            class_names: None,
            label_column: None,
            ground: Ground::WHITE,
            max_pixels: 100_000_000,
            max_unreadable: 0.01,
            shares: Shares::default(),
        }
    }

    pub(crate) fn decoding(&self) -> Decoding {
        Decoding {
            alpha: Alpha::Over(self.ground.0),
            ..Decoding::upright_on_white(self.max_pixels)
        }
    }
}

/// How data is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// IDX files, as of MNIST.
    Idx,
    /// Pictures in a folder per class, or unlabelled pictures.
    ImageFolder,
    /// NumPy arrays: `.npz`, or a folder of `.npy`.
    Numpy,
    /// Tables of numbers with a label column.
    Csv,
    /// The binary version of CIFAR-10 or CIFAR-100.
    Cifar,
    /// Tables with encoded pictures, as Hugging Face has them, or with numbers.
    Parquet,
    /// Tar archives of pictures with their labels.
    WebDataset,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 7] = [
        Self::Idx,
        Self::ImageFolder,
        Self::Numpy,
        Self::Csv,
        Self::Cifar,
        Self::Parquet,
        Self::WebDataset,
    ];

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idx => "idx",
            Self::ImageFolder => "image-folder",
            Self::Numpy => "numpy",
            Self::Csv => "csv",
            Self::Cifar => "cifar",
            Self::Parquet => "parquet",
            Self::WebDataset => "web-dataset",
        }
    }
}

/// A name that is no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a format of data; the formats are {}", Format::ALL.map(Format::name).join(", "))]
pub struct UnknownFormat {
    /// The name.
    pub name: String,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| UnknownFormat {
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Shares of the samples of each class; the others are for training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// For validation, 0 or more and less than 1.
    pub validation: f64,
    /// For the test, 0 or more and less than 1.
    pub test: f64,
    /// Decides which samples.
    pub seed: u64,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            validation: 0.1,
            test: 0.1,
            seed: 0,
        }
    }
}

/// An opened data set.
#[derive(Debug)]
pub struct Opened {
    /// Samples to train on, one or more.
    pub train: Arc<dyn Source>,
    /// Samples to choose settings with.
    pub validation: Option<Arc<dyn Source>>,
    /// Samples to measure the result with.
    pub test: Option<Arc<dyn Source>>,
    /// What was left out, by path.
    pub unreadable: Vec<UnreadableFile>,
}

impl Opened {
    /// The samples that a model is evaluated on: the test split; without one, those that a run validates on, of which
    /// it holds `held_out` out of the training split, or none. `None` if the data has none of them.
    ///
    /// # Errors
    /// [`DatasetError::TooFewSamples`].
    pub fn to_evaluate(self, held_out: usize) -> Result<Option<Subset>, DatasetError> {
        if let Some(test) = self.test {
            return Ok(Some(Subset::whole(test)));
        }
        match held_out {
            0 => Ok(self.validation.map(Subset::whole)),
            count => Ok(Some(Subset::whole(self.train).hold_out(count)?.1)),
        }
    }

    /// The splits that are there.
    pub fn splits(&self) -> impl Iterator<Item = (SplitName, &Arc<dyn Source>)> {
        let splits = [
            (SplitName::Train, Some(&self.train)),
            (SplitName::Validation, self.validation.as_ref()),
            (SplitName::Test, self.test.as_ref()),
        ];
        splits
            .into_iter()
            .filter_map(|(name, source)| Some((name, source?)))
    }
}

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitName {
    /// Samples to train on.
    Train,
    /// Samples to choose settings with.
    Validation,
    /// Samples to measure the result with.
    Test,
}

impl fmt::Display for SplitName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Train => "training",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableFile {
    /// Where it is.
    #[serde(serialize_with = "path_as_text")]
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// How far opening has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Files or rows that have been read.
    pub done: usize,
    /// Files or rows of this part of the data set.
    pub total: usize,
}

/// Serde refuses paths that are not UTF-8, which is why some of these files cannot be used.
fn path_as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

impl fmt::Display for UnreadableFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.problem)
    }
}
