//! The pool with teachers that violate the protocol, fail, or do not answer. They run in this process.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use datasets::{Augmentation, View};
use futures::{Stream, StreamExt};
use proto::teacher::v1::{
    Batch, BatchError, DescribeRequest, DescribeResponse, Encoding, Numerics, Opened, SoftTargets,
    StreamSoftTargetsRequest, StreamSoftTargetsResponse,
    batch::Input,
    stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
    teacher_service_server::{TeacherService, TeacherServiceServer},
};
use soft_targets::{DataReference, SampleReferences, ViewSet, tensor_to_wire};
use teacher_pool::{
    BatchSize, ExpectedTeacher, PoolConfig, PoolError, PoolObserver, SentAs, SentRequest,
    TeacherBatch, TeacherPool, Ticket,
};
use tensors::{DataType, TensorSpec};
use test_support::{Relay, eventually};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request as Call, Response as Reply, Status, Streaming,
    service::interceptor::InterceptedService, transport::server::TcpIncoming,
};
use tonic_health::server::HealthReporter;

const CLASSES: usize = 3;
const SHAPE: [usize; 4] = [2, 1, 2, 2];

/// Fingerprint of the data that the teachers have.
const SPLIT: &str = "0123456789abcdef";

/// What the teachers take.
fn input() -> TensorSpec {
    TensorSpec::batch_of("input", DataType::Uint8, &SHAPE[1..])
}

/// How a test teacher answers a batch.
type Answer = fn(&Batch) -> Result<Response, Status>;

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

fn correct(batch: &Batch) -> SoftTargets {
    let logits = [1.0f32; SHAPE[0] * CLASSES].map(f32::to_le_bytes).concat();
    SoftTargets {
        id: batch.id,
        encoding: Encoding::F32.into(),
        shape: vec![SHAPE[0] as u64, CLASSES as u64],
        logits: logits.into(),
        ..SoftTargets::default()
    }
}

fn answers_correctly(batch: &Batch) -> Result<Response, Status> {
    Ok(Response::SoftTargets(correct(batch)))
}

struct Scene {
    runtime: Runtime,
    recorder: Arc<Recorder>,
    health_calls: Arc<AtomicUsize>,
}

/// Records what a pool reports.
#[derive(Debug, Default)]
struct Recorder {
    notices: Mutex<Vec<String>>,
    requeued: AtomicUsize,
    hedged: AtomicUsize,
    sent: Mutex<Vec<SentAs>>,
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
    fn new() -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            recorder: Arc::default(),
            health_calls: Arc::default(),
        }
    }

    fn start(&self, answer: Answer) -> SocketAddr {
        self.start_with_health(answer).0
    }

    fn start_with_health(&self, answer: Answer) -> (SocketAddr, HealthReporter) {
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

    fn set_serving(&self, health: &HealthReporter, serving: bool) {
        self.runtime.block_on(async {
            type Service = TeacherServiceServer<TestTeacher>;
            if serving {
                health.set_serving::<Service>().await;
            } else {
                health.set_not_serving::<Service>().await;
            }
        });
    }

    fn pool(&self, teachers: &[SocketAddr], wait_timeout_seconds: u64) -> TeacherPool {
        let config = PoolConfig {
            wait_timeout_seconds,
            answer_timeout_seconds: 2,
            ..PoolConfig::new(teachers.iter().map(ToString::to_string).collect())
        };
        self.connect(config).unwrap()
    }

    fn connect(&self, config: PoolConfig) -> Result<TeacherPool, PoolError> {
        self.connect_with(config, None)
    }

    fn connect_with(
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
    fn health_calls(&self) -> usize {
        self.health_calls.load(Ordering::Relaxed)
    }

    fn requeued(&self) -> usize {
        self.recorder.requeued.load(Ordering::Relaxed)
    }

    fn hedged(&self) -> usize {
        self.recorder.hedged.load(Ordering::Relaxed)
    }

    fn has_notice(&self, text: &str) -> bool {
        self.recorder
            .notices
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains(text))
    }
}

fn batch_of(data: Bytes) -> TeacherBatch {
    TeacherBatch {
        data,
        samples: SHAPE[0],
        ..TeacherBatch::default()
    }
}

fn ask(pool: &TeacherPool, batches: usize) -> Vec<Result<(), PoolError>> {
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

#[test]
fn a_teacher_without_the_encoding_is_refused() {
    let scene = Scene::new();
    let teacher = scene.start(answers_correctly).to_string();
    let config = PoolConfig {
        wait_timeout_seconds: 1,
        encoding: soft_targets::Encoding::F16,
        ..PoolConfig::new(vec![teacher.clone()])
    };
    let Err(error) = scene.connect(config) else {
        panic!("the teacher is accepted");
    };
    let text = error.to_string();
    for part in [&teacher, "does not offer soft targets as f16"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn a_teacher_with_an_invalid_answer_is_refused_and_another_answers_the_batch() {
    let cases: [(Answer, &str); 6] = [
        (
            |batch| {
                let mut answer = correct(batch);
                answer.shape.swap(0, 1);
                Ok(Response::SoftTargets(answer))
            },
            "shape [3, 2]",
        ),
        (
            |batch| {
                let mut answer = correct(batch);
                answer.logits.truncate(8);
                Ok(Response::SoftTargets(answer))
            },
            "8 bytes of logits",
        ),
        (
            |batch| {
                let logits = [f32::NAN; SHAPE[0] * CLASSES]
                    .map(f32::to_le_bytes)
                    .concat();
                let logits = logits.into();
                let answer = correct(batch);
                Ok(Response::SoftTargets(SoftTargets { logits, ..answer }))
            },
            "a logit is NaN",
        ),
        (
            |batch| {
                let id = batch.id + 1000;
                let answer = correct(batch);
                Ok(Response::SoftTargets(SoftTargets { id, ..answer }))
            },
            "which it does not have",
        ),
        (
            |_| Ok(Response::Opened(Opened::default())),
            "sent Opened on an open stream",
        ),
        (
            |_| Err(Status::out_of_range("the message is too large")),
            "the message is too large",
        ),
    ];
    for (answer, reason) in cases {
        let scene = Scene::new();
        let [bad, good] = [scene.start(answer), scene.start(answers_correctly)];
        let pool = scene.pool(&[bad, good], 30);
        let refused = format!("teacher {bad} is refused");
        eventually("both connected, or the bad one refused already", || {
            (pool.teachers() == 2 || scene.has_notice(&refused)).then_some(())
        });
        eventually("the bad one refused", || {
            assert_eq!(ask(&pool, 8), vec![Ok(()); 8], "{reason}");
            scene.has_notice(&refused).then_some(())
        });
        assert!(scene.has_notice(reason), "{:?}", scene.recorder);
        assert!(scene.requeued() > 0);
    }
}

#[test]
fn tickets_fail_with_the_reason_when_every_teacher_is_refused() {
    let scene = Scene::new();
    let bad = scene.start(|_| Err(Status::invalid_argument("no")));
    let pool = scene.pool(&[bad], 1);
    for answer in ask(&pool, 3) {
        let error = answer.unwrap_err();
        assert!(
            matches!(error, PoolError::TeachersGone { seconds: 1, .. }),
            "{error}"
        );
        let text = error.to_string();
        assert!(
            text.contains(&bad.to_string()) && text.contains("no"),
            "{text}"
        );
    }
}

/// Never answers: a credit message is not an answer.
fn answers_nothing(_: &Batch) -> Result<Response, Status> {
    Ok(Response::Credit(proto::teacher::v1::Credit { credit: 4 }))
}

#[test]
fn a_silent_teacher_is_hedged_and_disconnected() {
    let scene = Scene::new();
    let [silent, good] = [scene.start(answers_nothing), scene.start(answers_correctly)];
    let pool = scene.pool(&[silent, good], 30);
    eventually("both connected", || (pool.teachers() == 2).then_some(()));
    // The good teacher may be so fast that the silent one gets no batch. On a slow machine the silent one may be
    // disconnected before its batch is hedged.
    eventually("a batch of the silent one hedged or requeued", || {
        assert_eq!(ask(&pool, 16), vec![Ok(()); 16]);
        (scene.hedged() + scene.requeued() > 0).then_some(())
    });
    eventually("the silent one disconnected", || {
        let lost = format!("teacher {silent} is unavailable: no answer within 2s");
        scene.has_notice(&lost).then_some(())
    });
}

#[test]
fn tickets_fail_when_no_teacher_answers_and_later_ones_at_once() {
    const WAIT_SECONDS: u64 = 4;
    let scene = Scene::new();
    let silent = scene.start(answers_nothing);
    let pool = scene.pool(&[silent], WAIT_SECONDS);
    let gone = |answers: Vec<Result<(), PoolError>>| {
        for answer in answers {
            let error = answer.unwrap_err();
            assert!(matches!(error, PoolError::TeachersGone { .. }), "{error}");
            assert!(error.to_string().contains(&silent.to_string()), "{error}");
        }
    };
    gone(ask(&pool, 3));
    // Unless the silent one has reconnected meanwhile, and the pool waits for it again.
    eventually("tickets that fail at once", || {
        let again = Instant::now();
        gone(ask(&pool, 3));
        (again.elapsed() < Duration::from_secs(WAIT_SECONDS)).then_some(())
    });
}

#[test]
fn only_a_serving_teacher_is_used() {
    let scene = Scene::new();
    let always = scene.start(answers_correctly);
    let (sometimes, health) = scene.start_with_health(answers_correctly);
    scene.set_serving(&health, false);
    let pool = scene.pool(&[always, sometimes], 30);
    let reported = format!("teacher {sometimes} is unavailable: reports NOT_SERVING");
    eventually("the one that does not serve", || {
        scene.has_notice(&reported).then_some(())
    });
    assert_eq!(ask(&pool, 8), vec![Ok(()); 8]);
    assert_eq!(pool.teachers(), 1);
    scene.set_serving(&health, true);
    eventually("both", || (pool.teachers() == 2).then_some(()));
    scene.set_serving(&health, false);
    eventually("one again", || (pool.teachers() == 1).then_some(()));
    assert_eq!(ask(&pool, 8), vec![Ok(()); 8]);
    assert_eq!(scene.requeued(), 0, "it answered its batches");
}

#[test]
fn a_silently_cut_connection_is_noticed_and_used_again_once_restored() {
    let scene = Scene::new();
    let relay = Relay::to(scene.start(answers_correctly));
    let pool = scene.pool(&[relay.address], 60);
    assert_eq!(ask(&pool, 4), vec![Ok(()); 4]);
    relay.cut();
    // Nothing is in flight, so only health checks can notice it. Silence proves nothing on a connection on which no check
    // was answered yet. If the first check was not, the test restores the connection until a later one is.
    let mut cut = Instant::now();
    eventually("the teacher lost", || {
        if cut.elapsed() > Duration::from_secs(17) {
            relay.restore();
            let before = scene.health_calls();
            // The second call comes after the answer to the first.
            eventually("two checks", || {
                (scene.health_calls() >= before + 2).then_some(())
            });
            relay.cut();
            cut = Instant::now();
        }
        (pool.teachers() == 0).then_some(())
    });
    relay.restore();
    assert_eq!(ask(&pool, 4), vec![Ok(()); 4]);
}

#[test]
fn a_refused_batch_fails_its_own_ticket_only() {
    let scene = Scene::new();
    let teacher = scene.start(|batch| match batch.id {
        1 => Ok(Response::BatchError(BatchError {
            id: 1,
            reason: "unknown image format".into(),
            send_tensor: false,
        })),
        _ => answers_correctly(batch),
    });
    let pool = scene.pool(&[teacher], 30);
    let answers = ask(&pool, 3);
    assert_eq!([&answers[0], &answers[2]], [&Ok(()), &Ok(())]);
    let error = answers[1].clone().unwrap_err().to_string();
    assert!(
        error.contains("unknown image format") && error.contains(&teacher.to_string()),
        "{error}"
    );
}

/// The data of a run, with the fingerprint `split`.
fn data(split: &str) -> DataReference {
    DataReference {
        split_fingerprint: split.to_owned(),
        held_out: 0,
        drawn: 0,
        samples_fingerprint: split.to_owned(),
        views: ViewSet {
            seed: 0,
            augmentation: Augmentation::default(),
            input: SHAPE[1..].to_vec(),
            probe_sha256: common::digest::Sha256::of(b""),
        },
    }
}

/// Asks for batches of samples that a teacher may have, too.
fn ask_by_reference(pool: &TeacherPool, batches: usize) -> Vec<Result<(), PoolError>> {
    let view = View::Fixed { seed: 1, view: 0 };
    let batch = TeacherBatch {
        references: SampleReferences::of(view, [4, 2]),
        ..batch_of(Bytes::from(vec![0; SHAPE.iter().product()]))
    };
    let tickets: Vec<_> = (0..batches).map(|_| pool.submit(batch.clone())).collect();
    let cancel = CancellationToken::new();
    let wait = |ticket: Ticket| ticket.wait(&cancel).map(drop);
    tickets.into_iter().map(wait).collect()
}

#[test]
fn a_teacher_with_the_runs_data_gets_references_and_one_with_other_data_pixels() {
    for (split, sent_as, notice) in [
        (SPLIT, SentAs::References, "it gets references"),
        ("fedcba", SentAs::Pixels, "another data set (0123456789ab)"),
    ] {
        let scene = Scene::new();
        let teacher = scene.start(answers_correctly).to_string();
        let pool = scene.connect_with(PoolConfig::new(vec![teacher]), Some(data(split)));
        assert_eq!(ask_by_reference(&pool.unwrap(), 3), vec![Ok(()); 3]);
        assert_eq!(*scene.recorder.sent.lock().unwrap(), [sent_as; 3]);
        assert!(scene.has_notice(notice), "{notice}");
    }
}

#[test]
fn a_teacher_that_cannot_read_its_data_any_more_gets_pixels() {
    let scene = Scene::new();
    let teacher = scene.start(|batch| match batch.input {
        Some(Input::References(_)) => Ok(unreadable(batch)),
        _ => answers_correctly(batch),
    });
    let config = PoolConfig::new(vec![teacher.to_string()]);
    let pool = scene.connect_with(config, Some(data(SPLIT))).unwrap();
    assert_eq!(ask_by_reference(&pool, 8), vec![Ok(()); 8]);
    assert!(scene.has_notice("any more and gets pixels: cat.png has changed"));
    let sent = scene.recorder.sent.lock().unwrap().clone();
    let pixels = sent.iter().filter(|sent| **sent == SentAs::Pixels).count();
    assert_eq!(sent[0], SentAs::References);
    // A batch that is returned while it is on its way may be sent twice.
    assert!(pixels >= 8, "{sent:?}");
}

#[test]
fn a_teacher_that_asks_for_pixels_although_it_got_them_refuses_the_batch() {
    let scene = Scene::new();
    let teacher = scene.start(|batch| Ok(unreadable(batch)));
    let config = PoolConfig::new(vec![teacher.to_string()]);
    let pool = scene.connect_with(config, Some(data(SPLIT))).unwrap();
    let error = ask_by_reference(&pool, 1)[0].clone().unwrap_err();
    assert!(matches!(error, PoolError::BatchRefused { .. }), "{error}");
}

fn unreadable(batch: &Batch) -> Response {
    Response::BatchError(BatchError {
        id: batch.id,
        reason: "cat.png has changed".into(),
        send_tensor: true,
    })
}

#[test]
fn a_batch_that_one_teacher_cannot_compute_goes_to_another() {
    let scene = Scene::new();
    let broken = scene.start(|_| Err(Status::internal("out of memory")));
    let good = scene.start(answers_correctly);
    let pool = scene.pool(&[broken, good], 30);
    eventually("both connected", || (pool.teachers() == 2).then_some(()));
    // The good teacher may be so fast that the broken one gets no batch.
    eventually("a batch given to the broken one", || {
        assert_eq!(ask(&pool, 16), vec![Ok(()); 16]);
        (scene.requeued() > 0).then_some(())
    });
    eventually("the loss reported", || {
        let lost = format!("teacher {broken} is unavailable");
        (scene.has_notice(&lost) && scene.has_notice("out of memory")).then_some(())
    });
}

#[test]
fn a_stream_that_breaks_repeatedly_loses_no_batch() {
    let scene = Scene::new();
    // Breaks on every fifth batch.
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let teacher = scene.start(|batch| match SEEN.fetch_add(1, Ordering::Relaxed) % 5 {
        4 => Err(Status::unavailable("connection broken")),
        _ => answers_correctly(batch),
    });
    let pool = scene.pool(&[teacher], 30);
    assert_eq!(ask(&pool, 40), vec![Ok(()); 40]);
    assert!(scene.requeued() > 0);
    assert!(scene.has_notice("connection broken"));
}

#[test]
fn a_ticket_of_a_dropped_pool_fails() {
    let scene = Scene::new();
    let teacher = scene.start(answers_nothing);
    let pool = scene.pool(&[teacher], 30);
    let pixels = Bytes::from(vec![0; SHAPE.iter().product()]);
    let ticket = pool.submit(batch_of(pixels));
    drop(pool);
    let answer = ticket.wait(&CancellationToken::new());
    assert_eq!(answer.unwrap_err(), PoolError::Closed);
}
