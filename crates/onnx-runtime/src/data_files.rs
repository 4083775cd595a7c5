//! The files beside a model that hold its weights.

use std::{
    collections::BTreeSet,
    io,
    path::{Component, Path, PathBuf},
};

/// Why a model's external data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFileError {
    /// The model names a file outside its folder.
    #[error(
        "its weights are in `{location}`; only files in the model's folder or below it are read: \
         export the model again with a relative path"
    )]
    Outside {
        /// As in the model.
        location: String,
    },
    /// A link in the folder leads out of it.
    #[error(
        "its weights are in `{location}`, a link that leads out of the model's folder to {}; copy the \
         file into the folder",
        target.display()
    )]
    Link {
        /// As in the model.
        location: String,
        /// Where it leads.
        target: PathBuf,
    },
    /// The file does not exist or cannot be read.
    #[error(
        "its weights are in the file {}, which cannot be read: {source}; an export with external data \
         consists of several files, which belong into one folder",
        path.display()
    )]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Checks the `locations` of external data of a model in `folder`; returns their paths.
///
/// # Errors
/// See [`DataFileError`].
pub(crate) fn resolve(
    folder: &Path,
    locations: &BTreeSet<String>,
) -> Result<Vec<PathBuf>, DataFileError> {
    let check = |location: &String| {
        let relative = Path::new(location);
        let stays_inside =
            |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || !relative.components().all(stays_inside) {
            let location = location.clone();
            return Err(DataFileError::Outside { location });
        }
        let path = folder.join(relative);
        let unreadable = |source| DataFileError::Unreadable {
            path: path.clone(),
            source,
        };
        let target = path.canonicalize().map_err(unreadable)?;
        if !target.starts_with(folder.canonicalize().map_err(unreadable)?) {
            let location = location.clone();
            return Err(DataFileError::Link { location, target });
        }
        if !target.is_file() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a file");
            return Err(unreadable(source));
        }
        Ok(path)
    };
    locations.iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn only_files_in_the_folder_are_accepted() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("far.data"), "far").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("near.data"), "near").unwrap();
        fs::create_dir(path("sub")).unwrap();
        fs::write(path("sub/below.data"), "below").unwrap();
        symlink("near.data", path("link.data")).unwrap();
        symlink(outside.path().join("far.data"), path("out.data")).unwrap();

        let check = |location: &str| resolve(folder.path(), &BTreeSet::from([location.to_owned()]));
        for good in ["near.data", "./near.data", "sub/below.data", "link.data"] {
            assert_eq!(check(good).unwrap(), [path(good)], "{good}");
        }
        for (bad, named) in [
            ("../far.data", "only files in the model's folder"),
            ("sub/../near.data", "only files in the model's folder"),
            ("/etc/passwd", "only files in the model's folder"),
            ("", "only files in the model's folder"),
            ("out.data", "leads out of the model's folder"),
            ("missing.data", "missing.data, which cannot be read"),
            ("sub", "it is not a file"),
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains(named), "{bad}: {error}");
        }
    }
}
