//! The demo's output folder. A demo replaces only folders that another demo created.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
};

use common::{atomic_file, file_lock::FileLock};
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::{CliError, text_path::text_path};

/// Marks a folder as created by the demo; a running demo locks this file.
const MARKER: &str = ".retort-demo";
const MARKER_TEXT: &str = "Made by `retort demo`, which replaces everything in this folder.\n";
const KEPT_SERVICES: &str = "services.json";

/// The folder of a running demo.
#[derive(Debug)]
pub(super) struct DemoFolder {
    path: PathBuf,
    /// Whether files of a previous demo were removed.
    pub replaced: bool,
    _lock: FileLock,
}

/// A service that a demo left running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptService {
    /// trainer, teacher-1, …
    pub name: String,
    /// Process id.
    pub pid: u32,
    /// Address by kind of port.
    pub addresses: std::collections::BTreeMap<String, std::net::SocketAddr>,
}

impl DemoFolder {
    /// Creates the folder, or empties the folder of a previous demo.
    ///
    /// # Errors
    /// If the path is not UTF-8, if the folder holds other files, if another demo is running in it, or if
    /// services that a previous demo left running still use it.
    pub(super) fn prepare(path: &Path) -> Result<Self, CliError> {
        fs::create_dir_all(path).map_err(CliError::file(path))?;
        // The services have the same working directory, but messages should show absolute paths.
        let path = path.canonicalize().map_err(CliError::file(path))?;
        text_path(&path)?;
        let marker = path.join(MARKER);
        let entries = entries(&path)?;
        let made_by_demo = marker.is_file();
        if !made_by_demo && !entries.is_empty() {
            return Err(CliError::Usage(format!(
                "{} is not empty and was not made by `retort demo`; choose another folder with \
                 --output, or remove this one",
                path.display()
            )));
        }
        let lock = lock(&marker)?;
        refuse_if_in_use(&path)?;
        for entry in entries.iter().filter(|entry| **entry != marker) {
            remove(entry).map_err(CliError::file(entry))?;
        }
        let logs = path.join("logs");
        fs::create_dir(&logs).map_err(CliError::file(&logs))?;
        Ok(Self {
            path,
            replaced: made_by_demo,
            _lock: lock,
        })
    }

    /// Absolute.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.join("logs")
    }

    /// Records the services that stay running, so that the next demo does not remove their files.
    pub(super) fn keep(&self, services: &[KeptService]) -> Result<PathBuf, CliError> {
        let file = self.join(KEPT_SERVICES);
        // Cannot fail: services consist of strings, numbers and addresses.
        let json = serde_json::to_vec_pretty(services).expect("services serialize");
        atomic_file::write(&file, &json).map_err(CliError::file(&file))?;
        Ok(file)
    }
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    let entries = fs::read_dir(path).map_err(CliError::file(path))?;
    entries
        .map(|entry| Ok(entry.map_err(CliError::file(path))?.path()))
        .collect()
}

fn lock(marker: &Path) -> Result<FileLock, CliError> {
    let file = File::options().create(true).append(true).open(marker);
    let file = match FileLock::try_take(file.map_err(CliError::file(marker))?) {
        Ok(lock) => lock,
        Err(TryLockError::WouldBlock) => {
            let folder = marker.parent().unwrap_or(marker).display();
            return Err(CliError::Usage(format!(
                "another `retort demo` works in {folder}; wait for it, or choose another folder \
                 with --output"
            )));
        }
        Err(TryLockError::Error(error)) => return Err(CliError::file(marker)(error)),
    };
    let is_new = file.metadata().map_err(CliError::file(marker))?.len() == 0;
    if is_new {
        (&*file)
            .write_all(MARKER_TEXT.as_bytes())
            .map_err(CliError::file(marker))?;
    }
    Ok(file)
}

fn refuse_if_in_use(path: &Path) -> Result<(), CliError> {
    let Ok(json) = fs::read(path.join(KEPT_SERVICES)) else {
        return Ok(());
    };
    // A file that cannot be parsed was not written by this version of the demo; ignore it.
    let services: Vec<KeptService> = serde_json::from_slice(&json).unwrap_or_default();
    let running: Vec<&KeptService> = services.iter().filter(|service| service.runs()).collect();
    if running.is_empty() {
        return Ok(());
    }
    let pids: Vec<String> = running
        .iter()
        .map(|service| service.pid.to_string())
        .collect();
    Err(CliError::Usage(format!(
        "services of an earlier demo still use {}; stop them with `kill {}`, or choose \
         another folder with --output",
        path.display(),
        pids.join(" ")
    )))
}

impl KeptService {
    /// Whether the service's process is running. A reused process id of another program does not count.
    fn runs(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let alive = pid.is_some_and(|pid| test_kill_process(pid).is_ok());
        let command = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        alive && command.contains("--ready-file") && command.contains(&self.name)
    }
}

/// Removes a file, a folder or a link (not its target).
fn remove(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_previous_demo_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("runs/demo");
        let first = DemoFolder::prepare(&path).unwrap();
        assert!(!first.replaced);
        fs::write(first.join("summary.json"), "{}").unwrap();
        fs::create_dir_all(first.join("student/artifact")).unwrap();
        drop(first);
        let second = DemoFolder::prepare(&path).unwrap();
        assert!(second.replaced);
        let left: Vec<PathBuf> = entries(second.path()).unwrap();
        assert_eq!(left.len(), 2, "{left:?}"); // The marker and the new logs.
    }

    #[test]
    fn other_folders_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "x").unwrap();
        let error = DemoFolder::prepare(folder.path()).unwrap_err();
        assert_eq!(error.exit_code(), 64);
        assert!(
            error.to_string().contains("not made by `retort demo`"),
            "{error}"
        );
        assert_eq!(entries(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn links_are_removed_without_their_targets() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let demo = DemoFolder::prepare(folder.path()).unwrap();
        std::os::unix::fs::symlink(outside.path(), demo.join("link")).unwrap();
        drop(demo);
        DemoFolder::prepare(folder.path()).unwrap();
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn two_demos_do_not_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _first = DemoFolder::prepare(folder.path()).unwrap();
        let error = DemoFolder::prepare(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another `retort demo`"), "{error}");
    }

    #[test]
    fn reused_process_ids_do_not_block_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let demo = DemoFolder::prepare(folder.path()).unwrap();
        let kept = KeptService {
            name: "trainer".to_owned(),
            pid: std::process::id(),
            addresses: BTreeMap::new(),
        };
        demo.keep(&[kept]).unwrap();
        drop(demo);
        DemoFolder::prepare(folder.path()).unwrap();
    }
}
