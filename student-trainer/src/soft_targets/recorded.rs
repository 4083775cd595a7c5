//! A recording as a run reads it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use common::{manifest::TeacherIdentity, soft_targets::SoftTargets};
use soft_targets::{Replay, StoreError};

use crate::run::RunError;

/// Views of a recording, each usable once it is whole.
#[derive(Debug)]
pub struct RecordedTargets {
    replay: Replay,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Views opened, from the first.
    ready: u32,
    /// No more will be.
    ended: bool,
    /// Why, for whoever waits first.
    error: Option<RunError>,
}

impl RecordedTargets {
    /// A recording of which every view is whole; every byte is checked.
    ///
    /// # Errors
    /// [`StoreError::Faulty`] with all shards that cannot be used.
    pub fn whole(replay: Replay, views: u32) -> Result<Self, StoreError> {
        replay.open_all()?;
        let recorded = Self::growing(replay);
        recorded.lock().ready = views;
        Ok(recorded)
    }

    /// A recording of which no view is known to be whole yet.
    pub fn growing(replay: Replay) -> Self {
        Self {
            replay,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Whose logits they are.
    pub fn teacher(&self) -> &TeacherIdentity {
        &self.replay.recording().identity().teacher
    }

    /// The soft targets of `samples` in `view`; waits until the view is whole.
    ///
    /// # Errors
    /// Why it will not be: what ended the recording, or [`RunError::Cancelled`].
    pub fn gather(&self, view: u32, samples: &[u32]) -> Result<SoftTargets, RunError> {
        let mut state = self.lock();
        while state.ready <= view {
            if state.ended {
                return Err(state
                    .error
                    .take()
                    .unwrap_or(RunError::Cancelled { checkpoint: None }));
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        Ok(self.replay.gather(view, samples))
    }

    /// Opens `view`, the next one, which was recorded to its end.
    ///
    /// # Errors
    /// [`StoreError::Faulty`].
    pub(super) fn finish_view(&self, view: u32) -> Result<(), StoreError> {
        self.replay.open(view)?;
        self.lock().ready = view + 1;
        self.changed.notify_all();
        Ok(())
    }

    /// No more views will come.
    pub(super) fn end(&self, result: Result<(), RunError>) {
        let mut state = self.lock();
        state.ended = true;
        state.error = result.err();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
