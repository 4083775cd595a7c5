//! A recording as a run reads it.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use artifacts::manifest::TeacherIdentity;
use soft_targets::{ClassOrder, SoftTargets};
use soft_targets::{Replay, StoreError};

use crate::run::RunError;

/// Views of a recording, each usable once it is whole.
#[derive(Debug)]
pub struct RecordedTargets {
    replay: Replay,
    /// Where the recorded classes stand in another order than those of the data.
    order: Option<ClassOrder>,
    recorder: Mutex<RecorderState>,
    changed: Condvar,
}

/// Who adds to a recording while a run reads it.
#[derive(Debug)]
enum RecorderState {
    /// Nobody in this process.
    None,
    /// The run, which opens each view that is whole.
    AtWork,
    /// Nobody any more; why, for whoever waits first.
    Failed(Option<RunError>),
}

impl RecordedTargets {
    /// A recording as it is; `order` brings its classes into the order of the data.
    pub fn new(replay: Replay, order: Option<ClassOrder>) -> Self {
        Self::with(replay, order, RecorderState::None)
    }

    /// A recording that the run adds to: see [`Self::finish_view`] and [`Self::end`].
    pub fn growing(replay: Replay, order: Option<ClassOrder>) -> Self {
        Self::with(replay, order, RecorderState::AtWork)
    }

    fn with(replay: Replay, order: Option<ClassOrder>, recorder: RecorderState) -> Self {
        Self {
            replay,
            order,
            recorder: Mutex::new(recorder),
            changed: Condvar::new(),
        }
    }

    /// Opens these views, checking every byte of them. The others are opened where some cannot be used.
    ///
    /// # Errors
    /// [`StoreError::Faulty`] with all shards that cannot be used.
    pub fn open_all(&self, views: &BTreeSet<u32>) -> Result<(), StoreError> {
        self.replay.open_all(views.iter().copied())
    }

    /// Whether `view` is whole; every byte is checked, once.
    pub fn has(&self, view: u32) -> bool {
        self.replay.open(view).is_ok()
    }

    /// Whose logits they are.
    pub fn teacher(&self) -> &TeacherIdentity {
        &self.replay.recording().identity().teacher
    }

    /// What brings the recorded classes into the order of the data, where they stand in another one.
    pub fn order(&self) -> Option<&ClassOrder> {
        self.order.as_ref()
    }

    /// The soft targets of `samples` in `view`. Where the run adds to the recording, waits until the view
    /// is whole.
    ///
    /// # Errors
    /// [`StoreError::Faulty`]; what ended the recording, or [`RunError::Cancelled`].
    pub fn gather(&self, view: u32, samples: &[u32]) -> Result<SoftTargets, RunError> {
        self.wait_for(view)?;
        self.replay.open(view)?;
        let targets = self.replay.gather(view, samples);
        Ok(match &self.order {
            Some(order) => targets.reordered(order),
            None => targets,
        })
    }

    fn wait_for(&self, view: u32) -> Result<(), RunError> {
        let mut recorder = self.lock();
        while !self.replay.is_open(view) {
            match &mut *recorder {
                RecorderState::None => break,
                RecorderState::AtWork => {
                    recorder = self
                        .changed
                        .wait(recorder)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                RecorderState::Failed(error) => {
                    let cancelled = RunError::Cancelled { checkpoint: None };
                    return Err(error.take().unwrap_or(cancelled));
                }
            }
        }
        Ok(())
    }

    /// Opens `view`, the next one, which was recorded to its end.
    ///
    /// # Errors
    /// [`StoreError::Faulty`].
    pub(super) fn finish_view(&self, view: u32) -> Result<(), StoreError> {
        self.replay.open(view)?;
        // Whoever found the view closed under the lock waits by now, and hears it.
        drop(self.lock());
        self.changed.notify_all();
        Ok(())
    }

    /// No more views will come.
    pub(super) fn end(&self, result: Result<(), RunError>) {
        *self.lock() = match result {
            Ok(()) => RecorderState::None,
            Err(error) => RecorderState::Failed(Some(error)),
        };
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, RecorderState> {
        // No code that can panic runs under the lock.
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for RecordedTargets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recording = self.replay.recording();
        write!(
            formatter,
            "the recording {} ({}, teacher {:.12})",
            recording.folder().display(),
            recording.identity().encoding,
            recording.identity().teacher.model_id
        )
    }
}
