//! A recording as a run reads it.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use artifacts::manifest::TeacherIdentity;
use soft_targets::{ClassOrder, Replay, SoftTargets, StoreError};

use super::error::SoftTargetError;

/// The views of a recording; each can be read once it is complete.
#[derive(Debug)]
pub struct RecordedTargets {
    replay: Replay,
    /// Reorders the recorded classes, if the data have them in another order.
    order: Option<ClassOrder>,
    recorder: Mutex<RecorderState>,
    changed: Condvar,
}

/// Whether this process adds to the recording while the run reads it.
#[derive(Debug)]
enum RecorderState {
    /// No recorder runs.
    None,
    /// A recorder runs; the reader opens each view when it is complete.
    Running,
    /// The recorder failed. The first waiting reader takes the error.
    Failed(Option<SoftTargetError>),
}

impl RecordedTargets {
    /// A recording that this process does not add to. `order` brings its classes into the order of the data.
    pub fn new(replay: Replay, order: Option<ClassOrder>) -> Self {
        Self::with(replay, order, RecorderState::None)
    }

    /// A recording that the run adds to: see [`Self::finish_view`] and [`Self::end`].
    pub fn growing(replay: Replay, order: Option<ClassOrder>) -> Self {
        Self::with(replay, order, RecorderState::Running)
    }

    fn with(replay: Replay, order: Option<ClassOrder>, recorder: RecorderState) -> Self {
        Self {
            replay,
            order,
            recorder: Mutex::new(recorder),
            changed: Condvar::new(),
        }
    }

    /// Opens `views` and verifies every byte of them. Opens the others even if some cannot be used.
    ///
    /// # Errors
    /// [`StoreError::Faulty`] with all shards that cannot be used; those of the bucket.
    pub fn open_all(&self, views: &BTreeSet<u32>) -> Result<(), StoreError> {
        self.replay.open_all(views.iter().copied())
    }

    /// Whether `view` is complete. The first call verifies every byte.
    pub fn has(&self, view: u32) -> bool {
        self.replay.open(view).is_ok()
    }

    /// The teacher whose logits were recorded.
    pub fn teacher(&self) -> &TeacherIdentity {
        &self.replay.recording().identity().teacher
    }

    /// Brings the recorded classes into the order of the data, if that differs.
    pub fn order(&self) -> Option<&ClassOrder> {
        self.order.as_ref()
    }

    /// The soft targets of `samples` in `view`. If the run adds to the recording, waits until the view is
    /// complete.
    ///
    /// # Errors
    /// [`StoreError::Faulty`]; what ended the recording, or [`SoftTargetError::Cancelled`].
    ///
    /// # Panics
    /// If `view` is absent: recordings need fixed views, and the configuration was validated.
    pub fn gather(
        &self,
        view: Option<u32>,
        samples: &[u32],
    ) -> Result<SoftTargets, SoftTargetError> {
        let view = view.expect("recordings have fixed views; the configuration was validated");
        self.wait_for(view)?;
        self.replay.open(view)?;
        let targets = self.replay.gather(view, samples);
        Ok(match &self.order {
            Some(order) => targets.reordered(order),
            None => targets,
        })
    }

    fn wait_for(&self, view: u32) -> Result<(), SoftTargetError> {
        let mut recorder = self.lock();
        while !self.replay.is_open(view) {
            match &mut *recorder {
                RecorderState::None => break,
                RecorderState::Running => {
                    recorder = self
                        .changed
                        .wait(recorder)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                RecorderState::Failed(error) => {
                    return Err(error.take().unwrap_or(SoftTargetError::Cancelled));
                }
            }
        }
        Ok(())
    }

    /// Opens `view`, which was recorded to its end.
    ///
    /// # Errors
    /// [`StoreError::Faulty`].
    pub(super) fn finish_view(&self, view: u32) -> Result<(), StoreError> {
        self.replay.open(view)?;
        // A reader that found the view closed under the lock is waiting by now, and is notified.
        drop(self.lock());
        self.changed.notify_all();
        Ok(())
    }

    /// Notes that no more views will come.
    pub(super) fn end(&self, result: Result<(), SoftTargetError>) {
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
            recording.place().display(),
            recording.identity().encoding,
            recording.identity().teacher.model_id
        )
    }
}
