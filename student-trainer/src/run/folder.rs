//! The folder that a run leaves.
//!
//! ```text
//! config.toml                the resolved configuration
//! metrics.jsonl              one JSON object an event
//! phases/<index>-<name>/     weights and spec at the end of each phase
//! artifact/                  weights and spec at the end; model.onnx and manifest.json if exported
//! manifest.json              what decided the bits; written last: the run is finished
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use common::atomic_file;

use super::RunError;
use crate::config::PhaseKind;

const CONFIG: &str = "config.toml";
const MANIFEST: &str = "manifest.json";
const METRICS: &str = "metrics.jsonl";
const PHASES: &str = "phases";
const ARTIFACT: &str = "artifact";

/// The folder of one run.
#[derive(Debug, Clone)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// Takes `path` for a new run, making it where it is missing. What an unfinished run left there
    /// is removed.
    ///
    /// # Errors
    /// [`RunError::AlreadyFinished`], [`RunError::ForeignFolder`], I/O errors.
    pub fn create(path: &Path, config_toml: &str) -> Result<Self, RunError> {
        let folder = Self(path.to_owned());
        if folder.manifest().exists() {
            let folder = path.to_owned();
            return Err(RunError::AlreadyFinished { folder });
        }
        let unfinished = folder.0.join(CONFIG).exists();
        if unfinished {
            for left in [PHASES, ARTIFACT] {
                remove_if_there(fs::remove_dir_all(path.join(left)))?;
            }
            remove_if_there(fs::remove_file(folder.metrics()))?;
        } else if path.exists() && fs::read_dir(path)?.next().is_some() {
            let folder = path.to_owned();
            return Err(RunError::ForeignFolder { folder });
        }
        atomic_file::write(&path.join(CONFIG), config_toml.as_bytes())?;
        Ok(folder)
    }

    /// Name of the run: that of its folder.
    pub fn name(&self) -> String {
        let name = self.0.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Path of the run's manifest.
    pub fn manifest(&self) -> PathBuf {
        self.0.join(MANIFEST)
    }

    /// Path of the log of events.
    pub fn metrics(&self) -> PathBuf {
        self.0.join(METRICS)
    }

    /// Folder of the final weights.
    pub fn artifact(&self) -> PathBuf {
        self.0.join(ARTIFACT)
    }

    /// Folder of the weights at the end of phase `index`, 0-based.
    pub fn phase(&self, index: usize, kind: PhaseKind) -> PathBuf {
        self.0.join(PHASES).join(format!("{index}-{kind}"))
    }
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

    #[test]
    fn a_finished_run_is_refused_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(folder.path(), "seed = 1").unwrap();
        fs::write(run.manifest(), "{}").unwrap();
        let error = RunFolder::create(folder.path(), "")
            .unwrap_err()
            .to_string();
        assert!(error.contains("finished run"), "{error}");
        assert!(error.contains("another output folder"), "{error}");
        let kept = fs::read_to_string(folder.path().join(CONFIG)).unwrap();
        assert_eq!(kept, "seed = 1");
    }

    #[test]
    fn an_unfinished_run_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(folder.path(), "seed = 1").unwrap();
        fs::create_dir_all(run.phase(0, PhaseKind::Distill)).unwrap();
        fs::write(run.metrics(), "old").unwrap();
        RunFolder::create(folder.path(), "seed = 2").unwrap();
        assert!(!run.phase(0, PhaseKind::Distill).exists());
        assert!(!run.metrics().exists());
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("thesis.tex");
        fs::write(&other, "x").unwrap();
        let error = RunFolder::create(folder.path(), "").unwrap_err();
        assert!(matches!(error, RunError::ForeignFolder { .. }));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
