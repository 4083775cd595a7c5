//! The queue on disk: one JSON file a run, so that a restarted service knows what it had to do.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use common::{atomic_file, file_lock::FileLock};
use proto::runs::v1::RunState;
use serde::{Deserialize, Serialize};

use super::{ServeError, record::RunId};

/// The format that is written, and the newest that is read.
const FORMAT_VERSION: u32 = 1;

/// Below the runs' folder; no run's name begins with a dot.
const FOLDER: &str = ".queue";

/// The files of all runs that the service remembers. One service at a time uses them.
#[derive(Debug)]
pub(super) struct QueueStore {
    folder: PathBuf,
    /// Of the folder itself; the operating system lets go of it when the process ends.
    _lock: FileLock,
}

/// A run as its file tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredRun {
    pub(super) format_version: u32,
    /// In the order of submission.
    pub(super) number: u64,
    pub(super) run_id: String,
    pub(super) name: String,
    pub(super) state: StoredState,
    pub(super) reason: String,
    /// The resolved configuration.
    pub(super) config_toml: String,
}

/// [`RunState`] in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoredState {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl QueueStore {
    /// Takes the queue below `runs_folder`, making it where it is missing; the runs in it, oldest
    /// first.
    ///
    /// # Errors
    /// [`ServeError::RunsFolder`] where a file cannot be read or is not one of ours,
    /// [`ServeError::RunsFolderInUse`].
    pub(super) fn open(runs_folder: &Path) -> Result<(Self, Vec<StoredRun>), ServeError> {
        let folder = runs_folder.join(FOLDER);
        let failed = |path: &Path, problem: String| ServeError::RunsFolder {
            path: path.to_owned(),
            problem,
        };
        let lock = fs::create_dir_all(&folder).and_then(|()| File::open(&folder));
        let lock = lock.map_err(|error| failed(&folder, error.to_string()))?;
        let lock = match FileLock::try_take(lock) {
            Ok(lock) => lock,
            Err(TryLockError::WouldBlock) => {
                return Err(ServeError::RunsFolderInUse(runs_folder.to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&folder, error.to_string())),
        };
        let mut runs = Vec::new();
        let entries = fs::read_dir(&folder).map_err(|error| failed(&folder, error.to_string()))?;
        for entry in entries {
            let file = entry
                .map_err(|error| failed(&folder, error.to_string()))?
                .path();
            // What a killed process was writing has another ending.
            if file
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                runs.push(read(&file).map_err(|problem| failed(&file, problem))?);
            }
        }
        runs.sort_by_key(|run| run.number);
        Ok((
            Self {
                folder,
                _lock: lock,
            },
            runs,
        ))
    }

    /// Writes a run's file whole or not at all.
    pub(super) fn write(&self, run: &StoredRun) -> io::Result<()> {
        // Holds: numbers, strings and an enum.
        let mut json = serde_json::to_vec_pretty(run).expect("a run serializes");
        json.push(b'\n');
        atomic_file::write(&self.file(&run.run_id), &json)
    }

    /// Forgets a run.
    pub(super) fn remove(&self, run_id: &RunId) -> io::Result<()> {
        fs::remove_file(self.file(&run_id.to_string()))
    }

    fn file(&self, run_id: &str) -> PathBuf {
        self.folder.join(format!("{run_id}.json"))
    }
}

impl StoredRun {
    /// A run that waits.
    pub(super) fn queued(number: u64, run_id: &RunId, name: &str, config_toml: String) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            number,
            run_id: run_id.to_string(),
            name: name.to_owned(),
            state: StoredState::Queued,
            reason: String::new(),
            config_toml,
        }
    }
}

impl From<StoredState> for RunState {
    fn from(state: StoredState) -> Self {
        match state {
            StoredState::Queued => Self::Queued,
            StoredState::Running => Self::Running,
            StoredState::Succeeded => Self::Succeeded,
            StoredState::Failed => Self::Failed,
            StoredState::Cancelled => Self::Cancelled,
        }
    }
}

fn read(file: &Path) -> Result<StoredRun, String> {
    /// The version first: the rest of a newer file may be anything.
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let bytes = fs::read(file).map_err(|error| error.to_string())?;
    let json = |error: serde_json::Error| error.to_string();
    let Version { format_version } = serde_json::from_slice(&bytes).map_err(json)?;
    if format_version > FORMAT_VERSION {
        return Err(format!(
            "format_version {format_version} is newer than {FORMAT_VERSION}, the newest that this \
             build reads"
        ));
    }
    serde_json::from_slice(&bytes).map_err(json)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_file_that_cannot_be_understood_is_named() {
        let runs = tempfile::tempdir().unwrap();
        drop(QueueStore::open(runs.path()).unwrap());
        for (text, part) in [
            ("{", "EOF"),
            ("{\"format_version\": 2}", "format_version 2 is newer"),
            ("{\"format_version\": 1}", "missing field"),
        ] {
            fs::write(runs.path().join(".queue/a.json"), text).unwrap();
            let error = QueueStore::open(runs.path()).unwrap_err().to_string();
            assert!(error.contains("a.json") && error.contains(part), "{error}");
        }
    }
}
