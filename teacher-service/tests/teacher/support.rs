//! A teacher process, and a client that speaks the trainer's side of the protocol.

use std::path::Path;

use proto::teacher::v1::{
    Batch, DataType, DescribeRequest, Encoding, Numerics, Open, StreamSoftTargetsRequest,
    StreamSoftTargetsResponse, Tensor, batch, stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
    teacher_service_client::TeacherServiceClient,
};
use soft_targets::DrawSeeds;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

pub use test_support::{Process, SOON, Teacher, eventually, write_artifact};

pub const BINARY: &str = env!("CARGO_BIN_EXE_teacher-service");

/// A small, fast network with every kind of layer that teachers usually have.
pub const SMALL: &str = "input = [1, 8, 8]\nclasses = 3\npreset = \"resnet\"\nwidths = [8, 16]";

/// A network that takes tens of milliseconds for a batch of 32.
pub const SLOW: &str =
    "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = [64, 64]\nstrides = [1, 1]";

pub fn start(artifact: &Path, settings: &[&str]) -> Teacher {
    Teacher::start(Path::new(BINARY), artifact, settings)
}

pub async fn connect(teacher: &Teacher) -> TeacherServiceClient<Channel> {
    let endpoint = server::grpc::endpoint(&teacher.grpc.to_string()).unwrap();
    TeacherServiceClient::new(endpoint.connect().await.unwrap())
}

/// The trainer's side of one stream.
pub struct Trainer {
    outbound: Option<mpsc::UnboundedSender<StreamSoftTargetsRequest>>,
    inbound: Streaming<StreamSoftTargetsResponse>,
}

impl Trainer {
    /// A stream without an Open.
    pub async fn silent(teacher: &Teacher) -> Self {
        Self::over(connect(teacher).await).await
    }

    /// A stream without an Open, over the connection of `client`.
    pub async fn over(mut client: TeacherServiceClient<Channel>) -> Self {
        let (outbound, requests) = mpsc::unbounded_channel();
        let inbound = client
            .stream_soft_targets(UnboundedReceiverStream::new(requests))
            .await
            .unwrap()
            .into_inner();
        Self {
            outbound: Some(outbound),
            inbound,
        }
    }

    /// An opened stream, and the teacher's credit.
    pub async fn open(teacher: &Teacher) -> (Self, u32) {
        let mut trainer = Self::silent(teacher).await;
        trainer.send(Request::Open(fitting_open(teacher).await));
        match trainer.next().await {
            Ok(Some(Response::Opened(opened))) => (trainer, opened.credit),
            other => panic!("{other:?}"),
        }
    }

    /// Sends `message`. If the teacher has ended the stream, this does nothing, and [`next`](Self::next)
    /// returns the end.
    pub fn send(&self, message: Request) {
        let message = Some(message);
        let request = StreamSoftTargetsRequest { message };
        let _ = self.outbound.as_ref().unwrap().send(request);
    }

    pub fn send_batch(&self, id: u64, tensor: Tensor) {
        self.send_batch_with_seeds(id, tensor, &DrawSeeds::default());
    }

    pub fn send_batch_with_seeds(&self, id: u64, tensor: Tensor, seeds: &DrawSeeds) {
        self.send(Request::Batch(Batch {
            id,
            input: Some(batch::Input::Tensor(tensor)),
            draw_seeds: seeds.to_wire(),
        }));
    }

    /// Closes the sending side.
    pub fn finish(&mut self) {
        self.outbound = None;
    }

    pub async fn next(&mut self) -> Result<Option<Response>, Status> {
        let next = tokio::time::timeout(SOON, self.inbound.message());
        let response = next.await.expect("no answer in time")?;
        Ok(response.map(|response| response.message.expect("a known message")))
    }
}

/// Returns an Open that this teacher accepts.
pub async fn fitting_open(teacher: &Teacher) -> Open {
    let described = connect(teacher).await.describe(DescribeRequest {}).await;
    let described = described.unwrap().into_inner();
    Open {
        model_id: described.model_id,
        numerics: described.numerics,
        encoding: Encoding::F32.into(),
        ..Open::default()
    }
}

pub fn numerics(open: &Open) -> Numerics {
    open.numerics.clone().unwrap()
}

pub fn u8_tensor(shape: [u64; 4], salt: u8) -> Tensor {
    let count = shape.iter().product::<u64>() as usize;
    let pixels: Vec<u8> = (0..count).map(|i| (i % 251) as u8 ^ salt).collect();
    Tensor {
        data_type: DataType::U8.into(),
        shape: shape.to_vec(),
        data: pixels.into(),
    }
}
