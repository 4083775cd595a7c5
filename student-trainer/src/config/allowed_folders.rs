//! Restricts the files and buckets that a run submitted over the network may name.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use common::config::Problems;
use object_storage::{BucketLocation, Location};
use serde::{Deserialize, Serialize};

use super::{RunConfig, SoftTargetsConfig};

/// The folders, and the URLs of prefixes in buckets, below which a submitted run may read and write. Relative paths start
/// at the service's working directory, as those of runs do. A bucket must be listed: runs use it with the service's
/// credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllowedFolders(Vec<PathBuf>);

/// A submitted run names a file or a bucket that it may not use.
#[derive(Debug, thiserror::Error)]
#[error("{key} = {}: is not below a folder that this service allows to runs (allowed_folders)", path.display())]
pub struct NotAllowed {
    /// The key of the run's configuration.
    pub key: String,
    /// Its value: a path or a URL.
    pub path: PathBuf,
}

impl AllowedFolders {
    /// Checks that every file and folder that `run` names is below one of these folders, after `..` and links
    /// are resolved; also links within a folder that it names. A bucket must be below one of these URLs. Does not reveal
    /// whether a file elsewhere exists.
    ///
    /// # Errors
    /// The first path that is not allowed.
    pub fn check(&self, run: &RunConfig) -> Result<(), NotAllowed> {
        for (key, path) in run.paths() {
            self.check_path(key, path)?;
        }
        let soft_targets = run.soft_targets.iter();
        for (key, location) in soft_targets.flat_map(SoftTargetsConfig::locations) {
            let key = key.to_owned();
            match location {
                Location::Folder(folder) => self.check_path(key, &folder)?,
                Location::Bucket(bucket) if self.contain_bucket(&bucket) => {}
                Location::Bucket(bucket) => {
                    let path = bucket.to_string().into();
                    return Err(NotAllowed { key, path });
                }
            }
        }
        Ok(())
    }

    fn check_path(&self, key: String, path: &Path) -> Result<(), NotAllowed> {
        let outside = if self.contain(path) {
            links_in(path).into_iter().find(|link| !self.contain(link))
        } else {
            Some(path.to_owned())
        };
        outside.map_or(Ok(()), |path| Err(NotAllowed { key, path }))
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        let needed = "needs at least one: every run names a data set";
        problems.require(!self.0.is_empty(), "allowed_folders", "[]", needed);
        for (index, folder) in self.0.iter().enumerate() {
            let key = format!("allowed_folders[{index}]");
            if let Err(error) = Location::parse(folder) {
                let shown = format!("\"{}\"", folder.display());
                problems.add(key, shown, &error.to_string());
            }
        }
    }

    fn contain(&self, path: &Path) -> bool {
        // A path that cannot be resolved is not allowed.
        let Ok(path) = resolve(path) else {
            return false;
        };
        self.locations().any(|location| match location {
            Location::Folder(folder) => resolve(&folder).is_ok_and(|it| path.starts_with(it)),
            Location::Bucket(_) => false,
        })
    }

    fn contain_bucket(&self, bucket: &BucketLocation) -> bool {
        self.locations().any(|location| match location {
            Location::Folder(_) => false,
            Location::Bucket(allowed) => allowed.contains(bucket),
        })
    }

    fn locations(&self) -> impl Iterator<Item = Location> {
        self.0.iter().filter_map(|it| Location::parse(it).ok())
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
    fn a_bucket_must_be_allowed_by_its_url_and_its_copies_by_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("data")).unwrap();
        let check = |allowed: &[&str], recordings: &str, cache: &str| {
            let tables = format!(
                "[data]\npath = {0:?}\n[soft_targets]\nfolder = \"{recordings}\"\ncache = {1:?}",
                root.join("data"),
                root.join(cache)
            );
            let toml = RunToml {
                tables: &tables,
                ..RunToml::default()
            };
            let run = RunConfig::from_toml(&toml.to_string()).unwrap();
            let allowed = allowed.iter().map(PathBuf::from).chain([root.join("data")]);
            let checked = AllowedFolders(allowed.collect()).check(&run);
            checked.map_err(|error| error.key)
        };
        let (recordings, copies) = ("soft_targets.folder", "soft_targets.cache");
        // A folder of the service never allows a bucket.
        for (allowed, url, cache, refused) in [
            (&["."][..], "s3://b/a", "data/cache", Some(recordings)),
            (&["/"][..], "s3://b/a", "data/cache", Some(recordings)),
            (&["s3://b/a"][..], "s3://b/a", "data/cache", None),
            (&["s3://b/a"][..], "s3://b/a/c", "data/cache", None),
            (
                &["s3://b/a"][..],
                "s3://b/ac",
                "data/cache",
                Some(recordings),
            ),
            (
                &["s3://b/a"][..],
                "gs://b/a",
                "data/cache",
                Some(recordings),
            ),
            (&["s3://b/a"][..], "s3://b/a", "elsewhere", Some(copies)),
            (
                &["s3://b/a"][..],
                "file:///etc",
                "data/cache",
                Some(recordings),
            ),
        ] {
            let expected = refused.map_or(Ok(()), |key| Err(key.to_owned()));
            assert_eq!(
                check(allowed, url, cache),
                expected,
                "{allowed:?} {url} {cache}"
            );
        }
        for (allowed, folder) in [(None, "data/targets"), (Some("elsewhere"), "elsewhere")] {
            let url = |folder: &str| format!("file://{}", root.join(folder).display());
            let allowed: Vec<_> = allowed.map(url).into_iter().collect();
            let allowed: Vec<_> = allowed.iter().map(String::as_str).collect();
            assert_eq!(check(&allowed, &url(folder), "none"), Ok(()));
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
