//! A bare tonic stream that answers each batch with the bytes of its soft targets: what tonic alone can
//! do.

use std::{pin::Pin, task::Poll};

use bytes::Bytes;
use clap::Args;
use common::ready_file::ReadyFile;
use futures::Stream;
use proto::teacher::v1::{
    DescribeRequest, DescribeResponse, Encoding, SoftTargets, StreamSoftTargetsRequest,
    StreamSoftTargetsResponse, batch,
    stream_soft_targets_request::Message as Ask,
    stream_soft_targets_response::Message as Answer,
    teacher_service_server::{TeacherService, TeacherServiceServer},
};
use tonic::{Request, Response, Status, Streaming};

use super::teacher_server::{self, ReadyFileArgument, incoming, listen};

/// Serve a bare tonic stream that answers each batch with the bytes of its soft targets.
#[derive(Debug, Args)]
pub(crate) struct TeacherEchoArguments {
    /// Number of logits per sample.
    #[arg(long, default_value_t = 10)]
    classes: usize,
    #[command(flatten)]
    ready_file: ReadyFileArgument,
}

/// Serves until a signal asks to stop.
pub(super) fn serve(arguments: &TeacherEchoArguments) -> anyhow::Result<()> {
    let echo = Echo {
        classes: arguments.classes,
    };
    teacher_server::run(async |stop| {
        let (listener, address) = listen().await?;
        let service = TeacherServiceServer::new(echo).max_decoding_message_size(64 << 20);
        let mut ready_file = ReadyFile::prepare(&arguments.ready_file.path)?;
        ready_file.write(&[("grpc", address)])?;
        teacher_server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming(listener), stop.cancelled_owned())
            .await?;
        Ok(())
    })
}

/// Answers every batch with zeros, at once.
struct Echo {
    classes: usize,
}

type Answers = Pin<Box<dyn Stream<Item = Result<StreamSoftTargetsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl TeacherService for Echo {
    type StreamSoftTargetsStream = Answers;

    async fn describe(
        &self,
        _request: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        Err(Status::unimplemented(
            "the echo server has no teacher to describe",
        ))
    }

    async fn stream_soft_targets(
        &self,
        request: Request<Streaming<StreamSoftTargetsRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let mut requests = request.into_inner();
        let classes = self.classes;
        let mut zeros = Bytes::new();
        let answers = futures::stream::poll_fn(move |context| {
            match Pin::new(&mut requests).poll_next(context) {
                Poll::Ready(Some(Ok(request))) => {
                    Poll::Ready(answer(request, classes, &mut zeros).map(Ok))
                }
                Poll::Ready(Some(Err(status))) => Poll::Ready(Some(Err(status))),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The answer to a batch; any other message ends the stream. `zeros` are reused from batch to batch.
fn answer(
    request: StreamSoftTargetsRequest,
    classes: usize,
    zeros: &mut Bytes,
) -> Option<StreamSoftTargetsResponse> {
    let Some(Ask::Batch(batch)) = request.message else {
        return None;
    };
    let Some(batch::Input::Tensor(tensor)) = batch.input else {
        return None;
    };
    let samples = *tensor.shape.first()?;
    let length = samples as usize * classes * size_of::<f32>();
    if zeros.len() != length {
        *zeros = vec![0; length].into();
    }
    let message = Answer::SoftTargets(SoftTargets {
        id: batch.id,
        encoding: Encoding::F32.into(),
        shape: vec![samples, classes as u64],
        logits: zeros.clone(),
        ..SoftTargets::default()
    });
    Some(StreamSoftTargetsResponse {
        message: Some(message),
    })
}
