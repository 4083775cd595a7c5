//! The responses of one stream.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use proto::teacher::v1::{
    BatchError, StreamSoftTargetsResponse, stream_soft_targets_response::Message as Response,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::sleep,
};
use tonic::Status;
use tracing::warn;

use super::incoming::Refusal;
use crate::{
    compute::{Answer, AnswerSink, Compute, ComputeError},
    error::StreamError,
    queue::StreamId,
};

/// The sending half of the responses: sends from any thread without blocking. The credit bounds the queue,
/// because each answer holds the permit of its batch.
#[derive(Clone)]
pub struct Answers {
    outgoing: mpsc::UnboundedSender<Outgoing>,
    backlog: Arc<Backlog>,
}

enum Outgoing {
    Message(Response),
    Answer(Response, OwnedSemaphorePermit),
    End(Status),
}

/// The responses that the transport has not taken yet.
struct Backlog {
    trainer: StreamId,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    /// How often the transport polled for a response.
    polls: u64,
    /// The status with which the stream ends after the last response.
    end: Option<Status>,
}

/// The response stream, which tonic polls and drops when the trainer disconnects. Dropping it discards the
/// stream's queued batches and responses, and ends the session.
pub struct Responses {
    id: StreamId,
    compute: Compute,
    backlog: Arc<Backlog>,
}

pub(super) fn channel(id: StreamId, compute: Compute) -> (Answers, Responses) {
    let (sender, outgoing) = mpsc::unbounded_channel();
    let backlog = Arc::new(Backlog {
        trainer: id,
        waiting: Mutex::new(Waiting {
            outgoing,
            polls: 0,
            end: None,
        }),
    });
    let responses = Responses {
        id,
        compute,
        backlog: Arc::clone(&backlog),
    };
    let answers = Answers {
        outgoing: sender,
        backlog,
    };
    (answers, responses)
}

impl AnswerSink for Answers {
    /// Sends the answer for one batch. If the engine failed, ends the stream: the batch is valid, so another
    /// teacher may compute it.
    fn send(&self, answer: Answer) {
        let outgoing = match answer.soft_targets {
            Ok(targets) => {
                let response = Response::SoftTargets(targets.to_wire(answer.id));
                Outgoing::Answer(response, answer.permit)
            }
            Err(ComputeError::Encode(error)) => Outgoing::Answer(
                batch_error(answer.id, error.to_string().into()),
                answer.permit,
            ),
            Err(ComputeError::Backend(error)) => {
                let (trainer, batch) = (self.backlog.trainer.0, answer.id);
                warn!(trainer, batch, %error, "a batch could not be computed");
                Outgoing::End(StreamError::Compute { batch, error }.into_status())
            }
        };
        let _ = self.outgoing.send(outgoing);
    }
}

// Sending to a trainer that has disconnected is no error: it needs no answer.
impl Answers {
    pub(super) fn refuse(&self, id: u64, refusal: Refusal, permit: OwnedSemaphorePermit) {
        let _ = self
            .outgoing
            .send(Outgoing::Answer(batch_error(id, refusal), permit));
    }

    pub(super) fn send_message(&self, message: Response) {
        let _ = self.outgoing.send(Outgoing::Message(message));
    }

    pub(super) fn end(&self, status: Status) {
        let _ = self.outgoing.send(Outgoing::End(status));
    }

    /// Discards the queued responses and all later ones, and ends the stream.
    pub(super) fn abandon(&self, status: Status) {
        let mut waiting = self.backlog.lock();
        waiting.end = Some(status);
        waiting.close();
    }

    pub(super) async fn closed(&self) {
        self.outgoing.closed().await;
    }

    /// Waits until the trainer does not read: the transport has taken nothing for `limit` (less than twice as
    /// long) although a response waits.
    pub(super) async fn until_stuck(&self, limit: Duration) {
        let observe = || {
            let waiting = self.backlog.lock();
            (waiting.polls, waiting.outgoing.is_empty())
        };
        loop {
            let (polls, is_empty) = observe();
            sleep(limit).await;
            if !is_empty && observe() == (polls, false) {
                return;
            }
        }
    }
}

fn batch_error(id: u64, refusal: Refusal) -> Response {
    let Refusal {
        reason,
        send_tensor,
    } = refusal;
    Response::BatchError(BatchError {
        id,
        reason,
        send_tensor,
    })
}

impl Stream for Responses {
    type Item = Result<StreamSoftTargetsResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut waiting = self.backlog.lock();
        waiting.polls += 1;
        waiting.outgoing.poll_recv(context).map(|outgoing| {
            let message = match outgoing {
                Some(Outgoing::Message(message)) => message,
                Some(Outgoing::Answer(message, permit)) => {
                    drop(permit);
                    message
                }
                Some(Outgoing::End(status)) => return Some(Err(status)),
                None => return waiting.end.take().map(Err),
            };
            let message = Some(message);
            Some(Ok(StreamSoftTargetsResponse { message }))
        })
    }
}

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No code that can panic runs under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Discards the queued responses and all later ones.
    fn close(&mut self) {
        self.outgoing.close();
        while self.outgoing.try_recv().is_ok() {}
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.backlog.lock().close();
        self.compute.discard(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use artifacts::manifest::TeacherIdentity;
    use datasets::Interpolation;
    use futures::StreamExt;
    use soft_targets::{Encoder, Encoding};
    use tensors::{DataType, TensorSpec};
    use tokio::sync::Semaphore;
    use tonic::Code;

    use super::*;
    use crate::{
        backend::{Backend, BackendError, Description},
        batch::Batch,
    };

    struct Idle(Description);

    impl Backend for Idle {
        fn description(&self) -> &Description {
            &self.0
        }

        fn logits(&mut self, _batch: &Batch) -> Result<Vec<f32>, BackendError> {
            Err(BackendError("not used".to_owned()))
        }
    }

    async fn compute() -> Compute {
        let description = Description {
            identity: TeacherIdentity {
                model_id: "m".to_owned(),
                numerics: "n".to_owned(),
                probe_sha256: "p".to_owned(),
            },
            input: TensorSpec::batch_of("input", DataType::Uint8, &[1, 1, 1]),
            interpolation: Interpolation::Bilinear,
            preprocessing: String::new(),
            class_names: vec!["a".to_owned(), "b".to_owned()],
        };
        let load = move || Ok(Idle(description));
        Compute::start(1 << 20, load).await.unwrap()
    }

    #[tokio::test]
    async fn logits_that_cannot_be_encoded_are_refused_and_a_failed_engine_ends_the_stream() {
        let (answers, mut responses) = channel(StreamId(1), compute().await);
        let credit = Arc::new(Semaphore::new(2));
        let send = async |id, error| {
            answers.send(Answer {
                id,
                soft_targets: Err(error),
                permit: Arc::clone(&credit).acquire_owned().await.unwrap(),
            });
        };
        let unfit = Encoder::default().encode(Encoding::F32, &[f32::NAN, 0.0], 2);
        send(6, ComputeError::Encode(unfit.unwrap_err())).await;
        let failed = BackendError("out of memory".to_owned());
        send(7, ComputeError::Backend(failed)).await;
        let refused = responses.next().await.unwrap().unwrap().message;
        assert!(matches!(refused, Some(Response::BatchError(error)) if error.id == 6));
        assert_eq!(credit.available_permits(), 2);
        let status = responses.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        for part in ["batch 7", "out of memory"] {
            assert!(status.message().contains(part), "{status}");
        }
    }

    #[tokio::test]
    async fn a_disconnected_trainer_closes_the_answers() {
        let (answers, responses) = channel(StreamId(1), compute().await);
        let credit = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&credit).acquire_owned().await.unwrap();
        answers.refuse(1, "unread".to_owned().into(), permit);
        drop(responses);
        answers.closed().await;
        assert_eq!(
            credit.available_permits(),
            1,
            "the queued response is dropped"
        );
    }
}
