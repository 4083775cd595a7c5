//! One recording: in a folder, or in a bucket and a folder with copies.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use common::{atomic_file, digest::Sha256, disk_space::FileSystem, folders, os_text};

use crate::{
    codec::SoftTargets,
    description::{DESCRIPTION, Description},
    error::StoreError,
    identity::RecordingIdentity,
    limits::{MAX_SHARDS, MAX_VIEWS},
    mapping,
    recording_lock::RecordingLock,
    remote::RemoteRecording,
    shard::{Fault, ShardFault, ShardId, ShardLayout, view_folder},
    shard_space::ShardSpace,
    worker::Worker,
};

#[cfg(test)]
mod properties;
mod writing;

pub use writing::Written;

/// A recording, which may be incomplete.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Its files; of a recording in a bucket, the copies of some of them.
    folder: PathBuf,
    id: Sha256,
    description: Description,
    remote: Option<RemoteRecording>,
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
        let description = Description::parse(&bytes, &file)?.map_err(broken)?;
        Ok(Self::of(description, folder.to_owned()))
    }

    fn of(description: Description, folder: PathBuf) -> Self {
        Self {
            folder,
            id: description.identity.id(),
            description,
            remote: None,
        }
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
            let described = Description::new(identity, samples_per_shard, class_names);
            let description = described.map_err(|problem| {
                let folder = folder.clone();
                StoreError::TooLarge { folder, problem }
            })?;
            let _lock = RecordingLock::take(&folder)?;
            match atomic_file::write_new(&file, &description.to_json()) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                written => written.map_err(StoreError::io(&file))?,
            }
        }
        Self::open(&folder)?.checked(identity)
    }

    /// The recording if it is that of `identity`.
    ///
    /// # Errors
    /// [`StoreError::NoRecording`].
    pub(crate) fn checked(self, identity: &RecordingIdentity) -> Result<Self, StoreError> {
        if self.identity() == identity {
            return Ok(self);
        }
        Err(StoreError::NoRecording {
            folder: self.place().to_owned(),
            problem: "it was changed: its name is that of another recording".to_owned(),
        })
    }

    /// The same recording in a bucket; its folder has copies.
    pub(crate) fn in_bucket(self, remote: RemoteRecording) -> Self {
        Self {
            folder: remote.folder().to_owned(),
            remote: Some(remote),
            ..self
        }
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

    /// Its folder; of a recording in a bucket, that of the copies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How messages name it: its folder, or its URL.
    pub fn place(&self) -> &Path {
        match &self.remote {
            None => &self.folder,
            Some(remote) => remote.url(),
        }
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
        if let Some(remote) = &self.remote {
            let last = remote.sizes()?.into_keys().next_back();
            let views = last.map_or(0, |last| last.view.saturating_add(1));
            return self.check_views(views).map(|()| views);
        }
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
                folder: self.place().to_owned(),
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

    /// Maps a shard into memory and verifies every byte of it. A shard in a bucket without an intact copy is downloaded
    /// first.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn read(&self, id: ShardId) -> Result<SoftTargets, Fault> {
        let local = self.read_file(id);
        let Some(remote) = &self.remote else {
            return local;
        };
        if local.is_ok() {
            remote.note_used(id);
            return local;
        }
        let layout = self.layout(id);
        let shard = remote.download(id, layout.file_bytes())?;
        let targets = layout.read(&shard)?;
        let kept = remote.keep(id, &shard);
        kept.map_err(|error| Fault::Unavailable(error.to_string()))?;
        // Another process may have removed the copy to make room.
        self.read_file(id).or(Ok(targets))
    }

    /// Reads a shard in the folder.
    fn read_file(&self, id: ShardId) -> Result<SoftTargets, Fault> {
        let file = match mapping::map(&self.folder.join(id.path())) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
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

    fn faults_among(&self, shards: impl Iterator<Item = ShardId>) -> Vec<ShardFault> {
        let fault = |id| self.read(id).err().map(|fault| ShardFault { id, fault });
        shards.filter_map(fault).collect()
    }

    /// Those of `shards` that must be recorded. Verifies every byte of the others in a folder; in a bucket, their sizes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn to_record(
        &self,
        shards: impl Iterator<Item = ShardId>,
    ) -> Result<Vec<ShardFault>, StoreError> {
        let Some(remote) = &self.remote else {
            return Ok(self.faults_among(shards));
        };
        let sizes = remote.sizes()?;
        let fault = |id| {
            let expected = self.file_bytes(id);
            let fault = match sizes.get(&id).copied() {
                None => Fault::Missing,
                Some(found) if found != expected => Fault::Length { found, expected },
                Some(_) => return None,
            };
            Some(ShardFault { id, fault })
        };
        Ok(shards.filter_map(fault).collect())
    }

    /// Whether a shard is there and need not be recorded. Verifies it as [`Self::to_record`] does.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn has(&self, id: ShardId) -> Result<bool, StoreError> {
        match &self.remote {
            None => Ok(self.read(id).is_ok()),
            Some(remote) => Ok(remote.size(id)? == Some(self.file_bytes(id))),
        }
    }

    /// The error of a reader that found these `faults`; `None` if there are none.
    pub(crate) fn rejection(&self, faults: Vec<ShardFault>) -> Option<StoreError> {
        if faults.iter().any(|it| it.fault == Fault::Stopped) {
            return Some(StoreError::Stopped);
        }
        let unavailable = |it: &ShardFault| match &it.fault {
            Fault::Unavailable(problem) => Some(problem.clone()),
            _ => None,
        };
        if let Some(problem) = faults.iter().find_map(unavailable) {
            return Some(StoreError::Unavailable { problem });
        }
        let is_damaged =
            |it: &&ShardFault| !matches!(it.fault, Fault::Missing | Fault::Length { .. });
        if let (Some(_), Some(fault)) = (&self.remote, faults.iter().find(is_damaged)) {
            let shard = format!("{}/{fault}", self.place().display());
            return Some(StoreError::DamagedObject { shard });
        }
        let folder = self.place().to_owned();
        (!faults.is_empty()).then_some(StoreError::Faulty { folder, faults })
    }

    /// Number of shards of the first `views` views that are not there. Does not read those that are.
    ///
    /// # Errors
    /// I/O errors, [`StoreError::Unavailable`].
    pub fn missing(&self, views: u32) -> Result<usize, StoreError> {
        Ok(self.shards(views).count() - self.sizes(views)?.len())
    }

    /// The sizes of the shards of the first `views` views that are there, bytes.
    fn sizes(&self, views: u32) -> Result<BTreeMap<ShardId, u64>, StoreError> {
        if let Some(remote) = &self.remote {
            let mut sizes = remote.sizes()?;
            let shards = self.shards_per_view();
            sizes.retain(|id, _| id.view < views && id.shard < shards);
            return Ok(sizes);
        }
        let size = |id: ShardId| {
            let file = fs::metadata(self.folder.join(id.path())).ok()?;
            Some((id, file.len()))
        };
        let shards = self.shards(self.views()?.min(views));
        Ok(shards.filter_map(size).collect())
    }

    /// The space that the missing shards of the first `views` views take. Does not read existing shards.
    ///
    /// # Errors
    /// I/O errors; [`StoreError::TooLarge`], [`StoreError::Unavailable`].
    pub fn estimate(&self, views: u32) -> Result<ShardSpace, StoreError> {
        self.check_views(views)?;
        let there: u64 = self.sizes(views)?.into_values().sum();
        Ok(ShardSpace {
            needed: self.bytes_of(views).saturating_sub(there),
            disk: self.disk()?,
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
            disk: self.disk()?,
        })
    }

    fn disk(&self) -> Result<Option<FileSystem>, StoreError> {
        if self.remote.is_some() {
            return Ok(None);
        }
        let disk = FileSystem::of(&self.folder);
        disk.map(Some).map_err(StoreError::io(&self.folder))
    }

    /// Takes the right to write, which several processes may have. In a bucket, it needs no lock.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::TooLarge`], I/O errors.
    pub fn lock(&self) -> Result<RecordingLock, StoreError> {
        if self.remote.is_some() {
            return Ok(RecordingLock::without_file());
        }
        self.views()?;
        RecordingLock::take(&self.folder)
    }

    pub(crate) fn description_json(&self) -> Vec<u8> {
        self.description.to_json()
    }

    /// Reads a description; checks its version first.
    pub(crate) fn from_json(bytes: &[u8], folder: &Path) -> Result<Self, StoreError> {
        let description =
            Description::parse(bytes, folder)?.map_err(|problem| StoreError::NoRecording {
                folder: folder.to_owned(),
                problem,
            })?;
        Ok(Self::of(description, folder.to_owned()))
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
