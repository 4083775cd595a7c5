//! What a pool reports while it works.

use std::fmt;

/// Receives what happens in a pool, for the messages and metrics of the program that owns it.
///
/// The pool calls it from its tasks and under its locks: an implementation must not block.
pub trait PoolObserver: fmt::Debug + Send + Sync {
    /// A teacher joined, left or was refused, or training waits for teachers: one sentence for the user.
    fn notice(&self, text: String);

    /// Reports how many teachers are connected, and how many answer but cannot be used. The pool may call it although
    /// neither number has changed.
    fn teachers(&self, _connected: usize, _refused: usize) {}

    /// A batch was submitted.
    fn batch_submitted(&self) {}

    /// A submitted batch was answered, failed, or was abandoned.
    fn batch_finished(&self) {}

    /// Batches returned to the queue because their teacher was lost.
    fn batches_requeued(&self, _count: usize) {}

    /// A batch was sent to a second teacher because the first was overdue.
    fn batch_hedged(&self) {}

    /// A second answer to a batch was dropped.
    fn answer_dropped(&self) {}

    /// A batch, or a part of one, was sent to a teacher.
    fn request_sent(&self, _request: SentRequest) {}

    /// Training waited for one second with no teacher connected.
    fn second_without_teacher(&self) {}
}

/// A request that was sent to a teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentRequest {
    /// What stands for its samples.
    pub sent_as: SentAs,
    /// Number of samples.
    pub samples: usize,
    /// Encoded size of the batch.
    pub bytes: usize,
}

/// What stands for the samples of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentAs {
    /// Pixels, or the values of rows.
    Pixels,
    /// Positions in the run's data, which the teacher has too.
    References,
}

impl SentAs {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pixels, Self::References];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pixels => "pixels",
            Self::References => "references",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// Records what a pool reports.
    #[derive(Debug, Default)]
    pub(crate) struct Recorder {
        notices: Mutex<Vec<String>>,
        teachers: Mutex<(usize, usize)>,
        unfinished: AtomicUsize,
        requeued: AtomicUsize,
        hedged: AtomicUsize,
        dropped: AtomicUsize,
    }

    impl Recorder {
        pub fn notices(&self) -> Vec<String> {
            self.notices.lock().unwrap().clone()
        }

        /// Connected and refused.
        pub fn teachers(&self) -> (usize, usize) {
            *self.teachers.lock().unwrap()
        }

        /// Batches that were submitted and have not finished.
        pub fn unfinished(&self) -> usize {
            self.unfinished.load(Ordering::Relaxed)
        }

        pub fn requeued(&self) -> usize {
            self.requeued.load(Ordering::Relaxed)
        }

        pub fn hedged(&self) -> usize {
            self.hedged.load(Ordering::Relaxed)
        }

        pub fn dropped(&self) -> usize {
            self.dropped.load(Ordering::Relaxed)
        }
    }

    impl PoolObserver for Recorder {
        fn notice(&self, text: String) {
            self.notices.lock().unwrap().push(text);
        }

        fn teachers(&self, connected: usize, refused: usize) {
            *self.teachers.lock().unwrap() = (connected, refused);
        }

        fn batch_submitted(&self) {
            self.unfinished.fetch_add(1, Ordering::Relaxed);
        }

        fn batch_finished(&self) {
            self.unfinished.fetch_sub(1, Ordering::Relaxed);
        }

        fn batches_requeued(&self, count: usize) {
            self.requeued.fetch_add(count, Ordering::Relaxed);
        }

        fn batch_hedged(&self) {
            self.hedged.fetch_add(1, Ordering::Relaxed);
        }

        fn answer_dropped(&self) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
