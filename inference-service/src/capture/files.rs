//! The files of captured samples in a folder, which has a limit.
//!
//! ```text
//! <folder>/<model>/<shape>/x-000001.npy   u8 [n, height, width] or [n, 3, height, width], or f32 [n, values]
//! ```
//!
//! A file of the spool that cannot be uploaded is set aside: `x-….npy.unreadable`.

use std::{
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use common::{
    atomic_file,
    folders::{self, EntryKind},
};
use datasets::npy_samples;
use rustix::io::Errno;
use tracing::warn;

use super::CaptureCounts;

/// Ends the name of a file that was set aside.
pub(super) const SET_ASIDE: &str = ".unreadable";

/// More bytes than the header of a file has.
const HEADER: u64 = 1024;

/// Shortest time between two warnings about a full spool.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// A folder of files that stays within its limit: the oldest files make room.
pub(super) struct Files {
    folder: PathBuf,
    max_bytes: u64,
    purpose: Purpose,
    counts: Arc<CaptureCounts>,
}

/// What the files are for.
pub(super) enum Purpose {
    /// They are the data set. Numbers count the files of a folder.
    DataSet,
    /// They wait for their upload, and removing one loses its samples.
    Spool(Spool),
}

/// What [`Files`] remembers of a spool.
#[derive(Default)]
pub(super) struct Spool {
    /// The number of the newest file.
    newest: u64,
    /// Samples that were removed since the last warning.
    unreported: u64,
    warned: Option<Instant>,
}

/// A file of captured samples.
#[derive(Debug, Clone)]
pub(super) struct CapturedFile {
    pub(super) path: PathBuf,
    /// The names of the folders of model and shape: `fashion-mnist/1x28x28`.
    pub(super) place: String,
    pub(super) number: u64,
    pub(super) state: FileState,
    /// What has the name of a file may be something else.
    kind: EntryKind,
    bytes: u64,
    modified: SystemTime,
}

/// Whether a file can be used, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileState {
    /// It is a part of the data set, or waits for its upload.
    InUse,
    /// It could not be read. Its samples are counted as dropped.
    SetAside,
}

impl Files {
    pub(super) fn new(
        folder: &Path,
        max_bytes: u64,
        purpose: Purpose,
        counts: Arc<CaptureCounts>,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            max_bytes,
            purpose,
            counts,
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the next file of the folder `place`, such as `fashion-mnist/1x28x28`. The oldest files make room for it.
    ///
    /// # Errors
    /// I/O errors, or if the file alone exceeds the limit.
    pub(super) fn add(&mut self, place: &str, file: &[u8]) -> io::Result<()> {
        self.make_room(file.len() as u64)?;
        let folder = self.folder.join(place);
        fs::create_dir_all(&folder)?;
        let number = match &mut self.purpose {
            Purpose::DataSet => newest_number(&folder)? + 1,
            Purpose::Spool(spool) => spool.next_number(),
        };
        atomic_file::write_new(&folder.join(file_name(number)), file)
    }

    /// Removes the oldest files, so that `bytes` more fit within the limit.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let limit = self.max_bytes;
        if bytes > limit {
            let problem = format!("one file would have {bytes} bytes, and the limit is {limit}");
            return Err(io::Error::other(problem));
        }
        let mut files = oldest_first(&self.folder)?;
        files.retain(|file| file.kind == EntryKind::File);
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        for file in files {
            if total + bytes <= limit {
                break;
            }
            match &mut self.purpose {
                Purpose::DataSet => remove(&file.path).map(drop)?,
                Purpose::Spool(spool) => {
                    let samples = file.samples();
                    // The uploader may have removed it.
                    if remove(&file.path)? && file.state == FileState::InUse {
                        self.counts.dropped.fetch_add(samples, Ordering::Relaxed);
                        spool.report(samples);
                    }
                }
            }
            total -= file.bytes;
        }
        Ok(())
    }
}

impl Spool {
    /// A number that no other file has, also of other services and after a restart: the time in microseconds, and three
    /// random digits. Later files have greater numbers.
    fn next_number(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // Fits until the year 2554.
        let now = now.unwrap_or_default().as_micros() as u64;
        // The standard library's hashers have random keys.
        let random = RandomState::new().hash_one(std::process::id()) % 1000;
        let number = now.saturating_mul(1000).saturating_add(random);
        self.newest = number.max(self.newest + 1);
        self.newest
    }

    /// Warns of removed samples, but not too often.
    fn report(&mut self, samples: u64) {
        self.unreported += samples;
        if self
            .warned
            .is_none_or(|warned| warned.elapsed() >= WARN_EVERY)
        {
            warn!(
                samples = self.unreported,
                "the spool of captured samples is full (capture.max_spool_bytes): the oldest ones are dropped"
            );
            self.unreported = 0;
            self.warned = Some(Instant::now());
        }
    }
}

impl CapturedFile {
    /// Gives it a name that says that it cannot be read; returns whether it was there.
    pub(super) fn set_aside(&self) -> io::Result<bool> {
        let mut name = self.path.clone().into_os_string();
        name.push(SET_ASIDE);
        was_there(fs::rename(&self.path, name))
    }

    /// The number of its samples, by its header; 0 if the header cannot be read.
    pub(super) fn samples(&self) -> u64 {
        match self.kind {
            EntryKind::File => samples_in(&self.path).unwrap_or(0),
            // Opening a named pipe could block forever.
            EntryKind::Folder | EntryKind::Other => 0,
        }
    }
}

/// All files that services have written in `folder`, the oldest first, with those that were set aside.
pub(super) fn oldest_first(folder: &Path) -> io::Result<Vec<CapturedFile>> {
    let mut files = Vec::new();
    for model in folders::list(folder)?.folders() {
        for shape in folders::list(&model.path)?.folders() {
            for entry in folders::list(&shape.path)?.entries {
                let (name, state) = match entry.name.strip_suffix(SET_ASIDE) {
                    Some(name) => (name, FileState::SetAside),
                    None => (&*entry.name, FileState::InUse),
                };
                let Some(number) = part_number(name) else {
                    continue;
                };
                let metadata = match fs::metadata(&entry.path) {
                    Ok(metadata) => metadata,
                    // It was removed meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                files.push(CapturedFile {
                    path: entry.path,
                    place: format!("{}/{}", model.name, shape.name),
                    number,
                    state,
                    kind: entry.kind,
                    bytes: metadata.len(),
                    modified: metadata.modified()?,
                });
            }
        }
    }
    files.sort_by(|one, other| (one.modified, &one.path).cmp(&(other.modified, &other.path)));
    Ok(files)
}

/// Removes a file; returns whether it was there.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    was_there(fs::remove_file(path))
}

/// Whether a file was there that was to be changed with this result.
fn was_there(changed: io::Result<()>) -> io::Result<bool> {
    match changed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a file could not be read because the process or the system lacks descriptors or memory: a later attempt may
/// succeed.
pub(super) fn is_shortage(problem: &io::Error) -> bool {
    let errno = Errno::from_io_error(problem);
    problem.kind() == io::ErrorKind::OutOfMemory
        || matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// The name of the file with a number.
pub(super) fn file_name(number: u64) -> String {
    format!("x-{number:06}.npy")
}

/// The number in the name of a file.
pub(super) fn part_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("x-")?.strip_suffix(".npy")?;
    number.parse().ok()
}

/// The largest number of a file in `folder`, or 0.
fn newest_number(folder: &Path) -> io::Result<u64> {
    let entries = folders::list(folder)?.entries;
    let numbers = entries.iter().filter_map(|entry| part_number(&entry.name));
    Ok(numbers.max().unwrap_or(0))
}

/// The number of samples in a file, if it is there and whole.
fn samples_in(path: &Path) -> Option<u64> {
    let mut header = Vec::new();
    let file = File::open(path).ok()?;
    file.take(HEADER).read_to_end(&mut header).ok()?;
    npy_samples(&header).map(|samples| samples as u64)
}

#[cfg(test)]
mod tests {
    use datasets::{NpyElement, npy_file};

    use super::*;

    fn spool(folder: &Path, max_bytes: u64) -> Files {
        let purpose = Purpose::Spool(Spool::default());
        Files::new(folder, max_bytes, purpose, Arc::default())
    }

    /// A file of `samples` samples of one pixel.
    fn file(samples: usize, pixel: u8) -> Vec<u8> {
        npy_file(NpyElement::Uint8, &[samples, 1, 1], &vec![pixel; samples])
    }

    #[test]
    fn what_makes_room_in_a_spool_is_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let one = file(100, 0).len() as u64;
        let mut files = spool(folder.path(), 3 * one);
        for pixel in 0..5 {
            files.add("m/1x1x1", &file(100, pixel)).unwrap();
        }
        let left = oldest_first(folder.path()).unwrap().into_iter();
        let left: Vec<_> = left.map(|file| fs::read(file.path).unwrap()).collect();
        assert_eq!(left, [2, 3, 4].map(|pixel| file(100, pixel)));
        assert_eq!(files.counts.dropped(), 200);
        // Nothing is removed for a file that can never fit.
        files.add("m/1x1x1", &file(4000, 9)).unwrap_err();
        assert_eq!(oldest_first(folder.path()).unwrap().len(), 3);
        assert_eq!(files.counts.dropped(), 200);
    }

    #[test]
    fn a_file_that_was_set_aside_makes_room_and_is_not_counted_again() {
        let folder = tempfile::tempdir().unwrap();
        let one = file(100, 0).len() as u64;
        let mut files = spool(folder.path(), 3 * one);
        for pixel in 0..3 {
            files.add("m/1x1x1", &file(100, pixel)).unwrap();
        }
        let first = oldest_first(folder.path()).unwrap().remove(0);
        assert!(first.set_aside().unwrap());
        assert!(!first.set_aside().unwrap(), "it is there no longer");
        // What is no file neither takes room nor makes room.
        let taken = folder.path().join("m/1x1x1").join(file_name(1));
        fs::create_dir(&taken).unwrap();
        for (pixel, dropped) in [(3, 0), (4, 100)] {
            files.add("m/1x1x1", &file(100, pixel)).unwrap();
            assert_eq!(files.counts.dropped(), dropped);
        }
        fs::remove_dir(&taken).unwrap();
        let left = oldest_first(folder.path()).unwrap().into_iter();
        let left: Vec<_> = left.map(|file| fs::read(file.path).unwrap()).collect();
        assert_eq!(left, [2, 3, 4].map(|pixel| file(100, pixel)));
    }

    #[test]
    fn a_shortage_is_no_problem_of_the_file() {
        for (errno, expected) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOMEM, true),
            (Errno::IO, false),
            (Errno::ACCESS, false),
        ] {
            assert_eq!(is_shortage(&errno.into()), expected, "{errno}");
        }
    }

    #[test]
    fn the_numbers_of_a_spool_grow_and_those_of_a_data_set_count() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = spool(folder.path(), 1 << 20);
        for pixel in 0..50 {
            spool.add("m/1x1x1", &file(1, pixel)).unwrap();
        }
        let mut found = oldest_first(folder.path()).unwrap();
        found.sort_by_key(|file| file.number);
        let pixels = found.iter().map(|it| fs::read(&it.path).unwrap());
        assert!(pixels.eq((0..50).map(|pixel| file(1, pixel))));
        // A time in microseconds of this century, times 1000.
        assert!(found[0].number > 1_600_000_000_000_000_000);

        let folder = tempfile::tempdir().unwrap();
        let purpose = Purpose::DataSet;
        let mut data = Files::new(folder.path(), 1 << 20, purpose, Arc::default());
        for pixel in 0..3 {
            data.add("m/1x1x1", &file(1, pixel)).unwrap();
        }
        let mut found = oldest_first(folder.path()).unwrap();
        found.sort_by_key(|file| file.number);
        let found: Vec<_> = found.iter().map(|file| file.number).collect();
        assert_eq!(found, [1, 2, 3]);
    }
}
