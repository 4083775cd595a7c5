//! Writes a stream on a separate thread.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use tracing::warn;

/// Maximum size of the text that waits for a slow reader; further text is dropped.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Pause between two attempts to write to a full non-blocking stream.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(5);

/// Accepts text for a stream and never fails: text that cannot be written is dropped, and its lines are
/// counted.
pub(super) struct BackgroundWriter(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Text that the thread has not yet taken.
    waiting: Vec<u8>,
    /// Bytes accepted since the start.
    taken: u64,
    /// The number of these bytes that were written or dropped.
    settled: u64,
    dropped_lines: u64,
    /// Whether the latest write failed.
    failed: bool,
    /// Whether a caller's wait timed out since the latest write.
    stuck: bool,
    /// The stream if no thread could be started; callers then write themselves.
    direct: Option<Box<dyn Write + Send>>,
}

impl BackgroundWriter {
    pub(super) fn stdout() -> Self {
        Self::start("stdout", || own_copy(io::stdout()))
    }

    pub(super) fn stderr() -> Self {
        Self::start("stderr", || own_copy(io::stderr()))
    }

    fn start(name: &str, open: impl Fn() -> Box<dyn Write + Send>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (of_thread, stream) = (Arc::clone(&shared), open());
        let thread = thread::Builder::new().name(name.to_owned());
        if thread.spawn(move || of_thread.write_out(stream)).is_err() {
            shared.lock().direct = Some(open());
        }
        Self(shared)
    }

    /// Accepts `text`, which the thread writes later.
    pub(super) fn push(&self, text: &[u8]) {
        let mut state = self.0.lock();
        if let Some(stream) = &mut state.direct {
            let (written, result) = write_all(stream, text);
            state.failed = result.is_err();
            state.dropped_lines += lines(&text[written..]);
        } else if state.waiting.len() + text.len() > MAX_WAITING_BYTES {
            state.dropped_lines += lines(text);
        } else {
            state.waiting.extend_from_slice(text);
            state.taken += text.len() as u64;
            self.0.changed.notify_all();
        }
    }

    /// Accepts `text` and waits until it is written or dropped, for at most `patience`, and not at all while
    /// the stream is stuck.
    pub(super) fn write(&self, text: &[u8], patience: Duration) {
        self.push(text);
        if !self.0.lock().stuck {
            self.flush(patience);
        }
    }

    /// Waits until all accepted text is written or dropped, for at most `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let state = self.0.lock();
        let taken = state.taken;
        let waited = self
            .0
            .changed
            .wait_timeout_while(state, patience, |state| state.settled < taken);
        let (mut state, timeout) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        state.stuck |= timeout.timed_out();
    }

    pub(super) fn has_failed(&self) -> bool {
        self.0.lock().failed
    }

    pub(super) fn dropped(&self) -> u64 {
        self.0.lock().dropped_lines
    }
}

impl Shared {
    fn write_out(&self, mut stream: impl Write) {
        let mut text = Vec::new();
        let mut line_is_torn = false;
        let mut reported = 0;
        loop {
            text.clear();
            self.take(&mut text);
            if line_is_torn {
                // If this write fails, the next one fails too and is handled there.
                let _ = stream.write_all(b"\n");
            }
            let (written, result) = write_all(&mut stream, &text);
            let failed = result.is_err();
            line_is_torn = failed && text[..written].last().is_some_and(|last| *last != b'\n');
            let mut state = self.lock();
            state.settled += text.len() as u64;
            state.dropped_lines += lines(&text[written..]);
            state.failed = failed;
            state.stuck = false;
            let dropped = state.dropped_lines;
            drop(state);
            self.changed.notify_all();
            if !failed && dropped > reported {
                reported = dropped;
                warn!(
                    dropped_lines = dropped,
                    "lines of this log could not be written; the number counts from the start"
                );
            }
        }
    }

    /// Waits for text and moves all of it to `text`, which must be empty.
    fn take(&self, text: &mut Vec<u8>) {
        let state = self.lock();
        let waited = self
            .changed
            .wait_while(state, |state| state.waiting.is_empty());
        let mut state = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::swap(&mut state.waiting, text);
    }

    /// Ignores poisoning: a thread that panics leaves a consistent state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Opens the stream with a descriptor of its own, so that a blocked write does not hold the standard
/// library's lock, which a panic needs for its message.
fn own_copy(stream: impl AsFd + Write + Send + 'static) -> Box<dyn Write + Send> {
    match stream.as_fd().try_clone_to_owned() {
        Ok(copy) => Box::new(File::from(copy)),
        Err(_) => Box::new(stream),
    }
}

/// Writes `text`, also to a non-blocking stream. Returns the number of bytes written, and the error if not
/// all were.
pub(super) fn write_all(stream: &mut impl Write, text: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < text.len() {
        match retry(|| stream.write(&text[written..])) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(bytes) => written += bytes,
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Repeats an attempt after a signal, and while a non-blocking stream is full. Another program that
/// shares the stream may have made it non-blocking.
pub(super) fn retry<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(NO_ROOM_PAUSE),
            other => return other,
        }
    }
}

fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests;
