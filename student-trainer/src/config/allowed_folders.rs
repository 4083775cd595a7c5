//! Restricts the files that a run submitted over the network may name.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use common::config::Problems;
use serde::{Deserialize, Serialize};

use super::RunConfig;

/// The folders below which a submitted run may read and write. Relative paths start at the service's working
/// directory, as those of runs do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllowedFolders(Vec<PathBuf>);

/// A submitted run names a file that it may not use.
#[derive(Debug, thiserror::Error)]
#[error("{key} = {}: is not below a folder that this service allows to runs (allowed_folders)", path.display())]
pub struct NotAllowed {
    /// The key of the run's configuration.
    pub key: String,
    /// Its value.
    pub path: PathBuf,
}

impl AllowedFolders {
    /// Checks that every file and folder that `run` names is below one of these folders, after `..` and links
    /// are resolved; also links within a folder that it names. Does not reveal whether a file elsewhere exists.
    ///
    /// # Errors
    /// The first path that is not allowed.
    pub fn check(&self, run: &RunConfig) -> Result<(), NotAllowed> {
        for (key, path) in run.paths() {
            let outside = if self.contain(path) {
                links_in(path).into_iter().find(|link| !self.contain(link))
            } else {
                Some(path.to_owned())
            };
            if let Some(path) = outside {
                return Err(NotAllowed { key, path });
            }
        }
        Ok(())
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        let needed = "needs at least one: every run names a data set";
        problems.require(!self.0.is_empty(), "allowed_folders", "[]", needed);
        for (index, folder) in self.0.iter().enumerate() {
            let key = format!("allowed_folders[{index}]");
            let named = !folder.as_os_str().is_empty();
            problems.require(named, &key, "\"\"", "must name a folder");
        }
    }

    fn contain(&self, path: &Path) -> bool {
        // A path that cannot be resolved is not allowed.
        let Ok(path) = resolve(path) else {
            return false;
        };
        let mut folders = self.0.iter().filter_map(|folder| resolve(folder).ok());
        folders.any(|folder| path.starts_with(folder))
    }
}

/// The links in `folder`; none if it is not a folder or cannot be read, which the run will report.
fn links_in(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.is_symlink()).collect()
}

/// Resolves the links and `..` of `path`, whose last components need not exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let mut existing = absolute.as_path();
    let resolved = loop {
        match (existing.canonicalize(), existing.parent()) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                // A dangling link is not found either, and a file that is created through it would be at
                // its target.
                if existing.is_symlink() {
                    return Err(error);
                }
                existing = parent;
            }
            (result, _) => break result?,
        }
    };
    // Holds: `existing` was made from `absolute` by taking parents.
    let missing = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
    let is_plain = |component: Component<'_>| matches!(component, Component::Normal(_));
    if !missing.components().all(is_plain) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(resolved.join(missing))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use test_support::run_toml::RunToml;

    use super::*;

    #[test]
    fn links_and_dots_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("data/images")).unwrap();
        fs::create_dir_all(root.join("database")).unwrap();
        fs::create_dir_all(root.join("secret/deep")).unwrap();
        symlink(root.join("secret/deep"), root.join("data/out")).unwrap();
        symlink(root.join("secret/new"), root.join("data/dangling")).unwrap();
        symlink(root.join("data/images"), root.join("data/in")).unwrap();
        let allowed = AllowedFolders(vec![root.join("data"), root.join("missing")]);
        for (path, contained) in [
            ("data", true),
            ("data/images", true),
            ("data/in", true),
            ("data/new/folder", true),
            ("data/images/../images", true),
            ("missing/later", true),
            ("database", false),
            ("data/..", false),
            ("data/../secret", false),
            ("data/new/../../secret", false),
            ("data/out", false),
            ("data/out/..", false),
            ("data/out/new", false),
            ("data/dangling", false),
            ("data/dangling/file", false),
            ("secret", false),
        ] {
            assert_eq!(allowed.contain(&root.join(path)), contained, "{path}");
        }
        assert!(!allowed.contain(Path::new("/etc/passwd")));
    }

    #[test]
    fn links_within_a_folder_that_a_run_names_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("allowed/data")).unwrap();
        fs::write(root.join("allowed/images"), "x").unwrap();
        fs::write(root.join("secret"), "x").unwrap();
        let allowed = AllowedFolders(vec![root.join("allowed")]);
        let toml = RunToml {
            tables: &format!("[data]\npath = {:?}", root.join("allowed/data")),
            ..RunToml::default()
        };
        let run = RunConfig::from_toml(&toml.to_string()).unwrap();
        symlink("../images", root.join("allowed/data/inside")).unwrap();
        allowed.check(&run).unwrap();
        symlink(root.join("secret"), root.join("allowed/data/outside")).unwrap();
        let error = allowed.check(&run).unwrap_err().to_string();
        assert!(
            error.contains("data.path = ") && error.contains("data/outside"),
            "{error}"
        );
    }

    #[test]
    fn every_file_that_a_run_names_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("data")).unwrap();
        let allowed = AllowedFolders(vec![root.join("data")]);
        for (weights, is_allowed) in [("data/w.safetensors", true), ("w.safetensors", false)] {
            let tables = format!(
                "[data]\npath = {:?}\n[initial_weights]\npath = {:?}",
                root.join("data"),
                root.join(weights)
            );
            let toml = RunToml {
                tables: &tables,
                ..RunToml::default()
            };
            let run = RunConfig::from_toml(&toml.to_string()).unwrap();
            let checked = allowed.check(&run).map_err(|error| error.key);
            let expected = match is_allowed {
                true => Ok(()),
                false => Err("initial_weights.path".to_owned()),
            };
            assert_eq!(checked, expected, "{weights}");
        }
    }

    #[test]
    fn a_link_may_lead_into_an_allowed_folder_from_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let (data, link) = (folder.path().join("data"), folder.path().join("link"));
        fs::create_dir(&data).unwrap();
        symlink(&data, &link).unwrap();
        for allowed in [&data, &link] {
            let allowed = AllowedFolders(vec![allowed.clone()]);
            assert!(allowed.contain(&data.join("x")) && allowed.contain(&link.join("x")));
        }
    }
}
