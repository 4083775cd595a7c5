//! What goes out to one trainer.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;
use proto::teacher::v1::{
    BatchError, StreamSoftTargetsResponse, stream_soft_targets_response::Message as Response,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

use crate::{
    compute::{Answer, Compute},
    metrics::OpenStream,
    queue::StreamId,
};

/// A handle by which answers go out, from any thread and without blocking. What waits here is
/// bounded by the credit: each answer holds its batch's permit.
#[derive(Clone)]
pub struct Answers(mpsc::UnboundedSender<Outgoing>);

enum Outgoing {
    Message(Response),
    Answer(Response, OwnedSemaphorePermit),
    End(Status),
}

/// The response stream as tonic polls it. Dropping it, as tonic does when the trainer is gone,
/// drops what still waits for the compute thread.
pub struct Responses {
    id: StreamId,
    compute: Compute,
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    _open: OpenStream,
}

pub(super) fn channel(id: StreamId, compute: Compute) -> (Answers, Responses) {
    let (sender, outgoing) = mpsc::unbounded_channel();
    let responses = Responses {
        id,
        compute,
        outgoing,
        _open: OpenStream::count(),
    };
    (Answers(sender), responses)
}

// A trainer that is gone needs no answer: sending to it is no error.
impl Answers {
    /// Sends what the backend gave for one batch.
    pub fn send(&self, answer: Answer) {
        let response = match answer.soft_targets {
            Ok(targets) => Response::SoftTargets(targets.to_wire(answer.id)),
            Err(error) => batch_error(answer.id, error.to_string()),
        };
        let _ = self.0.send(Outgoing::Answer(response, answer.permit));
    }

    pub(super) fn refuse(&self, id: u64, reason: String, permit: OwnedSemaphorePermit) {
        let _ = self
            .0
            .send(Outgoing::Answer(batch_error(id, reason), permit));
    }

    pub(super) fn tell(&self, message: Response) {
        let _ = self.0.send(Outgoing::Message(message));
    }

    pub(super) fn end(&self, status: Status) {
        let _ = self.0.send(Outgoing::End(status));
    }

    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

fn batch_error(id: u64, reason: String) -> Response {
    Response::BatchError(BatchError { id, reason })
}

impl Stream for Responses {
    type Item = Result<StreamSoftTargetsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.outgoing.poll_recv(context).map(|outgoing| {
            let message = match outgoing? {
                Outgoing::Message(message) => message,
                Outgoing::Answer(message, permit) => {
                    drop(permit);
                    message
                }
                Outgoing::End(status) => return Some(Err(status)),
            };
            let message = Some(message);
            Some(Ok(StreamSoftTargetsResponse { message }))
        })
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.compute.discard(self.id);
    }
}
