//! Passes what the run's teacher pool reports to the run's events and to the metrics.

use std::sync::{Arc, Mutex, PoisonError};

use teacher_pool::{PoolObserver, SentRequest};

use crate::{
    events::NoticeSender,
    metrics::{self, Teachers},
};

/// The observer of one run's pool.
#[derive(Debug)]
pub struct RunPoolObserver {
    notices: NoticeSender,
    teachers: Mutex<Teachers>,
}

impl RunPoolObserver {
    /// Sends the pool's notices to `notices`.
    pub fn new(notices: NoticeSender) -> Arc<Self> {
        Arc::new(Self {
            notices,
            teachers: Mutex::default(),
        })
    }
}

impl PoolObserver for RunPoolObserver {
    fn notice(&self, text: String) {
        self.notices.notice(text);
    }

    fn teachers(&self, connected: usize, refused: usize) {
        let mut teachers = self.teachers.lock().unwrap_or_else(PoisonError::into_inner);
        teachers.set(connected, refused);
    }

    fn batch_submitted(&self) {
        metrics::batch_submitted();
    }

    fn batch_finished(&self) {
        metrics::batch_finished();
    }

    fn batches_requeued(&self, count: usize) {
        metrics::batches_requeued(count);
    }

    fn batch_hedged(&self) {
        metrics::batch_hedged();
    }

    fn answer_dropped(&self) {
        metrics::answer_dropped();
    }

    fn request_sent(&self, request: SentRequest) {
        metrics::request_sent(request);
    }

    fn second_without_teacher(&self) {
        metrics::second_without_teacher();
    }
}
