//! Where processes record: a folder, or a bucket.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use object_storage::{Bucket, BucketLocation, Location};
use toml::Value;

use crate::trainer::text;

/// How long a request to the bucket is repeated.
const PATIENCE: Duration = Duration::from_secs(30);
/// How the names of shards end.
const SHARD: &str = ".safetensors";

/// The place of a recording, which holds nothing else.
#[derive(Debug)]
pub(super) struct Store {
    /// The folder in which a shard appears once it is complete, and which need not exist: that of the recording, or
    /// that of the copies. A process writes a copy of a shard as soon as the bucket has the shard.
    pub folder: PathBuf,
    /// The objects of a recording in a bucket.
    objects: Option<Bucket>,
}

/// Parses the URL of a prefix in a bucket.
pub(super) fn bucket_location(text: &str) -> Result<BucketLocation, String> {
    match Location::parse(Path::new(text)) {
        Ok(Location::Bucket(location)) => Ok(location),
        Ok(Location::Folder(_)) | Err(_) => {
            Err("give the URL of a prefix in a bucket, such as s3://BUCKET/PREFIX".to_owned())
        }
    }
}

impl Store {
    /// A place in the temporary folder `folder`; if there is a `bucket`, below a prefix with the name of that folder,
    /// so that nothing else is there.
    ///
    /// # Errors
    /// If the environment has no valid credentials for the bucket.
    pub(super) fn new(folder: &Path, bucket: Option<&BucketLocation>) -> Result<Self> {
        let objects = match bucket {
            None => None,
            Some(bucket) => {
                let unique = folder.file_name().unwrap_or_default().to_string_lossy();
                let name = format!("retort-bench-{}", unique.trim_start_matches('.'));
                Some(Bucket::open(&bucket.below(&name), PATIENCE)?)
            }
        };
        Ok(Self {
            folder: folder.join("soft-targets"),
            objects,
        })
    }

    /// The settings of a process that records here, `KEY=VALUE`.
    pub(super) fn settings(&self) -> Result<Vec<String>> {
        let setting = |key: &str, value: String| format!("{key}={}", Value::from(value));
        let folder = text(&self.folder)?;
        Ok(match &self.objects {
            None => vec![setting("soft_targets.folder", folder)],
            Some(objects) => {
                let url = objects.url(&"".into());
                let folder = setting("soft_targets.cache", folder);
                vec![setting("soft_targets.folder", url), folder]
            }
        })
    }

    /// Removes a recording of at least `shards` shards.
    ///
    /// # Errors
    /// If the bucket does not answer or does not have them; I/O errors.
    pub(super) fn clear(&self, shards: u64) -> Result<()> {
        if self.folder.exists() {
            let named = || self.folder.display().to_string();
            fs::remove_dir_all(&self.folder).with_context(named)?;
        }
        match &self.objects {
            None => Ok(()),
            // Requests to a bucket must not wait on a thread of an async runtime.
            Some(objects) => thread::scope(|scope| {
                let clearing = scope.spawn(|| clear(objects, shards));
                // Cannot fail: the thread does not panic.
                clearing.join().expect("the thread ends")
            }),
        }
    }
}

/// Removes all objects. At least `shards` of them must be shards.
fn clear(objects: &Bucket, shards: u64) -> Result<()> {
    let mut there = 0;
    loop {
        let listed = objects.list(&"".into())?;
        if listed.is_empty() {
            break;
        }
        // The last request of a process may arrive meanwhile.
        for object in listed {
            let name: &str = object.location.as_ref();
            there += u64::from(name.ends_with(SHARD));
            objects.remove(&object.location)?;
        }
    }
    let url = objects.url(&"".into());
    ensure!(
        there >= shards,
        "{url} had {there} shards; the processes recorded {shards}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_buckets_have_a_location() {
        let location = bucket_location("s3://b/a").unwrap();
        assert_eq!(location.to_string(), "s3://b/a");
        for bad in ["targets", "file:///srv", "http://b/a", ""] {
            assert!(bucket_location(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_has_one_setting_and_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), None).unwrap();
        store.clear(0).unwrap();
        fs::create_dir_all(store.folder.join("recording")).unwrap();
        let shown = store.folder.display();
        let expected = format!("soft_targets.folder=\"{shown}\"");
        assert_eq!(store.settings().unwrap(), [expected]);
        store.clear(0).unwrap();
        assert!(!store.folder.exists());
    }
}
