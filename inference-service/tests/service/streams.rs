//! Streams that callers cancel, or end within a message.

use futures::{StreamExt, channel::mpsc};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use proto::{
    bounded::BoundedCodec,
    inference::{
        ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
        grpc_inference_service_client::GrpcInferenceServiceClient,
    },
};
use tonic::{
    Code, Streaming,
    body::Body,
    client::GrpcService,
    codec::Codec,
    codegen::{Bytes, http::Request},
    transport::Channel,
};
use tonic_types::StatusExt;

use crate::support::{
    Artifact, PATIENCE, Service, ServiceOptions, assert_close, infer_request, publish,
};

/// Requests that were cancelled in the queue.
const CANCELED: &str =
    "nv_inference_request_failure{model=\"digits\",version=\"1\",reason=\"CANCELED\"} ";

fn canceled(service: &Service) -> u64 {
    let metrics = service.metrics();
    let count = metrics.lines().find_map(|line| line.strip_prefix(CANCELED));
    count.expect("it is there").parse().expect("a number")
}

/// A `ModelStreamInfer` that the caller can reset, which generated clients cannot.
struct Stream {
    requests: mpsc::UnboundedSender<Result<Frame<Bytes>, Reset>>,
    answers: Streaming<ModelStreamInferResponse>,
}

/// The error of an incomplete body, on which hyper resets the stream.
#[derive(Debug, thiserror::Error)]
#[error("reset by the test")]
struct Reset;

impl Stream {
    async fn open(channel: &mut Channel) -> Self {
        let (requests, body) = mpsc::unbounded();
        let request = Request::post("/inference.GRPCInferenceService/ModelStreamInfer")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(StreamBody::new(body)))
            .expect("a request");
        std::future::poll_fn(|context| channel.poll_ready(context))
            .await
            .expect("the connection is there");
        let (head, body) = channel
            .call(request)
            .await
            .expect("it is opened")
            .into_parts();
        let mut codec = BoundedCodec::<ModelInferRequest, ModelStreamInferResponse>::default();
        let answers = Streaming::new_response(codec.decoder(), body, head.status, None, None);
        Self { requests, answers }
    }

    fn send(&self, request: &ModelInferRequest) {
        self.send_bytes(framed(request));
    }

    fn send_bytes(&self, bytes: Vec<u8>) {
        let sent = self.requests.unbounded_send(Ok(Frame::data(bytes.into())));
        sent.expect("it is open");
    }

    /// The next answer.
    async fn answer(&mut self) -> ModelInferResponse {
        let answer = self.answers.next().await.expect("the stream continues");
        let response = answer.expect("an answer").infer_response;
        response.expect("it has one")
    }

    fn reset(self) {
        let sent = self.requests.unbounded_send(Err(Reset));
        sent.expect("it is open");
    }
}

/// A message with its prefix of a flag and a length.
fn framed(request: &ModelInferRequest) -> Vec<u8> {
    let message = request.encode_to_vec();
    let length = (message.len() as u32).to_be_bytes();
    [&[0], &length[..], &message].concat()
}

#[tokio::test]
async fn a_reset_stream_does_not_affect_others() {
    /// More requests than the service processes concurrently per stream.
    const REQUESTS: usize = 200;
    /// Answers that are read before the stream is reset.
    const READ: [usize; 3] = [0, 1, 70];
    let options = ServiceOptions {
        // Keeps requests in the queue for a while.
        set: &["batching.max_queue_delay_microseconds=20000"],
        ..ServiceOptions::default()
    };
    let mut service = Service::start(&options);
    let artifact = Artifact::new(1);
    publish(&service, &artifact).await;
    let (request, values) = infer_request(3);
    let logits = artifact.logits(&values);
    // One connection for everything.
    let mut channel = service.channel("grpc").await;
    let mut client = GrpcInferenceServiceClient::new(channel.clone());
    let mut resets = 0;
    // Repeats until each number of answers was read and a reset has cancelled requests.
    while resets < READ.len() || canceled(&service) == 0 {
        assert!(resets < 1000, "no request was in flight");
        let mut stream = Stream::open(&mut channel).await;
        for _ in 0..REQUESTS {
            stream.send(&request);
        }
        for _ in 0..READ[resets % READ.len()] {
            let response = stream.answer().await;
            assert_close(&response.raw_output_contents[0], &logits);
        }
        stream.reset();
        resets += 1;
        let next = client.model_infer(request.clone()).await;
        let next = next.expect("the connection stays open").into_inner();
        assert_close(&next.raw_output_contents[0], &logits);
    }
    assert!(service.is_running());
    let log = service.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn an_incomplete_message_ends_its_stream_and_an_idle_stream_stays_open() {
    let options = ServiceOptions {
        // The time limit of uploads.
        set: &["grpc.read_timeout_seconds=3"],
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    let artifact = Artifact::new(1);
    publish(&service, &artifact).await;
    let (request, values) = infer_request(3);
    let logits = artifact.logits(&values);
    let mut channel = service.channel("grpc").await;
    let mut silent = Stream::open(&mut channel).await;
    let message = framed(&request);
    for part in [3, message.len() / 2] {
        let mut stream = Stream::open(&mut channel).await;
        stream.send_bytes(message[..part].to_vec());
        let ended = tokio::time::timeout(PATIENCE, stream.answers.next()).await;
        let answer = ended.expect("the stream ends").expect("with a status");
        let status = answer.expect_err("it is late");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        let info = status.get_details_error_info().expect("a reason is given");
        assert_eq!(info.reason, "BODY_TIMED_OUT");
    }
    // Idle for longer than a message may take.
    silent.send(&request);
    let response = silent.answer().await;
    assert_close(&response.raw_output_contents[0], &logits);
}
