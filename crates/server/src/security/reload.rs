//! Values that are read from files, and read again when the files change.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::time::{self, Instant};
use tracing::{error, info};

use super::Staleness;
use crate::back_off::BackOff;
use common::digest::Sha256;

/// How often the files are checked for changes. The files are small, so the check compares their content, not
/// their modification time: it detects a file that becomes readable, a file that is replaced through a link,
/// as Kubernetes does with secrets, and two writes within one step of the clock.
const INTERVAL: Duration = Duration::from_secs(2);

/// Upper bound of the pauses between attempts to use files that have not changed meanwhile.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The newest usable value of some files. A cheap handle.
pub(crate) struct Reloaded<T>(Arc<ArcSwap<T>>);

/// The digests of the files' contents; `None` for a file that cannot be read.
type Contents = Vec<Option<Sha256>>;

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads the value with `load`, and again whenever the content of one of `files` changes, while a handle
    /// exists. If the new content cannot be used, the old value stays, the log and `staleness` name the
    /// files, and `load` is retried until it succeeds.
    ///
    /// Must be called within a tokio runtime. `what` names the value in the log.
    ///
    /// # Errors
    /// The errors of `load`.
    pub fn load<E: fmt::Display + 'static>(
        what: &'static str,
        files: Vec<PathBuf>,
        staleness: &Staleness,
        load: impl Fn() -> Result<T, E> + Send + 'static,
    ) -> Result<Self, E> {
        // Before `load`, so that no change is missed.
        let used = contents(&files);
        let value = Arc::new(ArcSwap::from_pointee(load()?));
        for file in &files {
            staleness.set(file, false);
        }
        let follower = Follower {
            what,
            files,
            used,
            failed: None,
            staleness: staleness.clone(),
            load,
        };
        tokio::spawn(follower.follow(Arc::downgrade(&value)));
        Ok(Self(value))
    }

    /// The newest value.
    pub fn get(&self) -> Arc<T> {
        self.0.load_full()
    }
}

/// Updates a value when its files change.
struct Follower<F> {
    what: &'static str,
    files: Vec<PathBuf>,
    /// The contents from which the current value was read.
    used: Contents,
    failed: Option<Failed>,
    staleness: Staleness,
    load: F,
}

/// A failed attempt to use changed files.
struct Failed {
    contents: Contents,
    reason: String,
    back_off: BackOff,
    retry_at: Instant,
}

impl<F> Follower<F> {
    async fn follow<T, E: fmt::Display>(mut self, value: Weak<ArcSwap<T>>)
    where
        F: Fn() -> Result<T, E>,
    {
        loop {
            time::sleep(INTERVAL).await;
            let Some(value) = value.upgrade() else {
                return;
            };
            self.check(&value);
        }
    }

    fn check<T, E: fmt::Display>(&mut self, value: &ArcSwap<T>)
    where
        F: Fn() -> Result<T, E>,
    {
        let found = contents(&self.files);
        if found == self.used {
            if self.failed.take().is_some() {
                info!(what = self.what, "the files have the content in use again");
                self.record_staleness(&found);
            }
            return;
        }
        let failed = self.failed.as_ref();
        if failed.is_some_and(|failed| failed.contents == found && Instant::now() < failed.retry_at)
        {
            return;
        }
        match (self.load)() {
            Ok(read) => {
                value.store(Arc::new(read));
                self.used = found.clone();
                self.failed = None;
                info!(what = self.what, "reloaded after a change");
            }
            Err(error) => self.fail(found.clone(), error.to_string()),
        }
        self.record_staleness(&found);
    }

    fn fail(&mut self, contents: Contents, reason: String) {
        let previous = self.failed.take();
        if previous
            .as_ref()
            .is_none_or(|failed| failed.reason != reason)
        {
            error!(
                what = self.what,
                reason, "changed, but cannot be used; keeping the old value and retrying"
            );
        }
        let same = previous.filter(|failed| failed.contents == contents);
        let mut back_off = same.map_or_else(
            || BackOff::new(INTERVAL, LONGEST_PAUSE),
            |failed| failed.back_off,
        );
        let retry_at = Instant::now() + back_off.next_pause();
        self.failed = Some(Failed {
            contents,
            reason,
            back_off,
            retry_at,
        });
    }

    fn record_staleness(&self, found: &Contents) {
        let states = found.iter().zip(&self.used);
        for (file, (found, used)) in self.files.iter().zip(states) {
            self.staleness.set(file, found != used);
        }
    }
}

fn contents(files: &[PathBuf]) -> Contents {
    let content = |file| Some(Sha256::of(&std::fs::read(file).ok()?));
    files.iter().map(content).collect()
}

impl<T> Clone for Reloaded<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the value, which may be secret.
        f.write_str("Reloaded(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::*;
    use common::atomic_file;

    fn load(file: &Path, staleness: &Staleness) -> Result<Reloaded<u32>, String> {
        let read = {
            let file = file.to_owned();
            move || {
                let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
                text.parse::<u32>().map_err(|error| error.to_string())
            }
        };
        Reloaded::load("number", vec![file.to_owned()], staleness, read)
    }

    fn is_stale(staleness: &Staleness) -> bool {
        staleness.render().trim_end().ends_with(" 1")
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_usable_value_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        atomic_file::write(&file, b"1").unwrap();
        let staleness = Staleness::default();
        let number = load(&file, &staleness).unwrap();
        assert_eq!(*number.get(), 1);
        for (text, expected) in [("two", 1), ("3", 3), ("four", 3), ("3", 3), ("5", 5)] {
            atomic_file::write(&file, text.as_bytes()).unwrap();
            time::sleep(INTERVAL * 2).await;
            assert_eq!(*number.get(), expected, "{text}");
            assert_eq!(is_stale(&staleness), text != expected.to_string(), "{text}");
        }
        fs::remove_file(&file).unwrap();
        time::sleep(INTERVAL * 2).await;
        assert_eq!(*number.get(), 5);
        assert!(is_stale(&staleness));
    }

    /// After `chmod`, for example, neither the modification time nor the content of the file has changed.
    #[tokio::test(start_paused = true)]
    async fn a_failed_load_is_retried_though_the_files_did_not_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        let switch = folder.path().join("switch");
        fs::write(&file, "1").unwrap();
        fs::write(&switch, "").unwrap();
        let read = {
            let (file, switch) = (file.clone(), switch.clone());
            move || {
                fs::metadata(&switch).map_err(|error| error.to_string())?;
                fs::read_to_string(&file).map_err(|error| error.to_string())
            }
        };
        let staleness = Staleness::default();
        let text = Reloaded::load("text", vec![file.clone()], &staleness, read).unwrap();
        fs::remove_file(&switch).unwrap();
        fs::write(&file, "2").unwrap();
        time::sleep(LONGEST_PAUSE * 10).await;
        assert_eq!(*text.get(), "1");
        assert!(is_stale(&staleness));
        fs::write(&switch, "").unwrap();
        time::sleep(LONGEST_PAUSE + INTERVAL).await;
        assert_eq!(*text.get(), "2");
        assert!(!is_stale(&staleness));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_without_a_new_modification_time_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        fs::write(&file, "1").unwrap();
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        let staleness = Staleness::default();
        let number = load(&file, &staleness).unwrap();
        // In place: same file, length and modification time.
        fs::write(&file, "2").unwrap();
        let handle = fs::File::options().write(true).open(&file).unwrap();
        handle.set_modified(written).unwrap();
        time::sleep(INTERVAL * 2).await;
        assert_eq!(*number.get(), 2);
    }

    /// Kubernetes replaces `..data`, a link to a folder, by another link.
    #[tokio::test(start_paused = true)]
    async fn a_link_to_another_folder_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("old", "1"), ("new", "2")] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("number"), text).unwrap();
        }
        let data = folder.path().join("..data");
        symlink("old", &data).unwrap();
        let file = folder.path().join("number");
        symlink("..data/number", &file).unwrap();
        let staleness = Staleness::default();
        let number = load(&file, &staleness).unwrap();
        let link = folder.path().join("link");
        symlink("new", &link).unwrap();
        fs::rename(&link, &data).unwrap();
        time::sleep(INTERVAL * 2).await;
        assert_eq!(*number.get(), 2);
    }
}
