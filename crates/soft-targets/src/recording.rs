//! The folder of one recording.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use common::{atomic_file, digest::Sha256, disk_space, folders, os_text};
use serde::{Deserialize, Serialize};

use crate::{
    codec::SoftTargets,
    error::StoreError,
    identity::{RecordedImages, RecordingIdentity},
    limits::{FORMAT_VERSION, MAX_SHARD_BYTES, MAX_SHARDS, MAX_VIEWS},
    mapping,
    recording_lock::RecordingLock,
    shard::{Fault, ShardFault, ShardId, ShardLayout, view_folder},
    shard_space::ShardSpace,
    worker::Worker,
};

const DESCRIPTION: &str = "recording.json";

/// A recording, which may be incomplete.
#[derive(Debug, Clone)]
pub struct Recording {
    folder: PathBuf,
    id: Sha256,
    description: Description,
}

/// `recording.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format_version: u32,
    /// Images per shard; the last shard of a view may hold fewer.
    samples_per_shard: u32,
    identity: RecordingIdentity,
    /// The teacher's class names, in the order of the recorded logits; absent in recordings that are older
    /// than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class_names: Option<Vec<String>>,
    /// From [`class_names_digest`]. The identity does not cover the names, so without it a damaged name
    /// would pass as another class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class_names_sha256: Option<Sha256>,
}

/// The SHA-256 of the names as a JSON array.
fn class_names_digest(names: &[String]) -> Sha256 {
    // Holds: strings serialize.
    Sha256::of(&serde_json::to_vec(names).expect("names serialize"))
}

/// Who recorded a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// This process.
    Here,
    /// Another process, with the same bytes.
    Elsewhere,
}

impl Recording {
    /// Opens the recording in `folder`.
    ///
    /// # Errors
    /// [`StoreError::NoRecording`], [`StoreError::NewerFormat`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let file = folder.join(DESCRIPTION);
        let broken = |problem: String| StoreError::NoRecording {
            folder: folder.to_owned(),
            problem: format!("{DESCRIPTION}: {problem}"),
        };
        let bytes = folders::read(&file).map_err(|error| broken(error.to_string()))?;
        let description = Self::parse(&bytes, &file)?.map_err(broken)?;
        Ok(Self {
            folder: folder.to_owned(),
            id: description.identity.id(),
            description,
        })
    }

    /// Opens the recording of `identity` below `store`, or creates it with logits in the order of
    /// `class_names`, which is empty if the names are not known. A recording that exists keeps its number of
    /// samples per shard and its class names. Of several processes, the first one creates it.
    ///
    /// # Errors
    /// I/O errors, [`StoreError::Locked`], a description that cannot be read, [`StoreError::TooLarge`].
    pub fn open_or_create(
        store: &Path,
        identity: &RecordingIdentity,
        samples_per_shard: u32,
        class_names: &[String],
    ) -> Result<Self, StoreError> {
        let folder = store.join(identity.folder_name());
        let file = folder.join(DESCRIPTION);
        if !Self::is_described(&folder) {
            let class_names = Some(class_names.to_vec()).filter(|names| !names.is_empty());
            let description = Description {
                format_version: FORMAT_VERSION,
                samples_per_shard,
                identity: identity.clone(),
                class_names_sha256: class_names.as_deref().map(class_names_digest),
                class_names,
            };
            // Otherwise the new recording could not be opened.
            description.check().map_err(|problem| {
                let folder = folder.clone();
                StoreError::TooLarge { folder, problem }
            })?;
            let _lock = RecordingLock::take(&folder)?;
            match atomic_file::write_new(&file, &description.to_json()) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                written => written.map_err(StoreError::io(&file))?,
            }
        }
        let recording = Self::open(&folder)?;
        if recording.identity() != identity {
            return Err(StoreError::NoRecording {
                folder,
                problem: "it was changed: its name is that of another recording".to_owned(),
            });
        }
        Ok(recording)
    }

    /// Whether `folder` holds a recording, even if its description is damaged.
    pub(crate) fn is_described(folder: &Path) -> bool {
        folders::entry_exists(&folder.join(DESCRIPTION)).unwrap_or(true)
    }

    /// The recorded teacher, images, views and encoding.
    pub fn identity(&self) -> &RecordingIdentity {
        &self.description.identity
    }

    /// Names of the classes, in the order of the recorded logits; `None` if the recording has none.
    pub fn class_names(&self) -> Option<&[String]> {
        self.description.class_names.as_deref()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Name of its folder.
    pub fn name(&self) -> String {
        let name = self.folder.file_name().unwrap_or_default();
        os_text::shown(name).into_owned()
    }

    /// Images per shard; the last shard of a view may hold fewer.
    pub fn samples_per_shard(&self) -> u32 {
        self.description.samples_per_shard
    }

    /// Shards of one view.
    pub fn shards_per_view(&self) -> u32 {
        let samples = self.identity().images.samples;
        samples.div_ceil(self.samples_per_shard())
    }

    /// All shards of the first `views` views, in order.
    pub fn shards(&self, views: u32) -> impl Iterator<Item = ShardId> {
        (0..views).flat_map(|view| self.shards_of(view))
    }

    /// The shards of the first `views` views that `worker` records, in order.
    pub fn share(&self, views: u32, worker: Worker) -> impl Iterator<Item = ShardId> {
        let numbered = self.shards(views).zip(0u64..);
        numbered.filter_map(move |(id, number)| worker.records(number).then_some(id))
    }

    fn shards_of(&self, view: u32) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards_per_view()).map(move |shard| ShardId { view, shard })
    }

    /// Number of views, up to the last one that has a folder.
    ///
    /// # Errors
    /// I/O errors; [`StoreError::TooLarge`] if there are more than a recording may have.
    pub fn views(&self) -> Result<u32, StoreError> {
        let listing = folders::list(&self.folder).map_err(StoreError::io(&self.folder))?;
        let numbers = listing.folders().filter_map(|folder| {
            let digits = folder.name.strip_prefix("view-")?;
            let number = digits.parse().ok()?;
            // Each view has one folder name; a copy under another name is ignored.
            (folder.name == view_folder(number)).then_some(number)
        });
        let views = numbers.max().map_or(0, |last| last.saturating_add(1));
        self.check_views(views)?;
        Ok(views)
    }

    /// Fails if a recording may not have so many views.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    pub(crate) fn check_views(&self, views: u32) -> Result<(), StoreError> {
        let shards = u64::from(views) * u64::from(self.shards_per_view());
        if views > MAX_VIEWS || shards > MAX_SHARDS {
            return Err(StoreError::TooLarge {
                folder: self.folder.clone(),
                problem: format!("{views} views of {} shards each", self.shards_per_view()),
            });
        }
        Ok(())
    }

    /// Positions of the images of shard number `shard` of any view.
    pub fn samples(&self, shard: u32) -> Range<u32> {
        let (size, all) = (self.samples_per_shard(), self.identity().images.samples);
        let start = shard.saturating_mul(size).min(all);
        start..start.saturating_add(size).min(all)
    }

    /// Size of a shard's file.
    pub fn file_bytes(&self, id: ShardId) -> u64 {
        self.layout(id).file_bytes()
    }

    /// Maps a shard into memory and verifies every byte of it.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn read(&self, id: ShardId) -> Result<SoftTargets, Fault> {
        let file = match mapping::map(&self.folder.join(id.path())) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Fault::Missing);
            }
            Err(error) => return Err(Fault::Unreadable(error.to_string())),
        };
        self.layout(id).read(&file)
    }

    /// The shards of the first `views` views that cannot be used. Reads every shard.
    pub fn faults(&self, views: u32) -> Vec<ShardFault> {
        self.faults_among(self.shards(views))
    }

    /// Those of `shards` that cannot be used. Reads each of them.
    pub fn faults_among(&self, shards: impl Iterator<Item = ShardId>) -> Vec<ShardFault> {
        let fault = |id| self.read(id).err().map(|fault| ShardFault { id, fault });
        shards.filter_map(fault).collect()
    }

    /// Number of shards of the first `views` views without a file. Does not read existing shards.
    pub fn missing(&self, views: u32) -> usize {
        let is_missing = |id: &ShardId| !self.folder.join(id.path()).exists();
        self.shards(views).filter(is_missing).count()
    }

    /// The space that the missing shards of the first `views` views take. Does not read existing shards.
    ///
    /// # Errors
    /// I/O errors; [`StoreError::TooLarge`].
    pub fn estimate(&self, views: u32) -> Result<ShardSpace, StoreError> {
        self.check_views(views)?;
        let there: u64 = self
            .shards(self.views()?.min(views))
            .filter_map(|id| fs::metadata(self.folder.join(id.path())).ok())
            .map(|file| file.len())
            .sum();
        Ok(ShardSpace {
            needed: self.bytes_of(views).saturating_sub(there),
            free: self.free_bytes()?,
        })
    }

    /// Bytes of all shards of the first `views` views.
    fn bytes_of(&self, views: u32) -> u64 {
        let mut bytes = 0u64;
        // Views whose numbers have the same number of digits have the same size.
        let (mut first, mut end) = (0, 10u32);
        while first < views {
            let alike = end.min(views) - first;
            let view: u64 = self.shards_of(first).map(|id| self.file_bytes(id)).sum();
            bytes = bytes.saturating_add(view.saturating_mul(alike.into()));
            (first, end) = (end, end.saturating_mul(10));
        }
        bytes
    }

    /// The space that `shards` take.
    ///
    /// # Errors
    /// I/O errors.
    pub fn space(&self, shards: &[ShardId]) -> Result<ShardSpace, StoreError> {
        let bytes = shards.iter().map(|id| self.file_bytes(*id));
        Ok(ShardSpace {
            needed: bytes.fold(0, u64::saturating_add),
            free: self.free_bytes()?,
        })
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        disk_space::free_bytes(&self.folder).map_err(StoreError::io(&self.folder))
    }

    /// Takes the right to write, which several processes may have.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::TooLarge`], I/O errors.
    pub fn lock(&self) -> Result<RecordingLock, StoreError> {
        self.views()?;
        RecordingLock::take(&self.folder)
    }

    /// Writes a shard atomically, unless another process wrote the same. Replaces a damaged one.
    ///
    /// # Errors
    /// [`StoreError::OtherTargets`] if the shard is there with other bytes; I/O errors.
    ///
    /// # Panics
    /// If `targets` do not have as many samples as the shard.
    pub fn write(
        &self,
        id: ShardId,
        targets: &SoftTargets,
        _lock: &RecordingLock,
    ) -> Result<Written, StoreError> {
        let layout = self.layout(id);
        assert_eq!(targets.samples(), layout.samples.len());
        let path = self.folder.join(id.path());
        let bytes = layout.write(targets);
        match atomic_file::write_new(&path, &bytes) {
            Ok(()) => return Ok(Written::Here),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StoreError::io(path)(error)),
        }
        match mapping::map(&path) {
            Ok(there) if there == bytes => return Ok(Written::Elsewhere),
            Ok(there) if layout.read(&there).is_ok() => {
                let folder = self.folder.clone();
                return Err(StoreError::OtherTargets { folder, shard: id });
            }
            // It is damaged or, if it cannot be read, replaced as far as possible.
            Ok(_) | Err(_) => {}
        }
        atomic_file::write(&path, &bytes).map_err(StoreError::io(path))?;
        Ok(Written::Here)
    }

    pub(crate) fn description_json(&self) -> Vec<u8> {
        self.description.to_json()
    }

    /// Reads a description; checks its version first.
    pub(crate) fn from_json(bytes: &[u8], folder: &Path) -> Result<Self, StoreError> {
        let description =
            Self::parse(bytes, folder)?.map_err(|problem| StoreError::NoRecording {
                folder: folder.to_owned(),
                problem,
            })?;
        Ok(Self {
            folder: folder.to_owned(),
            id: description.identity.id(),
            description,
        })
    }

    fn parse(bytes: &[u8], file: &Path) -> Result<Result<Description, String>, StoreError> {
        check_format(bytes, file)?;
        let description = serde_json::from_slice::<Description>(bytes);
        let check = |description: Description| description.check().map(|()| description);
        Ok(description
            .map_err(|error| error.to_string())
            .and_then(check))
    }

    fn layout(&self, id: ShardId) -> ShardLayout<'_> {
        ShardLayout {
            identity: self.identity(),
            recording: &self.id,
            id,
            samples: self.samples(id.shard),
        }
    }
}

/// Rejects `bytes`, the JSON of `file`, if it has another format version. Must be called before the fields are
/// parsed: another format may have other fields.
///
/// # Errors
/// [`StoreError::NewerFormat`], [`StoreError::OlderFormat`].
pub(crate) fn check_format(bytes: &[u8], file: &Path) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Versioned {
        format_version: u32,
    }
    match serde_json::from_slice::<Versioned>(bytes) {
        Ok(Versioned { format_version }) if format_version > FORMAT_VERSION => {
            Err(StoreError::NewerFormat {
                file: file.to_owned(),
                found: format_version,
            })
        }
        Ok(Versioned { format_version }) if format_version < FORMAT_VERSION => {
            Err(StoreError::OlderFormat {
                file: file.to_owned(),
                found: format_version,
            })
        }
        // The parser of the fields reports invalid JSON and a missing version.
        Ok(_) | Err(_) => Ok(()),
    }
}

impl Description {
    /// Checks that the sizes computed from it do not overflow, that it has a reasonable number of shards,
    /// and that its class names have the stored digest.
    ///
    /// # Errors
    /// A message that says what is wrong.
    fn check(&self) -> Result<(), String> {
        let RecordedImages {
            samples, classes, ..
        } = self.identity.images;
        let row = self.identity.encoding.sample_bytes(classes as usize);
        let shard = u64::from(self.samples_per_shard.min(samples)).checked_mul(row.total() as u64);
        let positive = self.samples_per_shard > 0 && samples > 0 && classes > 0;
        if !positive || shard.is_none_or(|bytes| bytes > MAX_SHARD_BYTES) {
            return Err("samples, classes or samples_per_shard are 0 or too large".to_owned());
        }
        if let Some(names) = &self.class_names
            && names.len() != classes as usize
        {
            let names = names.len();
            return Err(format!(
                "class_names has {names} names for {classes} classes"
            ));
        }
        let computed = self.class_names.as_deref().map(class_names_digest);
        if computed != self.class_names_sha256 {
            let digest =
                |digest: &Option<Sha256>| digest.as_ref().map_or("none".into(), Sha256::to_string);
            return Err(format!(
                "the SHA-256 of class_names is {}, class_names_sha256 is {}",
                digest(&computed),
                digest(&self.class_names_sha256)
            ));
        }
        let shards = samples.div_ceil(self.samples_per_shard);
        if u64::from(shards) > MAX_SHARDS {
            return Err(format!(
                "{samples} images, {} a shard, make {shards} shards a view, which is too many",
                self.samples_per_shard
            ));
        }
        Ok(())
    }

    fn to_json(&self) -> Vec<u8> {
        // Holds: every key is a string.
        let mut json = serde_json::to_vec_pretty(self).expect("a description serializes");
        json.push(b'\n');
        json
    }
}

#[cfg(test)]
mod properties;
