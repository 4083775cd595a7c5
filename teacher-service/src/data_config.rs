//! The `[data]` table of the service's configuration.

use std::path::PathBuf;

use common::config::Problems;
use datasets::{DataSpec, Format, Ground};
use serde::Deserialize;

/// A data set that trainers have too, described as in their `[data]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Folder or file of the data.
    pub path: PathBuf,
    /// Format of the data; detected if absent.
    pub format: Option<Format>,
    /// Class names in label order; by default, the data's own.
    pub class_names: Option<Vec<String>>,
    /// Column of a table that holds the labels; by default it is searched by its usual names.
    pub label_column: Option<String>,
    /// Color that shows through transparent pixels of pictures.
    #[serde(default)]
    pub ground: Ground,
    /// Largest share of files that may be unreadable, 0 to 1; they are left out.
    pub max_unreadable: Option<f64>,
}

impl DataConfig {
    /// The data to open.
    pub fn spec(&self) -> DataSpec {
        let spec = DataSpec::new(&self.path);
        DataSpec {
            format: self.format,
            class_names: self.class_names.clone(),
            label_column: self.label_column.clone(),
            ground: self.ground,
            max_unreadable: self.max_unreadable.unwrap_or(spec.max_unreadable),
            ..spec
        }
    }

    /// Adds the problems of the table to `problems`.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        let is_set = !self.path.as_os_str().is_empty();
        let allowed = "must name a folder or a file; without shared data, remove [data]";
        problems.require(is_set, "data.path", self.path.display(), allowed);
        if let Some(share) = self.max_unreadable {
            let fits = (0.0..=1.0).contains(&share);
            problems.require(fits, "data.max_unreadable", share, "must be from 0 to 1");
        }
    }
}
