//! The queue on disk: one JSON file per run, from which a restarted service continues.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use common::{atomic_file, file_lock::FileLock, folders};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    run_id::RunId,
    serve_error::ServeError,
    stored_run::{self, StoredRun},
};
use crate::bucket_run::{BucketRun, BucketRunError};

/// Below the runs' folder or URL; no run's name begins with a dot.
pub(super) const FOLDER: &str = ".queue";

/// In a bucket, the folder of the files, so that none has the name of a file with a meaning in a run.
const FOLDER_IN_BUCKET: &str = "runs";

/// How long a client waits until a bucket has its run. Longer than the longest pause between two attempts.
const PATIENCE: Duration = Duration::from_secs(12);

/// The files of all known runs. One service at a time uses them.
#[derive(Debug)]
pub(super) struct QueueStore {
    folder: PathBuf,
    keeper: Keeper,
}

/// What keeps other services away.
#[derive(Debug)]
enum Keeper {
    Lock {
        /// Locks the folder itself; the operating system releases it when the process ends.
        _lock: FileLock,
    },
    Bucket {
        /// Has the lease, and copies the folder to the bucket.
        copy: RwLock<BucketRun>,
        /// Taken for each change: the copy may not begin within another one.
        changes: Mutex<()>,
    },
}

impl QueueStore {
    /// Locks the queue below `runs_folder`, which is created if it is missing, and returns its runs, oldest
    /// first. A run whose file cannot be used is logged and left out; its file stays.
    ///
    /// # Errors
    /// [`ServeError::RunsFolder`] if the queue cannot be read; [`ServeError::RunsFolderInUse`].
    pub(super) fn open(runs_folder: &Path) -> Result<(Self, Vec<StoredRun>), ServeError> {
        let folder = runs_folder.join(FOLDER);
        let failed = |problem: io::Error| cannot_use(&folder, &problem);
        let lock = fs::create_dir_all(&folder).and_then(|()| File::open(&folder));
        let lock = match FileLock::try_take(lock.map_err(failed)?) {
            Ok(lock) => lock,
            Err(TryLockError::WouldBlock) => {
                return Err(ServeError::RunsFolderInUse(runs_folder.to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        };
        let runs = read_all(&folder)?;
        let keeper = Keeper::Lock { _lock: lock };
        Ok((Self { folder, keeper }, runs))
    }

    /// [`Self::open`] for the queue in a bucket. This process has its lease.
    ///
    /// # Errors
    /// [`ServeError::RunsFolder`] if the queue cannot be read.
    pub(super) fn open_in_bucket(copy: BucketRun) -> Result<(Self, Vec<StoredRun>), ServeError> {
        let folder = copy.folder().join(FOLDER_IN_BUCKET);
        // What this machine has may be newer than the bucket.
        let prepared = fs::create_dir_all(&folder).and_then(|()| copy.enqueue());
        prepared.map_err(|problem| cannot_use(&folder, &problem))?;
        let runs = read_all(&folder)?;
        let keeper = Keeper::Bucket {
            copy: RwLock::new(copy),
            changes: Mutex::default(),
        };
        Ok((Self { folder, keeper }, runs))
    }

    /// Writes a run's file atomically. A bucket gets it later: see [`Self::settle`].
    pub(super) fn write(&self, run: &StoredRun) -> io::Result<()> {
        // Holds: numbers, strings and an enum.
        let mut json = serde_json::to_vec_pretty(run).expect("a run serializes");
        json.push(b'\n');
        self.change(|| atomic_file::write(&self.file(&run.run_id), &json))
    }

    /// Removes a run's file.
    pub(super) fn remove(&self, run_id: &RunId) -> io::Result<()> {
        self.change(|| fs::remove_file(self.file(&run_id.to_string())))
    }

    /// Waits until the bucket, if there is one, has all changes so far.
    ///
    /// # Errors
    /// [`BucketRunError::Unconfirmed`]; the bucket may have them.
    pub(super) fn settle(&self) -> Result<(), BucketRunError> {
        match &self.keeper {
            Keeper::Lock { .. } => Ok(()),
            Keeper::Bucket { copy, .. } => shared(copy).wait_until_saved(PATIENCE),
        }
    }

    /// Waits until the bucket, if there is one, has the queue, and ends the lease. Nothing may change the queue afterwards.
    pub(super) fn finish(&self) {
        if let Keeper::Bucket { copy, .. } = &self.keeper {
            let mut copy = copy.write().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = copy.finish(&CancellationToken::new()) {
                warn!(%error, "the bucket lacks the last state of the queue");
            }
        }
    }

    fn change(&self, change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match &self.keeper {
            Keeper::Lock { .. } => change(),
            Keeper::Bucket { copy, changes } => {
                let _alone = changes.lock().unwrap_or_else(PoisonError::into_inner);
                change()?;
                shared(copy).enqueue()
            }
        }
    }

    fn file(&self, run_id: &str) -> PathBuf {
        self.folder.join(format!("{run_id}.json"))
    }
}

/// The runs whose files are in `folder`, oldest first.
fn read_all(folder: &Path) -> Result<Vec<StoredRun>, ServeError> {
    let listing = folders::list(folder).map_err(|problem| cannot_use(folder, &problem))?;
    let mut runs = Vec::new();
    let mut left_out: Vec<_> = listing.unusable.iter().map(ToString::to_string).collect();
    for entry in listing.entries {
        // Temporary files of a killed process have another extension.
        let Some(run_id) = entry.name.strip_suffix(".json") else {
            continue;
        };
        match stored_run::read(&entry.path, run_id) {
            Ok(run) => runs.push(run),
            Err(problem) => left_out.push(format!("{}: {problem}", entry.path.display())),
        }
    }
    for problem in &left_out {
        warn!("a run in the queue cannot be read and is left out: {problem}");
    }
    if !left_out.is_empty() {
        let (count, all) = (left_out.len(), left_out.len() + runs.len());
        warn!("{count} of {all} runs in the queue cannot be read");
    }
    runs.sort_by_key(|run| run.number);
    Ok(runs)
}

fn cannot_use(path: &Path, problem: &io::Error) -> ServeError {
    ServeError::RunsFolder {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

/// The copy of the queue: a panic elsewhere does not damage it.
fn shared(copy: &RwLock<BucketRun>) -> RwLockReadGuard<'_, BucketRun> {
    copy.read().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, sync::Arc};

    use object_storage::{Bucket, Location};
    use object_store::memory::InMemory;
    use traces::TraceContext;

    use super::*;
    use crate::{bucket_run::BucketOutput, events::EventSink, service::stored_run::StoredState};

    #[test]
    fn runs_come_back_in_the_order_of_their_numbers() {
        let runs = tempfile::tempdir().unwrap();
        let (store, none) = QueueStore::open(runs.path()).unwrap();
        assert_eq!(none, []);
        let run = |number: u64, id: &str| {
            StoredRun::queued(number, &RunId::new(id), "name", "seed = 1".to_owned())
        };
        let written = [run(9, "b"), run(10, "a")];
        for run in written.iter().rev() {
            store.write(run).unwrap();
        }
        store.write(&run(11, "c")).unwrap();
        store.remove(&RunId::new("c")).unwrap();
        let in_use = QueueStore::open(runs.path()).unwrap_err();
        assert!(matches!(in_use, ServeError::RunsFolderInUse(_)), "{in_use}");
        drop(store);
        assert_eq!(QueueStore::open(runs.path()).unwrap().1, written);
    }

    #[test]
    fn a_queue_in_a_bucket_is_the_same_on_every_machine() {
        let url = "s3://b/runs/.queue";
        let Ok(Location::Bucket(location)) = Location::parse(Path::new(url)) else {
            panic!("{url} is a bucket");
        };
        let objects = Arc::new(InMemory::new());
        let machines = tempfile::tempdir().unwrap();
        let open = |machine: &str| {
            let store = Arc::clone(&objects);
            let bucket = Bucket::over(store, url.to_owned(), Duration::from_secs(60)).unwrap();
            let output = BucketOutput {
                location: location.clone(),
                scratch: Some(machines.path().join(machine)),
                lease_seconds: 3600,
                patience: Duration::from_secs(60),
            };
            let stop = CancellationToken::new();
            let notices = EventSink::none().notices();
            let copy = BucketRun::over(bucket, &output, |_| false, &stop, &notices);
            QueueStore::open_in_bucket(copy.unwrap()).unwrap()
        };
        let run = |number: u64, id: &str| {
            StoredRun::queued(number, &RunId::new(id), "name", "seed = 1".to_owned())
        };
        // A run may be called like a file that has a meaning in a run.
        let mut runs = [run(1, "manifest"), run(2, "a")];
        let (store, none) = open("first");
        assert_eq!(none, []);
        for run in &runs {
            store.write(run).unwrap();
        }
        store.write(&run(3, "c")).unwrap();
        store.remove(&RunId::new("c")).unwrap();
        store.finish();
        drop(store);

        let (store, found) = open("second");
        assert_eq!(found, runs);
        runs[0].state = StoredState::Succeeded;
        store.write(&runs[0]).unwrap();
        store.finish();
        drop(store);
        // What the first machine has is older.
        assert_eq!(open("first").1, runs);
    }

    #[test]
    fn a_run_keeps_its_trace_and_has_the_new_format_only_with_one() {
        let runs = tempfile::tempdir().unwrap();
        let (store, _) = QueueStore::open(runs.path()).unwrap();
        let trace = r#"{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#;
        let trace: TraceContext = serde_json::from_str(trace).unwrap();
        let without = StoredRun::queued(1, &RunId::new("a"), "a", "seed = 1".to_owned());
        let with = StoredRun::queued(2, &RunId::new("b"), "b", "seed = 1".to_owned());
        let with = with.in_trace(Some(trace));
        for (run, version, names_trace) in [
            (&without, "\"format_version\": 1,", false),
            (&with, "\"format_version\": 2,", true),
            (
                &with.clone().in_trace(None),
                "\"format_version\": 1,",
                false,
            ),
        ] {
            store.write(run).unwrap();
            let text = fs::read_to_string(store.file(&run.run_id)).unwrap();
            assert!(text.contains(version), "{text}");
            assert_eq!(text.contains("traceparent"), names_trace, "{text}");
        }
        store.write(&with).unwrap();
        drop(store);
        assert_eq!(QueueStore::open(runs.path()).unwrap().1, [without, with]);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_left_out_and_left_alone() {
        let runs = tempfile::tempdir().unwrap();
        let (store, _) = QueueStore::open(runs.path()).unwrap();
        let good = StoredRun::queued(3, &RunId::new("good"), "name", "seed = 1".to_owned());
        store.write(&good).unwrap();
        drop(store);
        let file = |name: &str| runs.path().join(".queue").join(name);
        let text = fs::read_to_string(file("good.json")).unwrap();
        let dots = text.replace("\"good\"", "\"..\"");
        for (name, text, part) in [
            ("empty.json", "", "EOF"),
            ("cut.json", "{", "EOF"),
            (
                "newer.json",
                "{\"format_version\": 3}",
                "format_version 3 is newer",
            ),
            ("fields.json", "{\"format_version\": 1}", "missing field"),
            ("copy.json", &text, "it holds the run `good`"),
            ("...json", &dots, "it holds the run `..`"),
        ] {
            fs::write(file(name), text).unwrap();
            let run_id = name.strip_suffix(".json").unwrap();
            let problem = stored_run::read(&file(name), run_id).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
        symlink("nowhere", file("dangling.json")).unwrap();
        fs::create_dir(file("folder.json")).unwrap();
        fs::write(file("notes.txt"), "x").unwrap();
        let count = || fs::read_dir(runs.path().join(".queue")).unwrap().count();
        let before = count();
        assert_eq!(QueueStore::open(runs.path()).unwrap().1, [good]);
        assert_eq!(count(), before);
    }
}
