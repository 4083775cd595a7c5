//! The bytes of the soft-target stream over tonic alone: no pool, no checks, no order.

use anyhow::{anyhow, bail};
use bytes::Bytes;
use clap::Args;
use common::turn::Turn;
use proto::teacher::v1::{
    Batch, DataType, StreamSoftTargetsRequest, Tensor, batch,
    stream_soft_targets_request::Message as Ask, stream_soft_targets_response::Message as Answer,
    teacher_service_client::TeacherServiceClient,
};
use server::grpc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::Load;

#[derive(Debug, Args)]
pub(super) struct EchoArguments {
    /// host:port of the echo.
    endpoint: String,
    #[command(flatten)]
    load: Load,
}

pub(super) async fn measure(arguments: &EchoArguments) -> anyhow::Result<Turn> {
    let load = &arguments.load;
    let channel = grpc::endpoint(&arguments.endpoint)?.connect().await?;
    let (sender, requests) = mpsc::unbounded_channel();
    let pixels = load.pixels();
    let mut next_id = 0;
    let mut ask = || {
        next_id += 1;
        // An error means that the stream has ended, which the other direction tells.
        let _ = sender.send(request(next_id, load.shape(), &pixels));
    };
    (0..load.ahead).for_each(|_| ask());
    let mut answers = TeacherServiceClient::new(channel)
        .max_decoding_message_size(64 << 20)
        .stream_soft_targets(UnboundedReceiverStream::new(requests))
        .await?
        .into_inner();
    let mut counter = load.counter();
    while let Some(answer) = answers.message().await? {
        let Some(Answer::SoftTargets(targets)) = answer.message else {
            bail!("{} is no echo", arguments.endpoint);
        };
        let samples = targets.shape.first().copied().unwrap_or_default();
        if let Some(turn) = counter.count(samples as usize) {
            return Ok(turn);
        }
        ask();
    }
    Err(anyhow!("{} ended the stream", arguments.endpoint))
}

fn request(id: u64, shape: [usize; 4], pixels: &Bytes) -> StreamSoftTargetsRequest {
    let tensor = Tensor {
        data_type: DataType::U8.into(),
        shape: shape.map(|size| size as u64).to_vec(),
        data: pixels.clone(),
    };
    let input = Some(batch::Input::Tensor(tensor));
    let message = Some(Ask::Batch(Batch { id, input }));
    StreamSoftTargetsRequest { message }
}
