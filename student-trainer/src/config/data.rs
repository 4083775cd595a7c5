//! The `[data]` table of a run.

use std::path::PathBuf;

use common::config::{Problems, is_default};
use datasets::{Augmentation, DataSpec, Ground, Normalization};
use serde::{Deserialize, Serialize};

use super::DataFormat;

/// The images and their preprocessing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Format of the data; `auto` detects it.
    pub format: DataFormat,
    /// Folder or file of the data, relative to the working directory.
    pub path: PathBuf,
    /// Class names in label order; for unlabelled data, in the order of the teacher's logits.
    pub class_names: Vec<String>,
    /// Column of a table that holds the labels; by default it is searched by its usual names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Color that shows through transparent pixels of pictures, also those that the published model is asked about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ground: Ground,
    /// Largest share of files that may be unreadable, 0 to 1; they are left out.
    #[serde(
        default = "DataConfig::default_max_unreadable",
        skip_serializing_if = "DataConfig::is_default_max_unreadable"
    )]
    pub max_unreadable: f64,
    /// Number of training images held out for validation; they are the same for every seed.
    pub validation_samples: usize,
    /// Number of training images to use; 0 uses all that are not held out.
    pub train_samples: usize,
    /// Applied to the pixels of images. Rows of numbers are standardized by the training samples instead.
    pub normalization: Normalization,
    /// Random changes to training images; rows can only be mixed.
    pub augmentation: Augmentation,
}

impl DataConfig {
    const fn default_max_unreadable() -> f64 {
        0.01
    }

    fn is_default_max_unreadable(share: &f64) -> bool {
        *share == Self::default_max_unreadable()
    }

    /// The data to open.
    pub fn spec(&self) -> DataSpec {
        DataSpec {
            format: self.format.0,
            class_names: Some(self.class_names.clone()),
            label_column: self.label_column.clone(),
            ground: self.ground,
            max_unreadable: self.max_unreadable,
            ..DataSpec::new(&self.path)
        }
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        let Normalization { mean, std } = &self.normalization;
        for (key, values) in [("mean", mean), ("std", std)] {
            let fits = !values.is_empty() && values.iter().all(|value| value.is_finite());
            let key = format!("data.normalization.{key}");
            let allowed = "must hold one finite value a channel";
            problems.require(fits, &key, format!("{values:?}"), allowed);
        }
        let fits = std.iter().all(|std| *std > 0.0);
        let allowed = "must hold values above 0";
        problems.require(fits, "data.normalization.std", format!("{std:?}"), allowed);
        let share = self.max_unreadable;
        let fits = (0.0..=1.0).contains(&share);
        problems.require(fits, "data.max_unreadable", share, "must be from 0 to 1");
        let fits = !self.class_names.is_empty();
        problems.require(fits, "data.class_names", "[]", "needs at least one");
    }
}
