//! Teachers in this process, whose answers a test chooses, and a pool that uses them.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use proto::teacher::v1::stream_soft_targets_request::Message as Request;
use proto::teacher::v1::stream_soft_targets_response::Message as Response;
use proto::teacher::v1::teacher_service_server::{TeacherService, TeacherServiceServer};
use proto::teacher::v1::{
    Batch, DescribeRequest, DescribeResponse, Encoding, Numerics, Opened, SoftTargets,
    StreamSoftTargetsRequest, StreamSoftTargetsResponse,
};
use soft_targets::{DataReference, tensor_to_wire};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use teacher_pool::{
    BatchSize, ExpectedTeacher, PoolConfig, PoolError, PoolObserver, SentAs, SentRequest,
    TeacherBatch, TeacherPool, Ticket,
};
use tensors::{DataType, TensorSpec};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::Request as Call;
use tonic::Response as Reply;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::{Status, Streaming};
use tonic_health::server::HealthReporter;

pub const CLASSES: usize = 3;
pub const SHAPE: [usize; 4] = [2, 1, 2, 2];

/// Fingerprint of the data that the teachers have.
pub const SPLIT: &str = "0123456789abcdef";

/// What the teachers take.
pub fn input() -> TensorSpec {
    TensorSpec::batch_of("input", DataType::Uint8, &SHAPE[1..])
}

/// How a test teacher answers a batch.
pub type Answer = fn(&Batch) -> Result<Response, Status>;

/// A teacher whose answers a test chooses.
struct TestTeacher(Answer);

#[tonic::async_trait]
impl TeacherService for TestTeacher {
    type StreamSoftTargetsStream =
        Pin<Box<dyn Stream<Item = Result<StreamSoftTargetsResponse, Status>> + Send>>;

    async fn describe(&self, _: Call<DescribeRequest>) -> Result<Reply<DescribeResponse>, Status> {
        Ok(Reply::new(DescribeResponse {
            model_id: "m".into(),
            numerics: Some(Numerics::default()),
            inputs: vec![tensor_to_wire(&input()).unwrap()],
            class_names: (0..CLASSES).map(|class| class.to_string()).collect(),
            encodings: vec![Encoding::F32.into()],
            data_fingerprint: SPLIT.into(),
            ..DescribeResponse::default()
        }))
    }

    async fn stream_soft_targets(
        &self,
        call: Call<Streaming<StreamSoftTargetsRequest>>,
    ) -> Result<Reply<Self::StreamSoftTargetsStream>, Status> {
        let answer = self.0;
        let responses = call.into_inner().map(move |request| {
            let message = match request?.message.unwrap() {
                Request::Open(open) => Response::Opened(Opened {
                    credit: 4,
                    by_reference: open.data.is_some(),
                    ..Opened::default()
                }),
                Request::Batch(batch) => answer(&batch)?,
            };
            let message = Some(message);
            Ok(StreamSoftTargetsResponse { message })
        });
        // The stream ends after the first error.
        let mut has_failed = false;
        let responses = responses.take_while(move |response: &Result<_, Status>| {
            let goes_on = !has_failed;
            has_failed = response.is_err();
            futures::future::ready(goes_on)
        });
        Ok(Reply::new(Box::pin(responses)))
    }
}

pub fn correct(batch: &Batch) -> SoftTargets {
    let logits = [1.0f32; SHAPE[0] * CLASSES].map(f32::to_le_bytes).concat();
    SoftTargets {
        id: batch.id,
        encoding: Encoding::F32.into(),
        shape: vec![SHAPE[0] as u64, CLASSES as u64],
        logits: logits.into(),
        ..SoftTargets::default()
    }
}

pub fn answers_correctly(batch: &Batch) -> Result<Response, Status> {
    Ok(Response::SoftTargets(correct(batch)))
}

pub struct Scene {
    pub runtime: Runtime,
    pub recorder: Arc<Recorder>,
    health_calls: Arc<AtomicUsize>,
}

/// Records what a pool reports.
#[derive(Debug, Default)]
pub struct Recorder {
    notices: Mutex<Vec<String>>,
    requeued: AtomicUsize,
    hedged: AtomicUsize,
    pub sent: Mutex<Vec<SentAs>>,
}

impl PoolObserver for Recorder {
    fn notice(&self, text: String) {
        self.notices.lock().unwrap().push(text);
    }

    fn batches_requeued(&self, count: usize) {
        self.requeued.fetch_add(count, Ordering::Relaxed);
    }

    fn request_sent(&self, request: SentRequest) {
        assert_eq!(request.samples, SHAPE[0]);
        self.sent.lock().unwrap().push(request.sent_as);
    }

    fn batch_hedged(&self) {
        self.hedged.fetch_add(1, Ordering::Relaxed);
    }
}

impl Scene {
    pub fn new() -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            recorder: Arc::default(),
            health_calls: Arc::default(),
        }
    }

    pub fn start(&self, answer: Answer) -> SocketAddr {
        self.start_with_health(answer).0
    }

    pub fn start_with_health(&self, answer: Answer) -> (SocketAddr, HealthReporter) {
        let _guard = self.runtime.enter();
        let listener = self
            .runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let (health, health_service) = tonic_health::server::health_reporter();
        self.set_serving(&health, true);
        let calls = Arc::clone(&self.health_calls);
        let count = move |call| {
            calls.fetch_add(1, Ordering::Relaxed);
            Ok(call)
        };
        let server = server::grpc::server()
            .add_service(InterceptedService::new(health_service, count))
            .add_service(TeacherServiceServer::new(TestTeacher(answer)));
        self.runtime
            .spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (address, health)
    }

    pub fn set_serving(&self, health: &HealthReporter, serving: bool) {
        self.runtime.block_on(async {
            type Service = TeacherServiceServer<TestTeacher>;
            if serving {
                health.set_serving::<Service>().await;
            } else {
                health.set_not_serving::<Service>().await;
            }
        });
    }

    pub fn pool(&self, teachers: &[SocketAddr], wait_timeout_seconds: u64) -> TeacherPool {
        let config = PoolConfig {
            wait_timeout_seconds,
            answer_timeout_seconds: 2,
            ..PoolConfig::new(teachers.iter().map(ToString::to_string).collect())
        };
        self.connect(config).unwrap()
    }

    pub fn connect(&self, config: PoolConfig) -> Result<TeacherPool, PoolError> {
        self.connect_with(config, None)
    }

    pub fn connect_with(
        &self,
        config: PoolConfig,
        data: Option<DataReference>,
    ) -> Result<TeacherPool, PoolError> {
        let expected = ExpectedTeacher {
            input: input(),
            classes: CLASSES,
            class_names: None,
            largest_batch: BatchSize {
                images: SHAPE[0],
                key: "batch".to_owned(),
            },
            identity: None,
            data,
        };
        let cancel = CancellationToken::new();
        let observer = self.recorder.clone();
        TeacherPool::connect(config, expected, observer, &cancel, self.runtime.handle())
    }

    /// Number of calls of the teachers' health services.
    pub fn health_calls(&self) -> usize {
        self.health_calls.load(Ordering::Relaxed)
    }

    pub fn requeued(&self) -> usize {
        self.recorder.requeued.load(Ordering::Relaxed)
    }

    pub fn hedged(&self) -> usize {
        self.recorder.hedged.load(Ordering::Relaxed)
    }

    pub fn has_notice(&self, text: &str) -> bool {
        self.recorder
            .notices
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains(text))
    }
}

pub fn batch_of(data: Bytes) -> TeacherBatch {
    TeacherBatch {
        data,
        samples: SHAPE[0],
        ..TeacherBatch::default()
    }
}

pub fn ask(pool: &TeacherPool, batches: usize) -> Vec<Result<(), PoolError>> {
    let pixels = Bytes::from(vec![0; SHAPE.iter().product()]);
    let tickets: Vec<_> = (0..batches)
        .map(|_| pool.submit(batch_of(pixels.clone())))
        .collect();
    let cancel = CancellationToken::new();
    let wait = |ticket: Ticket| {
        let targets = ticket.wait(&cancel)?;
        let logits: Vec<f32> = targets.logits().collect();
        assert_eq!(logits, [1.0; SHAPE[0] * CLASSES]);
        assert_eq!(targets.classes(), CLASSES);
        Ok(())
    };
    tickets.into_iter().map(wait).collect()
}
