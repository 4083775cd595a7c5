//! Copies of objects on this machine, in a folder of bounded size.

use std::{
    fs::{self, DirEntry, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use common::atomic_file;

/// A temporary file that is older was left by a killed process.
const LONGEST_WRITE: Duration = Duration::from_secs(3600);

/// A folder of copies with a limit on their size together. Those that were not used for the longest time are removed
/// first. Processes may share the folder.
///
/// A reader sees a whole copy or none. It verifies the bytes each time, because the folder may be damaged: this type
/// knows the places of the copies, and not what they contain.
#[derive(Debug)]
pub struct LocalCopies {
    folder: PathBuf,
    layout: CopyLayout,
    limits: CopyLimits,
    /// Bytes that this process wrote since it last looked at the whole folder.
    written: Mutex<u64>,
}

/// Where in the folder the copies are. Everything else that is there stays.
#[derive(Debug, Clone, Copy)]
pub struct CopyLayout {
    /// Which names the folders on the way to a copy have, the outermost first. Without any, the copies are in the
    /// folder itself.
    pub folders: &'static [fn(&str) -> bool],
    /// Whether a file is a copy, by its path below the folder.
    pub is_copy: fn(&Path) -> bool,
}

/// How much space the copies take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLimits {
    /// Limit of the copies together, bytes.
    pub max_bytes: u64,
    /// Bytes that a process writes between two looks at the whole folder, which may have many files. A look leaves room
    /// for them. With 0, each new copy is followed by a look.
    pub bytes_between_looks: u64,
}

/// A copy in the folder.
struct StoredCopy {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}

impl LocalCopies {
    /// The copies in `folder`, which is created if necessary.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub fn open(folder: &Path, layout: CopyLayout, limits: CopyLimits) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            layout,
            limits,
            // Earlier processes may have left more than the limit.
            written: Mutex::new(limits.max_bytes),
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stores a copy at `path`, which is in the folder, and removes older ones as far as the limit requires it; the new
    /// one stays, even if it is larger than the limit. What a process has mapped into memory stays valid, and takes its
    /// space until it is unmapped.
    ///
    /// # Errors
    /// I/O errors; the copy may be there.
    pub fn insert(&self, path: &Path, copy: &[u8]) -> io::Result<()> {
        atomic_file::write(path, copy)?;
        // No code that can panic runs under the lock.
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        *written = written.saturating_add(copy.len() as u64);
        if *written > self.limits.bytes_between_looks {
            let named = |error: io::Error| {
                let folder = self.folder.display();
                io::Error::new(
                    error.kind(),
                    format!("cannot make room in {folder}: {error}"),
                )
            };
            self.make_room(path).map_err(named)?;
            *written = 0;
        }
        Ok(())
    }

    /// Notes that the copy at `path` was used. If this fails, it counts as older than it is.
    pub fn note_used(&self, path: &Path) {
        let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Leaves room for what is written until the next look.
    fn make_room(&self, newest: &Path) -> io::Result<()> {
        let CopyLimits {
            max_bytes,
            bytes_between_looks,
        } = self.limits;
        let limit = max_bytes.saturating_sub(bytes_between_looks);
        let mut copies = self.copies()?;
        copies.sort_by_key(|copy| copy.used);
        let mut bytes: u64 = copies.iter().map(|copy| copy.bytes).sum();
        for copy in copies.iter().filter(|copy| copy.path != newest) {
            if bytes <= limit {
                break;
            }
            remove(&copy.path)?;
            bytes -= copy.bytes;
        }
        Ok(())
    }

    /// All copies. Removes what killed processes left.
    fn copies(&self) -> io::Result<Vec<StoredCopy>> {
        let mut folders = vec![self.folder.clone()];
        for fits in self.layout.folders {
            let mut below = Vec::new();
            for folder in &folders {
                below.extend(folders_in(folder, *fits)?);
            }
            folders = below;
        }
        let mut copies = Vec::new();
        for folder in &folders {
            for entry in entries(folder)? {
                copies.extend(self.copy(&entry)?);
            }
        }
        Ok(copies)
    }

    /// The copy at `entry`, if it is one. Removes an old unfinished file.
    fn copy(&self, entry: &DirEntry) -> io::Result<Option<StoredCopy>> {
        let path = entry.path();
        let is_unfinished = atomic_file::is_unfinished(&entry.file_name());
        let place = path.strip_prefix(&self.folder).unwrap_or(&path);
        if !is_unfinished && !(self.layout.is_copy)(place) {
            return Ok(None);
        }
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Another process removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let used = metadata.modified()?;
        if is_unfinished {
            if used.elapsed().unwrap_or_default() > LONGEST_WRITE {
                remove(&path)?;
            }
            return Ok(None);
        }
        let bytes = metadata.len();
        Ok(Some(StoredCopy { used, bytes, path }))
    }
}

/// The folders in `folder` whose names fit.
fn folders_in(folder: &Path, fits: fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in entries(folder)? {
        let is_folder = entry.file_type()?.is_dir();
        if is_folder && entry.file_name().to_str().is_some_and(fits) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    fs::read_dir(folder)?.collect()
}

/// Removes a file that another process may remove at the same time.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Copies in folders, as `group-1/a.copy`.
    const IN_GROUPS: CopyLayout = CopyLayout {
        folders: &[is_group],
        is_copy,
    };

    const IN_THE_FOLDER: CopyLayout = CopyLayout {
        folders: &[],
        is_copy,
    };

    fn is_copy(path: &Path) -> bool {
        path.extension().is_some_and(|found| found == "copy")
    }

    fn is_group(name: &str) -> bool {
        name.starts_with("group-")
    }

    fn in_groups(folder: &Path, max_bytes: u64, bytes_between_looks: u64) -> LocalCopies {
        let limits = CopyLimits {
            max_bytes,
            bytes_between_looks,
        };
        LocalCopies::open(folder, IN_GROUPS, limits).unwrap()
    }

    /// Makes a file look as if it had been used so long ago.
    fn age(path: &Path, age: Duration) {
        let file = File::open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let copies = in_groups(&folder.path().join("new"), 1000, 0);
        let paths = ["group-1/a.copy", "group-1/b.copy", "group-2/a.copy"];
        let paths = paths.map(|path| copies.folder().join(path));
        let newest = copies.folder().join("group-2/b.copy");
        let there = || (paths.each_ref().map(|path| path.exists()), newest.exists());
        for (path, hours) in paths.iter().zip([3u32, 2, 1]) {
            copies.insert(path, &[0; 300]).unwrap();
            age(path, hours * HOUR);
        }
        assert_eq!(there(), ([true, true, true], false));
        // It is used, so the second one is older now.
        copies.note_used(&paths[0]);
        copies.insert(&newest, &[0; 300]).unwrap();
        assert_eq!(there(), ([true, false, true], true));

        // A copy that is larger than all stays until the next one.
        copies.insert(&paths[1], &[0; 2000]).unwrap();
        assert_eq!(there(), ([false, true, false], false));
        copies.insert(&paths[0], &[0; 300]).unwrap();
        assert_eq!(there(), ([true, false, false], false));
    }

    #[test]
    fn a_look_leaves_room_for_what_is_written_until_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let copies = in_groups(folder.path(), 1000, 250);
        let path = |number: u32| folder.path().join(format!("group-1/{number}.copy"));
        let there = || (0..12u32).filter(|number| path(*number).exists()).count();
        let (mut most, mut before, mut removals) = (0usize, 0usize, 0usize);
        for number in 0..12u32 {
            copies.insert(&path(number), &[0; 100]).unwrap();
            age(&path(number), (20 - number) * HOUR);
            let now = there();
            removals += usize::from(now <= before);
            most = most.max(now);
            before = now;
        }
        // Each look leaves 750 bytes at most; before it, there may be the whole limit.
        assert!((8..=10).contains(&most), "{most}");
        assert_eq!(removals, 1);
    }

    #[test]
    fn an_earlier_process_may_have_had_a_larger_limit() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new] =
            ["old.copy", "new.copy"].map(|name| folder.path().join("group-1").join(name));
        let before = in_groups(folder.path(), 1 << 20, 1 << 16);
        before.insert(&old, &[0; 300]).unwrap();
        let copies = in_groups(folder.path(), 200, 100);
        copies.insert(&new, &[0; 1]).unwrap();
        assert!(!old.exists() && new.exists());
    }

    #[test]
    fn nothing_but_copies_and_old_unfinished_files_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let copies = in_groups(folder.path(), 10, 0);
        let path = |path: &str| folder.path().join(path);
        let others = [
            "outside.copy",
            "other/a.copy",
            "group-1/below/a.copy",
            "group-1/notes.txt",
            "group-1/.writing-new",
        ];
        let others = others.map(path);
        for path in &others {
            atomic_file::write(path, &[0; 300]).unwrap();
            age(path, HOUR / 2);
        }
        let unfinished = path("group-1/.writing-old");
        fs::write(&unfinished, "half a copy").unwrap();
        age(&unfinished, 2 * HOUR);
        let [first, second] = [path("group-1/a.copy"), path("group-1/b.copy")];
        copies.insert(&first, &[0; 300]).unwrap();
        age(&first, HOUR / 2);
        copies.insert(&second, &[0; 300]).unwrap();
        assert!(!first.exists() && second.exists() && !unfinished.exists());
        assert!(others.iter().all(|path| path.exists()), "{others:?}");
    }

    #[test]
    fn without_folders_on_the_way_the_copies_are_in_the_folder_itself() {
        let folder = tempfile::tempdir().unwrap();
        let limits = CopyLimits {
            max_bytes: 10,
            bytes_between_looks: 0,
        };
        let copies = LocalCopies::open(folder.path(), IN_THE_FOLDER, limits).unwrap();
        let [first, second] = ["a.copy", "b.copy"].map(|name| folder.path().join(name));
        copies.insert(&first, &[0; 10]).unwrap();
        age(&first, HOUR);
        copies.insert(&second, &[0; 1]).unwrap();
        assert!(!first.exists() && second.exists());
    }
}
