//! The bytes of the soft-target stream over tonic alone: no pool, no checks, no order.

use anyhow::bail;
use bytes::Bytes;
use clap::Args;
use common::output::Results;
use proto::teacher::v1::{
    Batch, DataType, StreamSoftTargetsRequest, Tensor, batch,
    stream_soft_targets_request::Message as Ask, stream_soft_targets_response::Message as Answer,
    teacher_service_client::TeacherServiceClient,
};
use server::grpc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::soft_target_load::{Load, runtime};
use crate::measurement::Measurement;

/// Exchange the bytes of soft targets with `teacher-echo`, and print the number of samples as JSON.
#[derive(Debug, Args)]
pub(crate) struct BareStreamArguments {
    /// host:port of the echo server.
    endpoint: String,
    #[command(flatten)]
    load: Load,
}

/// Keeps `--ahead` batches in flight.
pub(super) fn measure(arguments: &BareStreamArguments) -> anyhow::Result<()> {
    let measurement = runtime()?.block_on(stream(arguments))?;
    writeln!(Results, "{}", serde_json::to_string(&measurement)?)?;
    Ok(())
}

async fn stream(arguments: &BareStreamArguments) -> anyhow::Result<Measurement> {
    let load = &arguments.load;
    let channel = grpc::endpoint(&arguments.endpoint)?.connect().await?;
    let (sender, requests) = mpsc::unbounded_channel();
    let pixels = load.pixels();
    let mut next_id = 0;
    let mut ask = || {
        next_id += 1;
        // An error means that the stream has ended, which the other direction reports.
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
            bail!("{} is not an echo server", arguments.endpoint);
        };
        let samples = targets.shape.first().copied().unwrap_or_default();
        if let Some(measurement) = counter.count(samples as usize) {
            return Ok(measurement);
        }
        ask();
    }
    bail!("{} ended the stream", arguments.endpoint)
}

fn request(id: u64, shape: [usize; 4], pixels: &Bytes) -> StreamSoftTargetsRequest {
    let tensor = Tensor {
        data_type: DataType::U8.into(),
        shape: shape.map(|size| size as u64).to_vec(),
        data: pixels.clone(),
    };
    let input = Some(batch::Input::Tensor(tensor));
    let message = Some(Ask::Batch(Batch {
        id,
        input,
        ..Batch::default()
    }));
    StreamSoftTargetsRequest { message }
}
