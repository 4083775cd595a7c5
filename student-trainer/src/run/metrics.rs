//! `metrics.jsonl`: a run's events, one JSON object per line.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::warn;

use crate::events::{EventSink, RunEvent};

/// The log of a run's events.
#[derive(Debug)]
pub(super) struct MetricsLog {
    path: PathBuf,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    file: File,
    /// Bytes of complete lines.
    length: u64,
    /// Why a line could not be written.
    failure: Option<io::Error>,
}

impl MetricsLog {
    /// Creates a new file at `path`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path).map_err(with_path(path))?;
        Ok(Self::new(path, file, 0))
    }

    /// Truncates the file at `path` to `length` bytes, because the resumed run repeats later steps. Returns
    /// the remaining events.
    ///
    /// # Errors
    /// If it cannot be read or truncated.
    pub(super) fn resume(path: &Path, length: u64) -> io::Result<(Self, Vec<RunEvent>)> {
        let resume = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = options.open(path)?;
            let mut text = Vec::new();
            Read::by_ref(&mut file)
                .take(length)
                .read_to_end(&mut text)?;
            // A file that is shorter than expected may end within a line.
            let whole = text.iter().rposition(|byte| *byte == b'\n');
            text.truncate(whole.map_or(0, |last| last + 1));
            let length = text.len() as u64;
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
            Ok((Self::new(path, file, length), events(&text)))
        };
        resume().map_err(with_path(path))
    }

    fn new(path: &Path, file: File, length: u64) -> Self {
        let failure = None;
        Self {
            path: path.to_owned(),
            log: Mutex::new(Log {
                file,
                length,
                failure,
            }),
        }
    }

    /// A sink that appends each event and passes it on to `next`.
    pub(super) fn sink(self: &Arc<Self>, next: &EventSink) -> EventSink {
        let (log, next) = (Arc::clone(self), next.clone());
        EventSink::new(move |event| {
            log.append(&event);
            next.send(event);
        })
    }

    /// Syncs the file; returns its length in bytes.
    ///
    /// # Errors
    /// If that fails, or if a line could not be written before.
    pub(super) fn sync(&self) -> io::Result<u64> {
        let mut log = self.lock();
        let synced = match log.failure.take() {
            Some(failure) => Err(failure),
            None => log.file.sync_data(),
        };
        synced.map_err(with_path(&self.path))?;
        Ok(log.length)
    }

    fn append(&self, event: &RunEvent) {
        let mut log = self.lock();
        if let Err(error) = log.append(event) {
            // The run fails at its next checkpoint, because a sink cannot report errors.
            warn!(file = %self.path.display(), %error, "cannot log an event");
            log.failure.get_or_insert(error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Writes each line at once, so that a reader sees a partial line only if the process is killed.
    fn append(&mut self, event: &RunEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            // A full disk may have stored a part of the line.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(())
    }
}

/// The events in the log at `path`; none if it does not exist.
///
/// # Errors
/// If it cannot be read.
pub(super) fn read(path: &Path) -> io::Result<Vec<RunEvent>> {
    match std::fs::read(path) {
        Ok(text) => Ok(events(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(with_path(path)(error)),
    }
}

/// Parses events; ignores invalid and truncated lines.
fn events(text: &[u8]) -> Vec<RunEvent> {
    let lines = text.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

fn with_path(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| {
        let text = format!("cannot read or write {}: {error}", path.display());
        io::Error::new(error.kind(), text)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn notice(text: &str) -> RunEvent {
        RunEvent::Notice { text: text.into() }
    }

    #[test]
    fn a_resumed_log_continues_after_the_events_of_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let log = MetricsLog::create(&path).unwrap();
        log.append(&notice("a"));
        let length = log.sync().unwrap();
        log.append(&notice("b"));
        let mut text = fs::read(&path).unwrap();
        text.extend(b"{\"event\": \"not");
        fs::write(&path, text).unwrap();

        let (log, events) = MetricsLog::resume(&path, length).unwrap();
        assert_eq!(events, [notice("a")]);
        log.append(&notice("c"));
        let (_, events) = MetricsLog::resume(&path, u64::MAX).unwrap();
        assert_eq!(events, [notice("a"), notice("c")]);
    }

    #[test]
    fn a_log_that_is_shorter_than_it_should_be_loses_its_cut_off_line_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let log = MetricsLog::create(&path).unwrap();
        for text in ["a", "b"] {
            log.append(&notice(text));
        }
        let length = log.sync().unwrap();
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 3]).unwrap();
        let (log, events) = MetricsLog::resume(&path, length).unwrap();
        assert_eq!(events, [notice("a")]);
        assert_eq!(log.sync().unwrap(), length / 2);
    }
}
