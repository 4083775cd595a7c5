//! Which files a run that was submitted over the network may name.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use common::config::Problems;
use serde::{Deserialize, Serialize};

use super::RunConfig;

/// The folders below which a submitted run may read and write. Relative ones are relative to the
/// service's working directory, as the paths in a run are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllowedFolders(Vec<PathBuf>);

/// A submitted run names a file that it may not use.
#[derive(Debug, thiserror::Error)]
#[error("{key} = {}: is not below a folder that this service allows to runs (allowed_folders)", path.display())]
pub struct NotAllowed {
    /// The key of the run's configuration.
    pub key: String,
    /// What stands there.
    pub path: PathBuf,
}

impl AllowedFolders {
    /// Whether every file and folder that `run` names is below one of these, after `..` and links
    /// have been followed; links within a folder that it names, too. Tells nobody whether a file elsewhere
    /// exists.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self, run: &RunConfig) -> Result<(), NotAllowed> {
        for (key, path) in run.paths() {
            let outside = if self.hold(path) {
                links_in(path).into_iter().find(|link| !self.hold(link))
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

    fn hold(&self, path: &Path) -> bool {
        // What cannot be resolved cannot be checked.
        let Ok(path) = resolve(path) else {
            return false;
        };
        let mut folders = self.0.iter().filter_map(|folder| resolve(folder).ok());
        folders.any(|folder| path.starts_with(folder))
    }
}

/// The links in `folder`; none where it is no folder, or cannot be read, as a run will find out.
fn links_in(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.is_symlink()).collect()
}

/// `path` without links and `..`. Its end need not exist yet; what does not exist is no link.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let mut existing = absolute.as_path();
    let resolved = loop {
        match (existing.canonicalize(), existing.parent()) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                // A link that leads nowhere is not found either, and a file made through it would
                // be wherever it points.
                if existing.is_symlink() {
                    return Err(error);
                }
                existing = parent;
            }
            (result, _) => break result?,
        }
    };
    // Holds: `existing` was made from `absolute` by taking parents.
    let rest = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
    let is_plain = |component: Component<'_>| matches!(component, Component::Normal(_));
    match rest.components().all(is_plain) {
        true => Ok(resolved.join(rest)),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

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
        for (path, held) in [
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
            assert_eq!(allowed.hold(&root.join(path)), held, "{path}");
        }
        assert!(!allowed.hold(Path::new("/etc/passwd")));
    }

    #[test]
    fn links_within_a_folder_that_a_run_names_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("allowed/data")).unwrap();
        fs::write(root.join("allowed/images"), "x").unwrap();
        fs::write(root.join("secret"), "x").unwrap();
        let allowed = AllowedFolders(vec![root.join("allowed")]);
        let text = format!(
            "[network]\ninput = [1, 28, 28]\nclasses = 10\npreset = \"mlp\"\nwidths = [8]\n\
             [[phases]]\nepochs = 1\nbatch_size = 32\nloss = {{ kind = \"cross_entropy\" }}\n\
             optimizer = {{ kind = \"sgd\" }}\n\
             schedule = {{ kind = \"constant\", learning_rate = 0.1 }}\n\
             [data]\npath = {:?}\n",
            root.join("allowed/data")
        );
        let run = RunConfig::from_toml(&text).unwrap();
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
    fn a_link_may_lead_into_an_allowed_folder_from_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let (data, link) = (folder.path().join("data"), folder.path().join("link"));
        fs::create_dir(&data).unwrap();
        symlink(&data, &link).unwrap();
        for allowed in [&data, &link] {
            let allowed = AllowedFolders(vec![allowed.clone()]);
            assert!(allowed.hold(&data.join("x")) && allowed.hold(&link.join("x")));
        }
    }
}
