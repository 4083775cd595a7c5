//! The folder of a run.
//!
//! ```text
//! config.toml                the resolved configuration
//! metrics.jsonl              one JSON object per event
//! tensorboard/               the same figures, and histograms of the weights, for TensorBoard
//! checkpoints/               states of the run, to resume from
//! phases/<index>-<name>/     weights and spec at the end of each phase
//! artifact/                  weights and spec at the end; model.onnx and manifest.json if exported
//! artifact/int8/             the model in int8, with a manifest of its own
//! manifest.json              what decided the bits; written last: marks the run as finished
//! ```

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use common::{atomic_file, file_lock::FileLock, os_text};

use super::{
    checkpoints,
    manifest::{FILE as MANIFEST, RunManifest},
};
use crate::config::{PhaseKind, RunConfig};

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const TENSORBOARD: &str = "tensorboard";
const CHECKPOINTS: &str = "checkpoints";
const PHASES: &str = "phases";
const ARTIFACT: &str = "artifact";
/// In the folder of the artifact.
const INT8: &str = "int8";

/// The folder of one run, locked against other processes.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Locks the folder itself; the operating system releases it when the process ends.
    _lock: FileLock,
}

/// Why a folder cannot be used for a run.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder contains a finished run, which is not overwritten.
    #[error(
        "{} already holds a finished run; choose another output folder or remove this one",
        .0.display()
    )]
    AlreadyFinished(PathBuf),
    /// The folder contains something that is not a run.
    #[error(
        "{} is not empty and holds no run; choose another output folder",
        .0.display()
    )]
    Foreign(PathBuf),
    /// Another process uses the folder.
    #[error(
        "another trainer uses {}; wait for it, or choose another output folder",
        .0.display()
    )]
    InUse(PathBuf),
    /// The interrupted run's configuration is damaged, or of another version of Retort.
    #[error("cannot resume the interrupted run: {}: {problem}", file.display())]
    UnreadableConfig {
        /// The file.
        file: PathBuf,
        /// The problem.
        problem: String,
    },
    /// An I/O error; the text names the file.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl RunFolder {
    /// Locks `path` for a run and creates it if it is missing. Keeps what an unfinished run left there,
    /// except for files that a killed process left half-written. A run whose publish gate withheld its model
    /// counts as unfinished if it has checkpoints.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn take(path: &Path) -> Result<Self, FolderError> {
        let folder = path.to_owned();
        fs::create_dir_all(path).map_err(|error| with_path(path, &error))?;
        let lock = File::open(path).map_err(|error| with_path(path, &error))?;
        let lock = match FileLock::try_take(lock) {
            Ok(lock) => lock,
            Err(TryLockError::WouldBlock) => return Err(FolderError::InUse(folder)),
            Err(TryLockError::Error(error)) => return Err(with_path(path, &error).into()),
        };
        if manifest(path).exists() && !waits_for_its_gate(path)? {
            return Err(FolderError::AlreadyFinished(folder));
        }
        if !path.join(CONFIG).exists() && holds_more_than_unfinished(path)? {
            return Err(FolderError::Foreign(folder));
        }
        let taken = Self {
            path: folder,
            _lock: lock,
        };
        taken.remove_unfinished()?;
        Ok(taken)
    }

    /// Removes the temporary files of killed processes. Only the owner of the lock writes here, so no
    /// process uses them.
    fn remove_unfinished(&self) -> io::Result<()> {
        let artifacts = [self.artifact(), self.int8_artifact()];
        let mut folders = vec![self.path.clone(), self.checkpoints()];
        folders.extend(artifacts);
        let phases = self.path.join(PHASES);
        match fs::read_dir(&phases) {
            Ok(entries) => {
                for phase in entries {
                    folders.push(phase?.path());
                }
            }
            // The folder does not exist before the end of the first phase.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(with_path(&phases, &error)),
        }
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            atomic_file::remove_unfinished(folder).map_err(|error| with_path(folder, &error))?;
        }
        Ok(())
    }

    /// Removes what is left of an unfinished run without checkpoints.
    ///
    /// # Errors
    /// I/O errors.
    pub fn clear(&self) -> io::Result<()> {
        for left in [PHASES, ARTIFACT, CHECKPOINTS, TENSORBOARD] {
            remove_if_there(fs::remove_dir_all(self.path.join(left)))?;
        }
        remove_if_there(fs::remove_file(self.metrics()))
    }

    /// The configuration of the unfinished run.
    ///
    /// # Errors
    /// If it cannot be read, or is invalid in this version.
    pub fn config(&self) -> Result<RunConfig, FolderError> {
        let file = self.path.join(CONFIG);
        let text = fs::read_to_string(&file).map_err(|error| with_path(&file, &error))?;
        RunConfig::from_toml(&text).map_err(|error| FolderError::UnreadableConfig {
            file,
            problem: error.to_string(),
        })
    }

    /// Removes the manifest of a run whose publish gate withheld its model: the run continues.
    ///
    /// # Errors
    /// I/O errors.
    pub fn reopen(&self) -> io::Result<()> {
        remove_if_there(fs::remove_file(self.manifest()))
    }

    /// Writes the resolved configuration.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write_config(&self, config_toml: &str) -> io::Result<()> {
        atomic_file::write(&self.path.join(CONFIG), config_toml.as_bytes())
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name of the run: that of its folder.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        os_text::shown(name).into_owned()
    }

    /// Path of the run's manifest.
    pub fn manifest(&self) -> PathBuf {
        manifest(&self.path)
    }

    /// Path of the log of events.
    pub fn metrics(&self) -> PathBuf {
        metrics(&self.path)
    }

    /// Folder of the event files for TensorBoard.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join(TENSORBOARD)
    }

    /// Folder of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// Folder of the final weights.
    pub fn artifact(&self) -> PathBuf {
        self.path.join(ARTIFACT)
    }

    /// Folder of the model in int8.
    pub fn int8_artifact(&self) -> PathBuf {
        self.artifact().join(INT8)
    }

    /// Folder of the weights at the end of phase `index`, counted from 0.
    pub fn phase(&self, index: usize, kind: PhaseKind) -> PathBuf {
        self.path.join(PHASES).join(format!("{index}-{kind}"))
    }
}

/// Path of the manifest of the run in `folder`.
fn manifest(folder: &Path) -> PathBuf {
    folder.join(MANIFEST)
}

/// Path of the log of events of the run in `folder`.
pub(super) fn metrics(folder: &Path) -> PathBuf {
    folder.join(METRICS)
}

/// Whether the finished run in `folder` can resume from a checkpoint, and publish the model that its publish gate
/// withheld.
fn waits_for_its_gate(folder: &Path) -> io::Result<bool> {
    let withheld = RunManifest::read(folder).is_ok_and(|manifest| manifest.is_withheld());
    Ok(withheld && checkpoints::are_in(&folder.join(CHECKPOINTS))?)
}

/// Whether `folder` holds anything but temporary files of a killed process.
fn holds_more_than_unfinished(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        if !atomic_file::is_unfinished(&entry?.file_name()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn remove_if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::manifest::tests::withheld;

    #[test]
    fn a_finished_run_is_refused_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::take(folder.path()).unwrap();
        run.write_config("seed = 1").unwrap();
        fs::write(run.manifest(), "{}").unwrap();
        drop(run);
        let error = RunFolder::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains("finished run"), "{error}");
        assert!(error.contains("another output folder"), "{error}");
        let kept = fs::read_to_string(folder.path().join(CONFIG)).unwrap();
        assert_eq!(kept, "seed = 1");
    }

    #[test]
    fn a_withheld_run_continues_while_it_has_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::take(folder.path()).unwrap();
        let manifest = |met: bool| {
            let mut manifest = withheld();
            manifest["publish_gate"][0]["met"] = met.into();
            manifest.to_string()
        };
        run.write_config("seed = 1").unwrap();
        fs::write(run.manifest(), manifest(false)).unwrap();
        drop(run);
        let error = RunFolder::take(folder.path()).unwrap_err();
        assert!(matches!(error, FolderError::AlreadyFinished(_)), "{error}");

        let checkpoints = folder.path().join(CHECKPOINTS);
        fs::create_dir(&checkpoints).unwrap();
        fs::write(checkpoints.join("step-0000000001.safetensors"), "x").unwrap();
        let run = RunFolder::take(folder.path()).unwrap();
        run.reopen().unwrap();
        assert!(!run.manifest().exists());

        fs::write(run.manifest(), manifest(true)).unwrap();
        drop(run);
        let error = RunFolder::take(folder.path()).unwrap_err();
        assert!(matches!(error, FolderError::AlreadyFinished(_)), "{error}");
    }

    #[test]
    fn an_unfinished_run_is_left_until_it_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::take(folder.path()).unwrap();
        run.write_config("seed = 1").unwrap();
        fs::create_dir_all(run.phase(0, PhaseKind::Distill)).unwrap();
        fs::create_dir_all(run.checkpoints()).unwrap();
        fs::write(run.metrics(), "old").unwrap();
        drop(run);
        let run = RunFolder::take(folder.path()).unwrap();
        assert!(run.phase(0, PhaseKind::Distill).exists() && run.metrics().exists());
        run.clear().unwrap();
        assert!(!run.phase(0, PhaseKind::Distill).exists());
        assert!(!run.metrics().exists() && !run.checkpoints().exists());
    }

    #[test]
    fn one_trainer_at_a_time_works_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::take(folder.path()).unwrap();
        let error = RunFolder::take(folder.path()).unwrap_err();
        assert!(matches!(error, FolderError::InUse(_)), "{error}");
        drop(run);
        RunFolder::take(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        // Another program may be writing the second.
        for other in ["thesis.tex", ".writing-thesis"] {
            fs::write(folder.path().join(other), "x").unwrap();
        }
        let error = RunFolder::take(folder.path()).unwrap_err();
        assert!(matches!(error, FolderError::Foreign(_)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_was_half_written_when_a_process_was_killed_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let unfinished = |below: &Path| {
            fs::create_dir_all(below).unwrap();
            fs::write(below.join(".writing-a1B2c3"), "half").unwrap();
        };
        let files = |below: &Path| fs::read_dir(below).unwrap().count();
        // A process that was killed before it wrote any file.
        unfinished(folder.path());
        let run = RunFolder::take(folder.path()).unwrap();
        assert_eq!(files(folder.path()), 0);

        run.write_config("seed = 1").unwrap();
        let phase = run.phase(0, PhaseKind::Distill);
        let below = [run.checkpoints(), run.artifact(), phase];
        unfinished(folder.path());
        for below in &below {
            unfinished(below);
        }
        fs::write(run.checkpoints().join("step-0000000001.safetensors"), "x").unwrap();
        drop(run);
        RunFolder::take(folder.path()).unwrap();
        assert_eq!(below.each_ref().map(|below| files(below)), [1, 0, 0]);
        // config.toml, checkpoints, artifact, phases
        assert_eq!(files(folder.path()), 4);
    }
}
