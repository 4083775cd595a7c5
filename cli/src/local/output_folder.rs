//! The output folder of a command. A command replaces only folders that it created.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
};

use common::{atomic_file, file_lock::FileLock};
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::{CliError, text_path::text_path};

/// A command that owns its output folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// `retort demo`
    Demo,
    /// `retort distill`
    Distill,
}

impl Owner {
    /// Marks a folder as created by the command; the running command locks this file.
    const fn marker(self) -> &'static str {
        match self {
            Self::Demo => ".retort-demo",
            Self::Distill => ".retort-distill",
        }
    }

    /// The command as users type it.
    pub(crate) const fn command(self) -> &'static str {
        match self {
            Self::Demo => "retort demo",
            Self::Distill => "retort distill",
        }
    }
}

const KEPT_SERVICES: &str = "services.json";

/// The folder of a running command.
#[derive(Debug)]
pub(crate) struct OutputFolder {
    path: PathBuf,
    /// Whether files of a previous run of the command were removed.
    pub replaced: bool,
    _lock: FileLock,
}

/// A service that a command left running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptService {
    /// trainer, teacher-1, …
    pub name: String,
    /// Process id.
    pub pid: u32,
    /// Address by kind of port.
    pub addresses: std::collections::BTreeMap<String, std::net::SocketAddr>,
}

impl OutputFolder {
    /// Creates the folder, or empties the folder of a previous run of `owner`.
    ///
    /// # Errors
    /// If the path is not UTF-8, if the folder holds other files, if the command is running in it already, or if
    /// services that it left running still use it.
    pub(crate) fn prepare(path: &Path, owner: Owner) -> Result<Self, CliError> {
        fs::create_dir_all(path).map_err(CliError::file(path))?;
        // The services have the same working directory, but messages should show absolute paths.
        let path = path.canonicalize().map_err(CliError::file(path))?;
        text_path(&path)?;
        let marker = path.join(owner.marker());
        let entries = entries(&path)?;
        let is_owned = marker.is_file();
        if !is_owned && !entries.is_empty() {
            return Err(CliError::Usage(format!(
                "{} is not empty and was not made by `{}`; choose another folder, or remove this one",
                path.display(),
                owner.command()
            )));
        }
        let lock = lock(&marker, owner)?;
        refuse_if_in_use(&path)?;
        for entry in entries.iter().filter(|entry| **entry != marker) {
            remove(entry).map_err(CliError::file(entry))?;
        }
        let logs = path.join("logs");
        fs::create_dir(&logs).map_err(CliError::file(&logs))?;
        Ok(Self {
            path,
            replaced: is_owned,
            _lock: lock,
        })
    }

    /// Absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.join("logs")
    }

    /// Records the services that stay running, so that the next run of the command does not remove their files.
    pub(crate) fn keep(&self, services: &[KeptService]) -> Result<PathBuf, CliError> {
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

fn lock(marker: &Path, owner: Owner) -> Result<FileLock, CliError> {
    let file = File::options().create(true).append(true).open(marker);
    let file = match FileLock::try_take(file.map_err(CliError::file(marker))?) {
        Ok(lock) => lock,
        Err(TryLockError::WouldBlock) => {
            let folder = marker.parent().unwrap_or(marker).display();
            return Err(CliError::Usage(format!(
                "another `{}` works in {folder}; wait for it, or choose another folder",
                owner.command()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(CliError::file(marker)(error)),
    };
    let is_new = file.metadata().map_err(CliError::file(marker))?.len() == 0;
    if is_new {
        let command = owner.command();
        let text = format!("Made by `{command}`, which replaces everything in this folder.\n");
        (&*file)
            .write_all(text.as_bytes())
            .map_err(CliError::file(marker))?;
    }
    Ok(file)
}

fn refuse_if_in_use(path: &Path) -> Result<(), CliError> {
    let Ok(json) = fs::read(path.join(KEPT_SERVICES)) else {
        return Ok(());
    };
    // A file that cannot be parsed was not written by this version; ignore it.
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
        "services that were left running still use {}; stop them with `kill {}`, or choose \
         another folder",
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
        let first = OutputFolder::prepare(&path, Owner::Demo).unwrap();
        assert!(!first.replaced);
        fs::write(first.join("summary.json"), "{}").unwrap();
        fs::create_dir_all(first.join("student/artifact")).unwrap();
        drop(first);
        let second = OutputFolder::prepare(&path, Owner::Demo).unwrap();
        assert!(second.replaced);
        let left: Vec<PathBuf> = entries(second.path()).unwrap();
        assert_eq!(left.len(), 2, "{left:?}"); // The marker and the new logs.
    }

    #[test]
    fn other_folders_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "x").unwrap();
        let error = OutputFolder::prepare(folder.path(), Owner::Demo).unwrap_err();
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
        let demo = OutputFolder::prepare(folder.path(), Owner::Demo).unwrap();
        std::os::unix::fs::symlink(outside.path(), demo.join("link")).unwrap();
        drop(demo);
        OutputFolder::prepare(folder.path(), Owner::Demo).unwrap();
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn two_demos_do_not_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _first = OutputFolder::prepare(folder.path(), Owner::Demo).unwrap();
        let error = OutputFolder::prepare(folder.path(), Owner::Demo)
            .unwrap_err()
            .to_string();
        assert!(error.contains("another `retort demo`"), "{error}");
    }

    #[test]
    fn reused_process_ids_do_not_block_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let demo = OutputFolder::prepare(folder.path(), Owner::Demo).unwrap();
        let kept = KeptService {
            name: "trainer".to_owned(),
            pid: std::process::id(),
            addresses: BTreeMap::new(),
        };
        demo.keep(&[kept]).unwrap();
        drop(demo);
        OutputFolder::prepare(folder.path(), Owner::Demo).unwrap();
    }
}
