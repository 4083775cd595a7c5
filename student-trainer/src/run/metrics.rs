//! `metrics.jsonl`: a run's events, one JSON object a line.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::Mutex,
};

use tracing::warn;

use crate::events::{EventSink, RunEvent};

/// A sink that appends each event to a new file at `path` and passes it on to `next`.
///
/// # Errors
/// When the file cannot be made.
pub(super) fn log_to(path: &Path, next: &EventSink) -> io::Result<EventSink> {
    let with_path = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot write {}: {error}", path.display()),
        )
    };
    let log = Mutex::new(File::create(path).map_err(with_path)?);
    let (path, next) = (path.to_owned(), next.clone());
    Ok(EventSink::new(move |event| {
        if let Err(error) = append(&log, &event) {
            // The weights matter more than this log.
            warn!(file = %path.display(), %error, "cannot log an event");
        }
        next.send(event);
    }))
}

/// One write a line, so that a reader never sees a part of one.
fn append(log: &Mutex<File>, event: &RunEvent) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut log = log.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    log.write_all(&line)
}
