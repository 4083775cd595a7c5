//! Keeps the bucket's copy of a run up to date while the run works in its scratch folder.

use std::{
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use object_storage::Bucket;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    attachment::{Attachment, BucketOutput, connect},
    error::BucketRunError,
    lease::Lease,
    persistence::{pauses, report},
    scratch::Scratch,
    snapshot::Snapshot,
    uploads::Uploads,
};
use crate::events::NoticeSender;

/// How often the end of a run looks whether it should stop waiting.
const LOOK: Duration = Duration::from_millis(100);

/// A run in a bucket, of which this process has the lease.
///
/// Two threads use the bucket: one uploads states of the run, the other renews the lease, also during a long upload. Both try
/// again after a failure, and the run goes on meanwhile.
#[derive(Debug)]
pub struct BucketRun {
    url: String,
    scratch: Scratch,
    patience: Duration,
    lease: Arc<Lease>,
    copying: Arc<Copying>,
    threads: Vec<JoinHandle<()>>,
}

/// What the run and the threads that copy it have in common.
#[derive(Debug)]
struct Copying {
    state: Mutex<State>,
    changed: Condvar,
    /// Cancelled when the lease is lost.
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    /// The newest state of the run that the bucket lacks.
    waiting: Option<Snapshot>,
    is_uploading: bool,
    is_closing: bool,
    /// Since when, and why, uploads have failed.
    failing: Option<(Instant, String)>,
    lost: Option<BucketRunError>,
}

impl BucketRun {
    /// Takes the lease of the run at `output`, and downloads the run if another machine wrote its newest state. Cancels
    /// `stop` if the lease is lost later. `may_continue` says whether a run continues whose manifest is in a folder.
    ///
    /// # Errors
    /// See [`BucketRunError`].
    pub fn attach(
        output: &BucketOutput,
        may_continue: impl Fn(&Path) -> bool,
        stop: &CancellationToken,
        notices: &NoticeSender,
    ) -> Result<Self, BucketRunError> {
        let bucket = connect(&output.location)?;
        Self::over(bucket, output, may_continue, stop, notices)
    }

    /// [`Self::attach`] with the objects of `bucket`.
    pub(crate) fn over(
        bucket: Bucket,
        output: &BucketOutput,
        may_continue: impl Fn(&Path) -> bool,
        stop: &CancellationToken,
        notices: &NoticeSender,
    ) -> Result<Self, BucketRunError> {
        let Attachment {
            url,
            scratch,
            lease,
            uploads,
        } = output.attach(bucket, may_continue, stop, notices)?;
        let mut run = Self {
            url,
            scratch,
            patience: output.patience,
            lease: Arc::clone(&lease),
            copying: Arc::new(Copying {
                state: Mutex::default(),
                changed: Condvar::new(),
                stop: stop.clone(),
            }),
            threads: Vec::new(),
        };
        let copying = Arc::clone(&run.copying);
        run.spawn("run-upload", move || copying.upload(uploads))?;
        let copying = Arc::clone(&run.copying);
        run.spawn("run-lease", move || copying.renew(&lease))?;
        Ok(run)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_owned());
        self.threads.push(thread.spawn(work)?);
        Ok(())
    }

    /// The run's folder on this machine.
    pub fn folder(&self) -> &Path {
        self.scratch.run()
    }

    /// Copies the present state of the run to the bucket, without waiting. It replaces a state that waits to be uploaded.
    ///
    /// Nothing may replace or remove files of the run meanwhile.
    pub fn save(&self) {
        if let Err(error) = self.enqueue() {
            // The next state is complete again, and the end of the run reports what fails then.
            warn!(%error, "cannot copy the run to its bucket");
        }
    }

    /// [`Self::save`], whose errors the caller handles.
    ///
    /// # Errors
    /// If a file of the run cannot be opened.
    pub fn enqueue(&self) -> io::Result<()> {
        let snapshot = Snapshot::of(self.folder())?;
        self.copying.lock().waiting = Some(snapshot);
        self.copying.changed.notify_all();
        Ok(())
    }

    /// Waits for at most `patience` until the bucket has every state that was to be copied.
    ///
    /// # Errors
    /// [`BucketRunError::Unconfirmed`] if it does not, also if the lease is lost or the run ends.
    pub fn wait_until_saved(&self, patience: Duration) -> Result<(), BucketRunError> {
        let began = Instant::now();
        let mut state = self.copying.lock();
        loop {
            let is_open = state.lost.is_none() && !state.is_closing;
            if is_open && state.is_saved() {
                return Ok(());
            }
            if !is_open || began.elapsed() >= patience {
                let lost = state.lost.as_ref().map(ToString::to_string);
                let failing = state.failing.as_ref().map(|(_, problem)| problem.clone());
                return Err(BucketRunError::Unconfirmed {
                    url: self.url.clone(),
                    problem: lost
                        .or(failing)
                        .unwrap_or_else(|| format!("no answer within {patience:?}")),
                });
            }
            let waited = self.copying.changed.wait_timeout(state, LOOK);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until the bucket has the last state of the run, then ends the lease. Cancelling `stop` meanwhile ends the wait.
    ///
    /// # Errors
    /// [`BucketRunError::LostLease`]; [`BucketRunError::Unsaved`] if the bucket has not answered for longer than the
    /// patience. I/O errors.
    pub fn finish(&mut self, stop: &CancellationToken) -> Result<(), BucketRunError> {
        self.enqueue()?;
        self.wait(stop)?;
        self.copying.close();
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        if let Err(error) = self.lease.release() {
            let seconds = self.lease.duration().as_secs();
            warn!(%error, "cannot end the lease of the run; it ends by itself in {seconds} s");
        }
        Ok(())
    }

    /// Removes the run from this machine.
    pub fn remove_scratch(self) {
        if let Err(error) = self.scratch.remove() {
            warn!(%error, folder = %self.folder().display(), "cannot remove the scratch folder");
        }
    }

    fn wait(&self, stop: &CancellationToken) -> Result<(), BucketRunError> {
        let began = Instant::now();
        let was_stopping = stop.is_cancelled();
        let mut state = self.copying.lock();
        loop {
            if let Some(lost) = state.lost.take() {
                return Err(lost);
            }
            // A thread that has ended without losing the lease has panicked, which `finish` continues.
            if state.is_saved() || self.threads.iter().any(JoinHandle::is_finished) {
                return Ok(());
            }
            let failing = state.failing.as_ref();
            let lasts = |since: Instant| since.max(began).elapsed() >= self.patience;
            let gives_up = failing.is_some_and(|(since, _)| lasts(*since));
            if gives_up || (stop.is_cancelled() && !was_stopping) {
                let problem = failing.map(|(_, problem)| problem.clone());
                return Err(BucketRunError::Unsaved {
                    url: self.url.clone(),
                    folder: self.folder().to_owned(),
                    problem: problem.unwrap_or_else(|| "the upload was interrupted".to_owned()),
                });
            }
            let waited = self.copying.changed.wait_timeout(state, LOOK);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for BucketRun {
    /// Ends the threads. They are not waited for: a request may still wait for its answer.
    fn drop(&mut self) {
        self.copying.close();
    }
}

impl State {
    /// Whether the bucket has every state of the run that it should have.
    fn is_saved(&self) -> bool {
        self.waiting.is_none() && !self.is_uploading
    }
}

impl Copying {
    /// Uploads each waiting state until the run ends or the lease is lost.
    fn upload(&self, mut uploads: Uploads) {
        let mut pauses = pauses();
        while let Some(snapshot) = self.next_state() {
            match uploads.save(&snapshot, || self.advanced()) {
                Ok(()) => {
                    pauses.reset();
                    self.uploaded();
                }
                Err(lost @ BucketRunError::LostLease { .. }) => {
                    self.lose(lost);
                    return;
                }
                Err(error) => {
                    report(&error);
                    self.put_back(snapshot, &error);
                    self.pause(pauses.next_pause());
                }
            }
        }
    }

    /// Renews the lease until the run ends or the lease is lost.
    fn renew(&self, lease: &Lease) {
        let interval = lease.duration() / 4;
        let mut pauses = pauses();
        let mut pause = interval;
        while self.pause(pause) {
            match lease.renew() {
                Ok(()) => {
                    pauses.reset();
                    pause = interval;
                }
                Err(lost @ BucketRunError::LostLease { .. }) => {
                    self.lose(lost);
                    return;
                }
                Err(error) => {
                    report(&error);
                    pause = pauses.next_pause().min(interval);
                }
            }
        }
    }

    /// Waits for the next state; `None` if the run ends.
    fn next_state(&self) -> Option<Snapshot> {
        let waits = |state: &mut State| state.waiting.is_none() && !state.is_closing;
        let state = self.changed.wait_while(self.lock(), waits);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.take().filter(|_| !state.is_closing);
        state.is_uploading = next.is_some();
        next
    }

    /// The bucket has taken a file.
    fn advanced(&self) {
        self.lock().failing = None;
    }

    /// The bucket has the state of the run.
    fn uploaded(&self) {
        let mut state = self.lock();
        state.failing = None;
        state.is_uploading = false;
        self.changed.notify_all();
    }

    /// The upload of `snapshot` failed: it waits again if there is no newer one.
    fn put_back(&self, snapshot: Snapshot, error: &BucketRunError) {
        let mut state = self.lock();
        state.waiting.get_or_insert(snapshot);
        state.is_uploading = false;
        let since = state.failing.take().map(|(since, _)| since);
        state.failing = Some((since.unwrap_or_else(Instant::now), error.to_string()));
    }

    fn lose(&self, lost: BucketRunError) {
        self.lock().lost.get_or_insert(lost);
        self.changed.notify_all();
        self.stop.cancel();
    }

    fn close(&self) {
        self.lock().is_closing = true;
        self.changed.notify_all();
    }

    /// Waits for so long; returns whether the run still goes on.
    fn pause(&self, pause: Duration) -> bool {
        let is_open = |state: &mut State| !state.is_closing;
        let waited = self.changed.wait_timeout_while(self.lock(), pause, is_open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.is_closing
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change leaves a valid state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
