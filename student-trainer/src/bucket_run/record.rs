//! `run.json`: which files a bucket has of a run, and who may write them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
    time::Duration,
};

use bytes::Bytes;
use common::{atomic_file, digest::Sha256};
use object_storage::Bucket;
use object_store::{UpdateVersion, path::Path as ObjectPath};
use serde::{Deserialize, Serialize};

use super::error::BucketRunError;

const FORMAT_VERSION: u32 = 1;

/// The folder of the files' contents.
const OBJECTS: &str = "objects";

/// The content of `run.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunRecord {
    format_version: u32,
    /// Number of times that the files changed.
    pub(super) generation: u64,
    /// Number of this record: no two have the same content, and thus in no store the same tag.
    pub(super) revision: u64,
    /// The scratch folder of the process that wrote this record.
    pub(super) writer: String,
    /// The lease of that process; none if it has released it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lease: Option<LeaseTerms>,
    /// The run's files, by their path in its folder.
    pub(super) files: BTreeMap<String, StoredFile>,
    /// The contents of the generation before, for readers that have just read its record.
    pub(super) previous: BTreeSet<Sha256>,
}

/// Who has a lease, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseTerms {
    /// A random name of the process.
    pub(super) process: String,
    /// The process in messages.
    pub(super) holder: String,
    /// For so many seconds, it has the lease after each write of the record.
    pub(super) seconds: u64,
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredFile {
    pub(super) sha256: Sha256,
    pub(super) bytes: u64,
}

/// A record as it is in the bucket.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) record: RunRecord,
    /// The condition of the write that replaces it.
    pub(super) tag: UpdateVersion,
}

impl RunRecord {
    /// The record of a run without files.
    pub(super) fn new() -> Self {
        Self {
            format_version: FORMAT_VERSION,
            generation: 0,
            revision: 0,
            writer: String::new(),
            lease: None,
            files: BTreeMap::new(),
            previous: BTreeSet::new(),
        }
    }

    /// The record of the run in `bucket`, if there is one.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or is of a newer version.
    pub(super) fn read(bucket: &Bucket) -> Result<Option<Found>, BucketRunError> {
        let Some(found) = bucket.read(&path())? else {
            return Ok(None);
        };
        let record = Self::parse(&found.bytes).map_err(|problem| BucketRunError::Damaged {
            url: bucket.url(&path()),
            problem,
        })?;
        let tag = found.tag;
        Ok(Some(Found { record, tag }))
    }

    fn parse(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let Version { format_version } =
            serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if format_version != FORMAT_VERSION {
            return Err(format!(
                "has format version {format_version}; this version of Retort reads {FORMAT_VERSION}"
            ));
        }
        let record: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        match record.files.keys().find(|path| !is_below_a_folder(path)) {
            Some(path) => Err(format!("names {path:?}, which is no path below a folder")),
            None => Ok(record),
        }
    }

    pub(super) fn to_json(&self) -> Bytes {
        // Holds: the fields are texts and numbers, and all keys are texts.
        let json = serde_json::to_vec_pretty(self).expect("a record is JSON");
        json.into()
    }

    /// Makes `files` those of the run.
    pub(super) fn replace_files(&mut self, files: &BTreeMap<String, StoredFile>) {
        if self.files != *files {
            self.previous = self.contents().cloned().collect();
            self.files = files.clone();
            self.generation += 1;
        }
    }

    /// Whether a file of this generation or of the one before has this content.
    pub(super) fn names(&self, content: &Sha256) -> bool {
        self.previous.contains(content) || self.contents().any(|own| own == content)
    }

    fn contents(&self) -> impl Iterator<Item = &Sha256> {
        self.files.values().map(|file| &file.sha256)
    }
}

impl LeaseTerms {
    pub(super) fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// The path of the record.
pub(super) fn path() -> ObjectPath {
    "run.json".into()
}

/// The folder of the contents.
pub(super) fn objects() -> ObjectPath {
    OBJECTS.into()
}

/// The path of a content.
pub(super) fn object(content: &Sha256) -> ObjectPath {
    format!("{OBJECTS}/{content}").into()
}

/// The content at `path`; `None` if the path is not that of a content.
pub(super) fn content(path: &ObjectPath) -> Option<Sha256> {
    let content = Sha256::parse(path.filename()?)?;
    (object(&content) == *path).then_some(content)
}

/// Whether `path` leads to a file in a folder or below it, which is not the temporary file of another.
fn is_below_a_folder(path: &str) -> bool {
    let path = Path::new(path);
    let is_name = |component: Component<'_>| match component {
        Component::Normal(name) => !atomic_file::is_unfinished(name),
        _ => false,
    };
    path.components().next().is_some() && path.components().all(is_name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut record = RunRecord::new();
        let files = |text: &[u8]| {
            let sha256 = Sha256::of(text);
            let bytes = text.len() as u64;
            BTreeMap::from([("a/b".to_owned(), StoredFile { sha256, bytes })])
        };
        record.replace_files(&files(b"one"));
        record.replace_files(&files(b"one"));
        assert_eq!(record.generation, 1);
        record.replace_files(&files(b"two"));
        assert_eq!(record.generation, 2);
        for (text, is_named) in [("one", true), ("two", true), ("three", false)] {
            assert_eq!(
                record.names(&Sha256::of(text.as_bytes())),
                is_named,
                "{text}"
            );
        }
        record.lease = Some(LeaseTerms {
            process: "p".to_owned(),
            holder: "h".to_owned(),
            seconds: 3,
        });
        assert_eq!(RunRecord::parse(&record.to_json()), Ok(record));
    }

    #[test]
    fn other_versions_and_paths_out_of_the_folder_are_rejected() {
        let record = |version: u32, path: &str| {
            let file = json!({ "sha256": Sha256::of(b""), "bytes": 0 });
            let record = json!({
                "format_version": version,
                "generation": 1,
                "revision": 1,
                "writer": "w",
                "files": { path: file },
                "previous": [],
            });
            RunRecord::parse(record.to_string().as_bytes())
        };
        record(1, "a/b.txt").unwrap();
        let error = record(2, "a").unwrap_err();
        assert!(error.contains("format version 2"), "{error}");
        for bad in ["", "/a", "../a", "a/../../b", ".", ".writing-a"] {
            let error = record(1, bad).unwrap_err();
            assert!(error.contains("no path below a folder"), "{bad}: {error}");
        }
        assert!(RunRecord::parse(b"{").is_err());
    }

    #[test]
    fn only_names_of_contents_are_contents() {
        let sha256 = Sha256::of(b"abc");
        assert_eq!(content(&object(&sha256)), Some(sha256.clone()));
        for other in [
            format!("objects/a/{sha256}"),
            format!("other/{sha256}"),
            "objects/a".to_owned(),
            sha256.to_string(),
        ] {
            assert_eq!(content(&other.as_str().into()), None, "{other}");
        }
    }
}
