//! Finds the files of each split by their names.

use std::path::{Path, PathBuf};

use common::folders::{self, EntryKind};

use crate::DatasetError;

/// Names of the folder or file with samples for validation.
pub(crate) const VALIDATION: [&str; 3] = ["val", "valid", "validation"];

/// Files of one extension, by split and name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SplitFiles {
    /// For training; never empty.
    pub(crate) train: Vec<PathBuf>,
    /// For validation.
    pub(crate) validation: Vec<PathBuf>,
    /// For the test.
    pub(crate) test: Vec<PathBuf>,
}

impl SplitFiles {
    /// The file `path`, or the files of its folder (or its folder `data`, as Hugging Face has it) that end in
    /// `.EXTENSION`. `train.csv`, `train-00000-of-00002.parquet`, `train_1.tar` and files in a folder `train`
    /// are for training. If no name tells a split, all files are for training.
    ///
    /// # Errors
    /// [`DatasetError`] if there is no file to train on.
    pub(crate) fn find(path: &Path, extension: &str) -> Result<Self, DatasetError> {
        if !path.is_dir() {
            return Ok(Self {
                train: vec![path.to_owned()],
                ..Self::default()
            });
        }
        let mut found = Vec::new();
        for folder in [path.to_owned(), path.join("data")] {
            for (split, file) in files(&folder, extension)? {
                found.push((split, file));
            }
        }
        for name in ["train", "test"].iter().chain(&VALIDATION) {
            let below = files(&path.join(name), extension)?;
            found.extend(below.into_iter().map(|(_, file)| (Split::of(name), file)));
        }
        let of = |wanted: Split| {
            let files = found.iter().filter(|(split, _)| *split == Some(wanted));
            files.map(|(_, file)| file.clone()).collect()
        };
        let splits = Self {
            train: of(Split::Train),
            validation: of(Split::Validation),
            test: of(Split::Test),
        };
        if !splits.train.is_empty() {
            return Ok(splits);
        }
        let all: Vec<_> = found.into_iter().map(|(_, file)| file).collect();
        let problem = match all.first() {
            None => format!("it has no file that ends in .{extension}"),
            Some(_) if !splits.validation.is_empty() || !splits.test.is_empty() => {
                format!("it has .{extension} files for validation or test, but none for training")
            }
            Some(_) => {
                return Ok(Self {
                    train: all,
                    ..Self::default()
                });
            }
        };
        Err(DatasetError::layout(path, problem))
    }
}

/// Whether there is such a file or folder. A link counts: one that leads nowhere must not be passed over.
pub(crate) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    /// The split that the name of a file or folder tells.
    fn of(name: &str) -> Option<Self> {
        let word = name.split(['-', '_', '.']).next()?.to_ascii_lowercase();
        match &*word {
            "train" | "training" => Some(Self::Train),
            "test" => Some(Self::Test),
            word if VALIDATION.contains(&word) => Some(Self::Validation),
            _ => None,
        }
    }
}

/// The files of `folder` with the split that their names tell, by name; none if there is no such folder.
fn files(folder: &Path, extension: &str) -> Result<Vec<(Option<Split>, PathBuf)>, DatasetError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let listing = folders::list(folder).map_err(|error| DatasetError::unreadable(folder, error))?;
    if let Some(unusable) = listing.unusable.first() {
        return Err(DatasetError::layout(folder, unusable.to_string()));
    }
    let suffix = format!(".{extension}");
    let entries = listing.entries.into_iter().filter(|entry| {
        let is_hidden = entry.name.starts_with('.');
        entry.kind == EntryKind::File
            && !is_hidden
            && entry.name.to_ascii_lowercase().ends_with(&suffix)
    });
    Ok(entries
        .map(|entry| (Split::of(&entry.name), entry.path))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Relative names of the files for training, validation and test.
    fn found(names: &[&str]) -> Result<[Vec<String>; 3], String> {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let relative = |path: &PathBuf| {
            path.strip_prefix(folder.path())
                .unwrap()
                .display()
                .to_string()
        };
        let splits = SplitFiles::find(folder.path(), "csv").map_err(|error| error.to_string())?;
        let SplitFiles {
            train,
            validation,
            test,
        } = splits;
        Ok([train, validation, test].map(|files| files.iter().map(relative).collect()))
    }

    #[test]
    fn names_of_files_and_folders_tell_the_split() {
        let splits = found(&[
            "data/train-00001-of-2.csv",
            "data/train-00000-of-2.csv",
            "valid.csv",
            "test/a.csv",
            ".train.csv",
            "train.txt",
        ]);
        let expected = [
            &["data/train-00000-of-2.csv", "data/train-00001-of-2.csv"][..],
            &["valid.csv"],
            &["test/a.csv"],
        ];
        assert_eq!(splits.unwrap(), expected);
        assert_eq!(
            found(&["iris.csv", "more.CSV"]).unwrap()[0],
            ["iris.csv", "more.CSV"]
        );
        for (names, problem) in [
            (&["x.txt"][..], "no file that ends in .csv"),
            (&["test.csv"], "none for training"),
        ] {
            assert!(found(names).unwrap_err().contains(problem));
        }
    }
}
