//! Names and folders of runs.

use std::{fs, io, path::Path};

use super::{error::RequestError, run_id::RunId};

const LONGEST_NAME: usize = 64;

/// `name`, `name-2`, `name-3`, …
pub(super) fn names(name: &str) -> impl Iterator<Item = String> {
    (1_u64..).map(move |number| match number {
        1 => name.to_owned(),
        _ => format!("{name}-{number}"),
    })
}

/// Creates the first of the folders `names` below `runs_folder` that does not exist.
pub(super) fn allocate(
    runs_folder: &Path,
    names: impl Iterator<Item = String>,
) -> Result<RunId, RequestError> {
    let failed = |folder: &Path, error| RequestError::Folder {
        folder: folder.to_owned(),
        error,
    };
    fs::create_dir_all(runs_folder).map_err(|error| failed(runs_folder, error))?;
    for id in names {
        let folder = runs_folder.join(&id);
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(RunId::new(id)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&folder, error)),
        }
    }
    unreachable!("2^64 folders do not fit on a disk")
}

/// Checks a run's name, which becomes a folder's name: letters, digits, `-`, `_` and `.`, no leading dot.
pub(super) fn check_name(name: &str) -> Result<(), RequestError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=LONGEST_NAME).contains(&name.len())
        && name.chars().all(is_allowed)
        && !name.starts_with('.');
    if !fits {
        return Err(RequestError::InvalidName {
            name: name.chars().take(LONGEST_NAME).collect(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_names_are_numbered_on() {
        let runs = tempfile::tempdir().unwrap();
        for expected in ["a", "a-2", "a-3"] {
            let id = allocate(&runs.path().join("x"), names("a")).unwrap();
            assert_eq!(id, RunId::new(expected));
            assert!(runs.path().join("x").join(expected).is_dir());
        }
    }

    #[test]
    fn names_cannot_leave_the_runs_folder() {
        for good in ["a", "run-1_b.c", &"x".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../a",
            "a b",
            "ä",
            "a\0",
            &"x".repeat(65),
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
