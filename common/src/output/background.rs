//! A stream that a thread of its own writes.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use tracing::warn;

/// What waits for a slow reader at most; later text is dropped.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Between attempts on a stream that does not block and has no room at the moment.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(5);

/// Takes text for a stream and never fails: what cannot be written is dropped, and its lines are
/// counted.
pub(super) struct BackgroundWriter(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Not yet in the thread's hands.
    waiting: Vec<u8>,
    /// Bytes taken since the start.
    taken: u64,
    /// Bytes of those that are written or dropped.
    settled: u64,
    dropped_lines: u64,
    /// Whether the latest write failed.
    failed: bool,
    /// Whether a caller waited in vain since the latest write.
    stuck: bool,
    /// Where no thread could be started, the caller writes.
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

    /// Takes `text`, which is written later.
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

    /// The same, and waits until it is written or dropped: `patience` at most, and not at all while
    /// the stream is stuck.
    pub(super) fn write(&self, text: &[u8], patience: Duration) {
        self.push(text);
        if !self.0.lock().stuck {
            self.flush(patience);
        }
    }

    /// Waits until all text taken so far is written or dropped, `patience` at most.
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
                // Nothing else depends on it, and what follows would fail as well.
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
                    "lines of this log could not be written; their number is that since the start"
                );
            }
        }
    }

    /// Waits for text and moves all of it to `text`, which is empty.
    fn take(&self, text: &mut Vec<u8>) {
        let state = self.lock();
        let waited = self
            .changed
            .wait_while(state, |state| state.waiting.is_empty());
        let mut state = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::swap(&mut state.waiting, text);
    }

    /// A panic of another thread left whole values here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The stream by a descriptor of its own: the standard library's lock, which a panic needs for its
/// message, is not held while a write waits.
fn own_copy(stream: impl AsFd + Write + Send + 'static) -> Box<dyn Write + Send> {
    match stream.as_fd().try_clone_to_owned() {
        Ok(copy) => Box::new(File::from(copy)),
        Err(_) => Box::new(stream),
    }
}

/// Writes `text`, also where the stream does not block; how many bytes were written, and whether all.
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

/// Tries again after a signal, and while a stream that does not block has no room. Another program
/// that shares the stream may have made it so.
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
