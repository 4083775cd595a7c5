//! Why recorded soft targets cannot be used.

use std::{io, path::PathBuf};

use common::{disk_space::human_bytes, folders::Unusable};
use object_storage::BucketError;

use crate::{
    limits::{FORMAT_VERSION, MAX_SHARDS, MAX_VIEWS, RESERVED_BYTES},
    shard::{ShardFault, ShardId},
};

/// Why recorded soft targets cannot be used; the text is one line and names the file or folder.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// An entry of a folder of recordings cannot be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The folder holds no recording, or its description cannot be read.
    #[error("{} holds no recording that can be read: {problem}", folder.display())]
    NoRecording {
        /// The folder.
        folder: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The file was written by a newer Retort.
    #[error(
        "{}: format_version {found} is newer than {FORMAT_VERSION}, the newest this build reads",
        file.display()
    )]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// The format version of the file.
        found: u32,
    },
    /// Written by an older Retort, which described samples and views in another way.
    #[error(
        "{}: format_version {found} is older than {FORMAT_VERSION}, the only one this build reads; record the soft \
         targets again",
        file.display()
    )]
    OlderFormat {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The recording has more views or shards than allowed.
    #[error(
        "{}: {problem}; a recording has at most {MAX_VIEWS} views, and {MAX_SHARDS} shards in all",
        folder.display()
    )]
    TooLarge {
        /// The recording's folder.
        folder: PathBuf,
        /// Which limit it exceeds.
        problem: String,
    },
    /// Another process does not release the recording.
    #[error(
        "another process has locked {}/.lock and does not release it; stop that process, then run the same \
         command again", folder.display()
    )]
    Locked {
        /// The recording's folder.
        folder: PathBuf,
    },
    /// Another process recorded a shard with other bytes.
    #[error(
        "{}/{shard} was recorded with other soft targets: its teacher reports the same model and numerics, but \
         computes other bits; use teachers of one kind, and record into another soft_targets.folder",
        folder.display()
    )]
    OtherTargets {
        /// The recording's folder or URL.
        folder: PathBuf,
        /// The shard.
        shard: ShardId,
    },
    /// Shards are missing or damaged.
    #[error(
        "{} of the shards in {} cannot be used: {}{}; `retort record` with the run's configuration \
         records those again", faults.len(), folder.display(), faults[0],
        if faults.len() > 1 { ", and others" } else { "" }
    )]
    Faulty {
        /// The recording's folder or URL.
        folder: PathBuf,
        /// At least one.
        faults: Vec<ShardFault>,
    },
    /// The bucket does not answer or rejects a request, or no copy can be written on this machine.
    #[error("{problem}")]
    Unavailable {
        /// The problem; names the object.
        problem: String,
    },
    /// The process was asked to stop while it read or wrote the recording.
    #[error("stopped")]
    Stopped,
    /// The folder for copies of a bucket's shards cannot be made.
    #[error("soft_targets.cache: {}: {error}", folder.display())]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// An object in a bucket has the size of a shard, and other content.
    #[error(
        "{shard}; remove the object, then `retort record` with the run's configuration records it again"
    )]
    DamagedObject {
        /// Its URL, and what is wrong with it.
        shard: String,
    },
    /// No recording fits a run.
    #[error("no recording in {} fits this run: {}", store.display(), found)]
    NoneFits {
        /// The folder of recordings.
        store: PathBuf,
        /// The recordings in the folder, and how each differs.
        found: String,
    },
    /// Several recordings fit a run.
    #[error(
        "several recordings in {} fit this run: {}; say which with soft_targets.encoding or \
         soft_targets.teacher (of named teachers, soft_targets.teachers.NAME)", store.display(), names.join(", ")
    )]
    Ambiguous {
        /// The folder of recordings.
        store: PathBuf,
        /// Their folders.
        names: Vec<String>,
    },
    /// The disk has too little space for the shards.
    #[error(
        "{} has {} free, but {} would be written and {} are to stay free; free some space, or set fewer \
         soft_targets.views or a smaller teacher.encoding",
        disk_of(folders), human_bytes(*free), human_bytes(*needed), human_bytes(RESERVED_BYTES)
    )]
    NoSpace {
        /// The folders of the recordings on the disk, and that of the run if it is there too.
        folders: Vec<PathBuf>,
        /// Bytes still to be written to all of them.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A packed file is damaged, or is not a pack.
    #[error("{}: {problem}", file.display())]
    BadPack {
        /// The file.
        file: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The unpacked recording exists already.
    #[error("{} already exists; remove it, or unpack into another folder", folder.display())]
    AlreadyThere {
        /// The recording's folder.
        folder: PathBuf,
    },
}

/// The disk that has these `folders`.
fn disk_of(folders: &[PathBuf]) -> String {
    let names = folders.iter().map(|folder| folder.display().to_string());
    let names = names.collect::<Vec<_>>().join(", ");
    match folders.len() {
        1 => names,
        _ => format!("the disk of {names}"),
    }
}

impl From<BucketError> for StoreError {
    fn from(error: BucketError) -> Self {
        if error.is_stopped() {
            return Self::Stopped;
        }
        Self::Unavailable {
            problem: error.to_string(),
        }
    }
}

impl StoreError {
    /// Whether the same attempt may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Stopped)
    }

    /// For `map_err`: an I/O error of `path`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }
}
