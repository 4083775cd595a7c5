//! Uploads the files of the spool to a bucket, and removes the oldest objects there.
//!
//! ```text
//! <prefix>/<model>/<shape>/x-1764541107123456042.npy   the number of the file in the spool
//! ```
//!
//! Objects are only created, so no service replaces the object of another one. An upload whose reply is lost, or whose
//! service ends before it removes the file, is found again by its content. A file that cannot be read is set aside, so that
//! it does not hold up the others.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::folders;
use datasets::whole_npy_samples;
use object_storage::{Bucket, BucketError};
use object_store::{ObjectMeta, PutMode, path::Path as ObjectPath};
use server::back_off::BackOff;
use tracing::{info, warn};

use super::{
    CaptureCounts,
    files::{
        CapturedFile, FileState, SET_ASIDE, file_name, is_shortage, oldest_first, part_number,
        remove,
    },
};

/// Bounds of the pauses after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The objects are listed again after uploads of this part of their limit.
const LISTINGS_PER_LIMIT: u64 = 64;

/// The thread that uploads.
pub(super) struct Uploader {
    bucket: Bucket,
    spool: PathBuf,
    /// Limit of all objects together.
    max_bytes: u64,
    /// Bytes that fit before the objects must be listed again.
    room: u64,
    counts: Arc<CaptureCounts>,
}

/// Why a file is still in the spool.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Spool(#[from] io::Error),
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl Uploader {
    pub(super) fn new(
        bucket: Bucket,
        spool: &Path,
        max_bytes: u64,
        counts: Arc<CaptureCounts>,
    ) -> Self {
        Self {
            bucket,
            spool: spool.to_owned(),
            max_bytes,
            room: 0,
            counts,
        }
    }

    /// Uploads what is in the spool, also from earlier processes, and again after each message, until the sender is
    /// dropped. After that it makes a last attempt.
    pub(super) fn work(mut self, spooled: &Receiver<()>) {
        let mut back_off = BackOff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut is_failing = false;
        loop {
            let has_ended = match self.upload_spooled() {
                Ok(()) => {
                    if is_failing {
                        info!("captured samples are uploaded again");
                    }
                    is_failing = false;
                    back_off.reset();
                    spooled.recv().is_err()
                }
                Err(error) => {
                    warn!("captured samples wait for their upload: {error}");
                    is_failing = true;
                    ends_during(spooled, back_off.next_pause())
                }
            };
            if has_ended {
                break;
            }
        }
        if let Err(error) = self.upload_spooled() {
            let spool = self.spool.display();
            warn!("captured samples stay in {spool} until a service uploads them: {error}");
        }
    }

    /// Uploads all files of the spool, the oldest first.
    fn upload_spooled(&mut self) -> Result<(), UploadError> {
        for file in oldest_first(&self.spool)? {
            if file.state == FileState::InUse {
                self.upload(&file)?;
            }
        }
        Ok(())
    }

    /// Uploads a file and removes it, or sets it aside if it cannot be read.
    fn upload(&mut self, file: &CapturedFile) -> Result<(), UploadError> {
        let (bytes, samples) = match read(&file.path) {
            Ok(found) => found,
            // It made room for a newer one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(shortage) if is_shortage(&shortage) => return Err(shortage.into()),
            Err(problem) => return Ok(self.set_aside(file, &problem)?),
        };
        let size = bytes.len() as u64;
        if size > self.max_bytes {
            let path = file.path.display();
            warn!(
                samples,
                "captured samples are dropped: {path} has {size} bytes (capture.max_bytes)"
            );
            if remove(&file.path)? {
                self.counts.dropped.fetch_add(samples, Ordering::Relaxed);
            }
            return Ok(());
        }
        self.make_room(size)?;
        let mut number = file.number;
        while !self.create(&file.place, number, &bytes)? {
            number += 1;
        }
        // A file that made room for a newer one meanwhile is counted as dropped.
        if remove(&file.path)? {
            self.counts.uploaded.fetch_add(samples, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sets a file aside, and counts the samples that its header names as dropped.
    fn set_aside(&self, file: &CapturedFile, problem: &io::Error) -> io::Result<()> {
        let samples = file.samples();
        if file.set_aside()? {
            self.counts.dropped.fetch_add(samples, Ordering::Relaxed);
            let path = file.path.display();
            warn!(
                samples,
                "captured samples are dropped: {path} cannot be read and got the ending {SET_ASIDE}: {problem}"
            );
        }
        Ok(())
    }

    /// Creates an object; returns whether it has this content now. If it exists with this content, the reply to an earlier
    /// request was lost.
    fn create(&self, place: &str, number: u64, bytes: &Bytes) -> Result<bool, BucketError> {
        let path = ObjectPath::from(format!("{place}/{}", file_name(number)));
        if self.bucket.put(&path, bytes.clone(), PutMode::Create)? {
            return Ok(true);
        }
        let found = self.bucket.read(&path)?;
        Ok(found.is_some_and(|found| found.bytes == bytes))
    }

    /// Removes the oldest objects of all services, so that `bytes` more fit within the limit.
    fn make_room(&mut self, bytes: u64) -> Result<(), BucketError> {
        if bytes > self.room {
            let wanted = bytes.max(self.max_bytes / LISTINGS_PER_LIMIT);
            let listed = self.bucket.list(&ObjectPath::default())?.into_iter();
            let mut objects: Vec<(u64, ObjectMeta)> = listed.filter_map(captured).collect();
            objects.sort_by(|(one, a), (other, b)| (one, &a.location).cmp(&(other, &b.location)));
            let mut total: u64 = objects.iter().map(|(_, object)| object.size).sum();
            for (_, object) in objects {
                if total + wanted <= self.max_bytes {
                    break;
                }
                self.bucket.remove(&object.location)?;
                total -= object.size;
            }
            self.room = wanted;
        }
        self.room -= bytes;
        Ok(())
    }
}

/// The content of a whole file, and the number of its samples.
fn read(path: &Path) -> io::Result<(Bytes, u64)> {
    let bytes = folders::read(path)?;
    let samples = whole_npy_samples(&bytes);
    let samples =
        samples.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is damaged"))?;
    Ok((bytes.into(), samples as u64))
}

/// The object with its number, if it has captured samples.
fn captured(object: ObjectMeta) -> Option<(u64, ObjectMeta)> {
    let name: &str = object.location.as_ref();
    let mut parts = name.split('/');
    let (_model, _shape, file) = (parts.next()?, parts.next()?, parts.next()?);
    let number = part_number(file).filter(|_| parts.next().is_none())?;
    Some((number, object))
}

/// Waits for so long; returns whether the sender was dropped meanwhile, which ends the pause.
fn ends_during(spooled: &Receiver<()>, pause: Duration) -> bool {
    let end = Instant::now() + pause;
    loop {
        match spooled.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::unix::fs::symlink,
        sync::mpsc::sync_channel,
        thread,
        time::SystemTime,
    };

    use datasets::{NpyElement, npy_file};
    use object_store::{ObjectStore, memory::InMemory};
    use test_support::{FaultyStore, StoreFault, eventually};

    use super::*;
    use crate::capture::files::{Files, Purpose, Spool};

    const PLACE: &str = "m/1x1x1";

    fn bucket(objects: Arc<dyn ObjectStore>) -> Bucket {
        Bucket::over(
            objects,
            "s3://b/captured".to_owned(),
            Duration::from_secs(60),
        )
        .unwrap()
    }

    fn uploader(objects: Arc<dyn ObjectStore>, spool: &Path, max_bytes: u64) -> Uploader {
        Uploader::new(bucket(objects), spool, max_bytes, Arc::default())
    }

    /// A file of 100 samples of one pixel.
    fn file(pixel: u8) -> Vec<u8> {
        npy_file(NpyElement::Uint8, &[100, 1, 1], &[pixel; 100])
    }

    /// Shortens a file.
    fn cut(path: &Path, bytes: usize) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(bytes as u64).unwrap();
    }

    /// Writes a file for each pixel to the spool.
    fn spool(folder: &Path, pixels: impl IntoIterator<Item = u8>) {
        let purpose = Purpose::Spool(Spool::default());
        let mut files = Files::new(folder, 1 << 20, purpose, Arc::default());
        for pixel in pixels {
            files.add(PLACE, &file(pixel)).unwrap();
        }
    }

    /// The objects in the order in which a run reads them.
    fn stored(objects: &Arc<InMemory>) -> Vec<Vec<u8>> {
        let bucket = bucket(Arc::clone(objects) as _);
        let listed = bucket.list(&PLACE.into()).unwrap().into_iter();
        let mut found: Vec<_> = listed.filter_map(captured).collect();
        found.sort_by_key(|(number, _)| *number);
        let read = |object: ObjectMeta| bucket.read(&object.location).unwrap().unwrap();
        found
            .into_iter()
            .map(|(_, it)| read(it).bytes.into())
            .collect()
    }

    fn left(spool: &Path) -> usize {
        oldest_first(spool).unwrap().len()
    }

    #[test]
    fn every_file_has_one_object_wherever_the_upload_is_interrupted() {
        const FILES: u8 = 3;
        // Each file needs a request, and the first one a listing.
        for requests in 0..=usize::from(FILES) {
            for loses_reply in [false, true] {
                let objects = Arc::new(InMemory::new());
                let folder = tempfile::tempdir().unwrap();
                spool(folder.path(), 0..FILES);
                let dying = FaultyStore::killed_after(requests, loses_reply, &objects);
                uploader(dying, folder.path(), 1 << 20)
                    .upload_spooled()
                    .unwrap_err();
                assert!(left(folder.path()) > 0);
                let mut next = uploader(Arc::clone(&objects) as _, folder.path(), 1 << 20);
                next.upload_spooled().unwrap();
                assert_eq!(stored(&objects), [0, 1, 2].map(file));
                assert_eq!(left(folder.path()), 0);
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_set_aside_and_the_others_are_uploaded() {
        type Damage = fn(&Path);
        /// A file for which every read fails with an I/O error, also for root: nothing is at address 0.
        const FAILING: &str = "/proc/self/mem";
        let cases: [(&str, Damage, u64); 4] = [
            (
                "its end is missing",
                |path| cut(path, file(1).len() - 1),
                100,
            ),
            ("its header is damaged", |path| cut(path, 20), 0),
            (
                "it is a folder",
                |path| {
                    fs::remove_file(path).unwrap();
                    fs::create_dir(path).unwrap();
                },
                0,
            ),
            (
                "it has an I/O error",
                |path| {
                    fs::remove_file(path).unwrap();
                    symlink(FAILING, path).unwrap();
                },
                0,
            ),
        ];
        for (problem, damage, dropped) in cases {
            let objects = Arc::new(InMemory::new());
            let folder = tempfile::tempdir().unwrap();
            spool(folder.path(), 0..3);
            let files = oldest_first(folder.path()).unwrap();
            let [_, damaged, last] = &files[..] else {
                panic!("three files are written");
            };
            damage(&damaged.path);
            // The damage may count as a change.
            let later = SystemTime::now() + Duration::from_secs(3600);
            let last = File::options().write(true).open(&last.path).unwrap();
            last.set_modified(later).unwrap();

            let mut uploader = uploader(Arc::clone(&objects) as _, folder.path(), 1 << 20);
            let name = format!("{}.unreadable", damaged.path.display());
            let aside = [PathBuf::from(name)];
            for _ in 0..2 {
                uploader.upload_spooled().unwrap();
                assert_eq!(stored(&objects), [0, 2].map(file), "{problem}");
                assert_eq!(uploader.counts.uploaded(), 200, "{problem}");
                assert_eq!(uploader.counts.dropped(), dropped, "{problem}");
                let left = oldest_first(folder.path()).unwrap().into_iter();
                let left: Vec<_> = left.map(|file| file.path).collect();
                assert_eq!(left, aside, "{problem}");
            }
        }
    }

    #[test]
    fn an_object_of_another_service_is_not_replaced() {
        let objects = Arc::new(InMemory::new());
        let folder = tempfile::tempdir().unwrap();
        spool(folder.path(), [1]);
        let number = oldest_first(folder.path()).unwrap()[0].number;
        let taken = ObjectPath::from(format!("{PLACE}/{}", file_name(number)));
        let other = bucket(Arc::clone(&objects) as _);
        let created = other.put(&taken, file(0).into(), PutMode::Create);
        assert!(created.unwrap());
        let mut uploader = uploader(Arc::clone(&objects) as _, folder.path(), 1 << 20);
        uploader.upload_spooled().unwrap();
        assert_eq!(stored(&objects), [0, 1].map(file));
        assert_eq!(uploader.counts.uploaded(), 100);
    }

    #[test]
    fn the_oldest_objects_of_all_services_make_room_within_the_limit() {
        let objects = Arc::new(InMemory::new());
        let folder = tempfile::tempdir().unwrap();
        let one = file(0).len() as u64;
        let other = bucket(Arc::clone(&objects) as _);
        for (name, kept) in [
            (format!("{PLACE}/x-000001.npy"), false),
            ("notes.txt".to_owned(), true),
        ] {
            let bytes = vec![7_u8; 4 * one as usize];
            let path = ObjectPath::from(name);
            assert!(other.put(&path, bytes.into(), PutMode::Create).unwrap());
            spool(folder.path(), [0]);
            let mut uploader = uploader(Arc::clone(&objects) as _, folder.path(), 4 * one);
            uploader.upload_spooled().unwrap();
            assert_eq!(other.size(&path).unwrap().is_some(), kept);
        }
        for round in 1..10 {
            spool(folder.path(), [round]);
            let mut uploader = uploader(Arc::clone(&objects) as _, folder.path(), 4 * one);
            uploader.upload_spooled().unwrap();
            let found = stored(&objects);
            assert!(found.len() <= 4);
            assert_eq!(found.last(), Some(&file(round)));
        }
        assert_eq!(stored(&objects), [6, 7, 8, 9].map(file));

        // A file that can never fit is dropped, and does not block the others.
        spool(folder.path(), [10]);
        let mut uploader = uploader(Arc::clone(&objects) as _, folder.path(), one - 1);
        uploader.upload_spooled().unwrap();
        assert_eq!((uploader.counts.dropped(), left(folder.path())), (100, 0));
    }

    #[test]
    fn what_is_in_the_spool_is_uploaded_at_the_start_and_at_the_end() {
        let objects = Arc::new(InMemory::new());
        let folder = tempfile::tempdir().unwrap();
        spool(folder.path(), [0]);
        let (sender, spooled) = sync_channel(1);
        let uploader = uploader(Arc::clone(&objects) as _, folder.path(), 1 << 20);
        let counts = Arc::clone(&uploader.counts);
        let thread = thread::spawn(move || uploader.work(&spooled));
        eventually("an upload", || (counts.uploaded() == 100).then_some(()));
        spool(folder.path(), [1]);
        sender.try_send(()).unwrap();
        eventually("an upload", || (counts.uploaded() == 200).then_some(()));
        // No message announces it.
        spool(folder.path(), [2]);
        drop(sender);
        thread.join().unwrap();
        assert_eq!(stored(&objects), [0, 1, 2].map(file));
        assert_eq!(left(folder.path()), 0);
    }

    #[test]
    fn a_bucket_that_fails_at_first_gets_every_file_once_it_works() {
        let objects = Arc::new(InMemory::new());
        let folder = tempfile::tempdir().unwrap();
        spool(folder.path(), [0, 1]);
        let store = FaultyStore::over(&objects);
        store.set(StoreFault::Everything);
        let (sender, spooled) = sync_channel(1);
        let uploader = uploader(Arc::clone(&store) as _, folder.path(), 1 << 20);
        let counts = Arc::clone(&uploader.counts);
        let thread = thread::spawn(move || uploader.work(&spooled));
        eventually("a failure", || (store.hits() > 0).then_some(()));
        assert_eq!((counts.uploaded(), left(folder.path())), (0, 2));
        // No message is needed: the uploader tries again.
        store.set(StoreFault::Nothing);
        eventually("uploads", || (counts.uploaded() == 200).then_some(()));
        drop(sender);
        thread.join().unwrap();
        assert_eq!(stored(&objects), [0, 1].map(file));
        assert_eq!((counts.dropped(), left(folder.path())), (0, 0));
    }

    #[test]
    fn the_end_interrupts_the_pause_after_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        spool(folder.path(), [0]);
        let dying = FaultyStore::killed_after(0, false, &Arc::new(InMemory::new()));
        let uploader = uploader(dying, folder.path(), 1 << 20);
        let (sender, spooled) = sync_channel(1);
        drop(sender);
        uploader.work(&spooled);
        assert_eq!(left(folder.path()), 1);
        assert!(ends_during(&spooled, Duration::from_secs(3600)));
    }
}
