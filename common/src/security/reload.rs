//! Values that are read from files, and read again when the files change.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::time;
use tracing::{error, info};

/// How soon a changed file is noticed. Asking costs a few microseconds, and works where files are
/// replaced through links, as Kubernetes does with secrets.
const INTERVAL: Duration = Duration::from_secs(2);

/// A value read from files; always the newest that could be read. A cheap handle.
pub(crate) struct Reloaded<T>(Arc<ArcSwap<T>>);

/// What changes when a file is written or replaced; `None` while it is not there.
type Stamp = Option<(SystemTime, u64, u64)>;

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads the value with `load`, and again whenever one of `files` has changed, as long as a
    /// handle lives. Files that cannot be used are named in the log and leave the value as it is.
    ///
    /// Must be called within a tokio runtime. `what` names the value in the log.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load<E: fmt::Display + 'static>(
        what: &'static str,
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, E> + Send + 'static,
    ) -> Result<Self, E> {
        // Before the files are read, so that no change is missed.
        let stamps = stamps(&files);
        let value = Arc::new(ArcSwap::from_pointee(load()?));
        tokio::spawn(follow(what, files, stamps, load, Arc::downgrade(&value)));
        Ok(Self(value))
    }

    /// The newest value.
    pub fn get(&self) -> Arc<T> {
        self.0.load_full()
    }
}

async fn follow<T, E: fmt::Display>(
    what: &'static str,
    files: Vec<PathBuf>,
    mut known: Vec<Stamp>,
    load: impl Fn() -> Result<T, E>,
    value: Weak<ArcSwap<T>>,
) {
    loop {
        time::sleep(INTERVAL).await;
        let Some(value) = value.upgrade() else {
            return;
        };
        let found = stamps(&files);
        if found == known {
            continue;
        }
        known = found;
        match load() {
            Ok(read) => {
                value.store(Arc::new(read));
                info!(what, "read again after a change");
            }
            Err(reason) => error!(what, %reason, "changed, but cannot be used; going on as before"),
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

impl<T> Clone for Reloaded<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the value: it may be a secret.
        f.write_str("Reloaded(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic_file;

    #[tokio::test(start_paused = true)]
    async fn the_newest_usable_value_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        atomic_file::write(&file, b"1").unwrap();
        let read = {
            let file = file.clone();
            move || {
                let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
                text.parse::<u32>().map_err(|error| error.to_string())
            }
        };
        let number = Reloaded::load("number", vec![file.clone()], read).unwrap();
        assert_eq!(*number.get(), 1);
        for (text, expected) in [("two", 1), ("3", 3)] {
            atomic_file::write(&file, text.as_bytes()).unwrap();
            time::sleep(INTERVAL * 2).await;
            assert_eq!(*number.get(), expected);
        }
        std::fs::remove_file(&file).unwrap();
        time::sleep(INTERVAL * 2).await;
        assert_eq!(*number.get(), 3);
    }
}
