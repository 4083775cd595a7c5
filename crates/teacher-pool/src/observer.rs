//! What a pool reports while it works.

use std::fmt;

/// Receives what happens in a pool, for the messages and metrics of the program that owns it.
///
/// The pool calls it from its tasks and under its locks: an implementation must not block.
pub trait PoolObserver: fmt::Debug + Send + Sync {
    /// A teacher joined, left or was refused, or training waits for teachers: one sentence for the user.
    fn notice(&self, text: String);

    /// Reports how many teachers are connected, and how many answer and cannot be used. The pool also calls it when
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

    /// Training waited for one second with no teacher connected.
    fn second_without_teacher(&self) {}
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Collects the notices of a pool.
    #[derive(Debug, Default)]
    pub(crate) struct Notices(pub Mutex<Vec<String>>);

    impl PoolObserver for Notices {
        fn notice(&self, text: String) {
            self.0.lock().unwrap().push(text);
        }
    }
}
