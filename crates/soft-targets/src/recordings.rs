//! All recordings at one place.

use std::path::{Path, PathBuf};

use common::folders;

use crate::{Recording, StoreError, WantedRecording};

/// The recordings in a folder or a bucket.
#[derive(Debug)]
pub struct Recordings {
    store: PathBuf,
    /// Usable recordings, by name.
    pub usable: Vec<Recording>,
    /// Errors of the others; each names its recording.
    pub damaged: Vec<StoreError>,
}

impl Recordings {
    /// No recording at `store`.
    pub(crate) fn none(store: &Path) -> Self {
        Self {
            store: store.to_owned(),
            usable: Vec::new(),
            damaged: Vec::new(),
        }
    }

    /// The recordings below `store`, following links; none if the folder does not exist. Ignores other
    /// entries.
    ///
    /// # Errors
    /// If `store` itself cannot be read.
    pub fn list(store: &Path) -> Result<Self, StoreError> {
        let listing = folders::list(store).map_err(StoreError::io(store))?;
        let mut found = Self::none(store);
        let visible = listing
            .folders()
            .filter(|entry| !entry.name.starts_with('.'));
        for folder in visible {
            if !Recording::is_described(&folder.path) {
                continue;
            }
            let opened = Recording::open(&folder.path);
            match opened.and_then(|recording| recording.views().map(|_| recording)) {
                Ok(recording) => found.usable.push(recording),
                Err(error) => found.damaged.push(error),
            }
        }
        let unusable = listing.unusable.into_iter();
        found.damaged.extend(unusable.map(StoreError::from));
        Ok(found)
    }

    /// Whether there is no recording, not even a damaged one.
    pub fn is_empty(&self) -> bool {
        self.usable.is_empty() && self.damaged.is_empty()
    }

    /// The one recording that fits a run and whose teacher's model id starts with `teacher`.
    ///
    /// # Errors
    /// [`StoreError::NoneFits`], [`StoreError::Ambiguous`]; [`StoreError::Unavailable`] if none fits of those with copies.
    pub fn find(
        self,
        wanted: &WantedRecording<'_>,
        teacher: Option<&str>,
    ) -> Result<Recording, StoreError> {
        let Self {
            store,
            usable,
            damaged,
        } = self;
        let teacher = teacher.unwrap_or_default();
        let mut differing = Vec::new();
        let mut fitting = Vec::new();
        for recording in usable {
            let model = &recording.identity().teacher.model_id;
            let differences = if model.starts_with(teacher) {
                recording.identity().differences(wanted)
            } else {
                format!("teacher {model:.12} instead of {teacher}")
            };
            if differences.is_empty() {
                fitting.push(recording);
            } else {
                differing.push(format!("{} has {differences}", recording.name()));
            }
        }
        match fitting.len() {
            1 => Ok(fitting.remove(0)),
            0 => {
                let is_partial = damaged.iter().any(StoreError::is_temporary);
                differing.extend(damaged.iter().map(StoreError::to_string));
                let found = if differing.is_empty() {
                    "there is none at all; `retort record` makes one".to_owned()
                } else {
                    differing.join("; ")
                };
                let error = StoreError::NoneFits { store, found };
                if is_partial {
                    // The bucket may have one that fits.
                    let problem = error.to_string();
                    return Err(StoreError::Unavailable { problem });
                }
                Err(error)
            }
            _ => Err(StoreError::Ambiguous {
                store,
                names: fitting.iter().map(Recording::name).collect(),
            }),
        }
    }
}
