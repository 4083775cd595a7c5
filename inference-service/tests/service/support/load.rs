//! Callers in a closed loop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use proto::inference::{ModelInferRequest, ModelInferResponse};
use tokio::task::JoinHandle;
use tonic::Status;

use super::Service;

/// Checks an answer and panics if it is wrong.
pub type Check = Arc<dyn Fn(&ModelInferResponse) + Send + Sync>;

/// Concurrent callers without pauses or retries, each on its own connection.
pub struct Load {
    calls: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Result<(), Status>>>,
}

impl Load {
    /// Starts callers that send `request` repeatedly and `check` every answer.
    pub async fn start(
        service: &Service,
        callers: usize,
        request: &ModelInferRequest,
        check: Check,
    ) -> Self {
        let mut load = Self {
            calls: Arc::default(),
            stop: Arc::default(),
            callers: Vec::new(),
        };
        for _ in 0..callers {
            let mut client = service.inference().await;
            let (calls, stop) = (Arc::clone(&load.calls), Arc::clone(&load.stop));
            let (request, check) = (request.clone(), Arc::clone(&check));
            load.callers.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let response = client.model_infer(request.clone()).await?;
                    check(response.get_ref());
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        load
    }

    /// Waits until `calls` more calls have been answered.
    pub async fn answers(&self, calls: u64) {
        let wanted = self.calls.load(Ordering::Relaxed) + calls;
        while self.calls.load(Ordering::Relaxed) < wanted {
            let ended = self.callers.iter().any(|caller| caller.is_finished());
            assert!(!ended, "a call has failed");
            tokio::task::yield_now().await;
        }
    }

    /// Ends the load and returns the number of answered calls. Panics if any call failed.
    pub async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            let called = caller.await.expect("every answer is right");
            called.expect("no call fails");
        }
        self.calls.load(Ordering::Relaxed)
    }
}
