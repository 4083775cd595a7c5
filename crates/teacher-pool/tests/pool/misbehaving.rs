//! The pool against teachers that break the contract, played in this process.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use proto::teacher::v1::{
    Batch, BatchError, DescribeRequest, DescribeResponse, Encoding, Numerics, Opened, SoftTargets,
    StreamSoftTargetsRequest, StreamSoftTargetsResponse,
    stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
    teacher_service_server::{TeacherService, TeacherServiceServer},
};
use teacher_pool::{
    BatchSize, ExpectedTeacher, PoolConfig, PoolError, PoolObserver, TeacherPool, Ticket,
};
use test_support::{Relay, eventually};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request as Call, Response as Reply, Status, Streaming, transport::server::TcpIncoming,
};
use tonic_health::server::HealthReporter;

const CLASSES: usize = 3;
const SHAPE: [usize; 4] = [2, 1, 2, 2];

/// How a teacher answers a batch.
type Answer = fn(&Batch) -> Result<Response, Status>;

/// A teacher whose answers are as bad as a test wants them.
struct Played(Answer);

#[tonic::async_trait]
impl TeacherService for Played {
    type StreamSoftTargetsStream =
        Pin<Box<dyn Stream<Item = Result<StreamSoftTargetsResponse, Status>> + Send>>;

    async fn describe(&self, _: Call<DescribeRequest>) -> Result<Reply<DescribeResponse>, Status> {
        Ok(Reply::new(DescribeResponse {
            model_id: "m".into(),
            numerics: Some(Numerics::default()),
            input_shape: SHAPE[1..].iter().map(|size| *size as u64).collect(),
            class_names: (0..CLASSES).map(|class| class.to_string()).collect(),
            encodings: vec![Encoding::F32.into()],
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
                Request::Open(_) => Response::Opened(Opened { credit: 4 }),
                Request::Batch(batch) => answer(&batch)?,
            };
            let message = Some(message);
            Ok(StreamSoftTargetsResponse { message })
        });
        // After the first error the stream is over.
        let mut over = false;
        let responses = responses.take_while(move |response: &Result<_, Status>| {
            let goes_on = !over;
            over = response.is_err();
            futures::future::ready(goes_on)
        });
        Ok(Reply::new(Box::pin(responses)))
    }
}

fn good(batch: &Batch) -> SoftTargets {
    let logits = [1.0f32; SHAPE[0] * CLASSES].map(f32::to_le_bytes).concat();
    SoftTargets {
        id: batch.id,
        encoding: Encoding::F32.into(),
        shape: vec![SHAPE[0] as u64, CLASSES as u64],
        logits: logits.into(),
        ..SoftTargets::default()
    }
}

fn answers_well(batch: &Batch) -> Result<Response, Status> {
    Ok(Response::SoftTargets(good(batch)))
}

struct Scene {
    runtime: Runtime,
    notices: Arc<Notices>,
}

/// The notices of a pool.
#[derive(Debug, Default)]
struct Notices(Mutex<Vec<String>>);

impl PoolObserver for Notices {
    fn notice(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }
}

impl Scene {
    fn new() -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            notices: Arc::default(),
        }
    }

    fn play(&self, answer: Answer) -> SocketAddr {
        self.play_with_health(answer).0
    }

    fn play_with_health(&self, answer: Answer) -> (SocketAddr, HealthReporter) {
        let _guard = self.runtime.enter();
        let listener = self
            .runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let (health, health_service) = tonic_health::server::health_reporter();
        self.serves(&health, true);
        let server = server::grpc::server()
            .add_service(health_service)
            .add_service(TeacherServiceServer::new(Played(answer)));
        self.runtime
            .spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (address, health)
    }

    fn serves(&self, health: &HealthReporter, serves: bool) {
        self.runtime.block_on(async {
            match serves {
                true => health.set_serving::<TeacherServiceServer<Played>>().await,
                false => {
                    health
                        .set_not_serving::<TeacherServiceServer<Played>>()
                        .await
                }
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
        let [_, channels, height, width] = SHAPE;
        let expected = ExpectedTeacher {
            input_shape: [channels, height, width],
            classes: CLASSES,
            class_names: None,
            largest_batch: BatchSize {
                images: SHAPE[0],
                key: "batch".to_owned(),
            },
            identity: None,
        };
        let cancel = CancellationToken::new();
        let observer = self.notices.clone();
        TeacherPool::connect(config, expected, observer, &cancel, self.runtime.handle())
    }

    fn told(&self, text: &str) -> bool {
        self.notices
            .0
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains(text))
    }
}

fn ask(pool: &TeacherPool, batches: usize) -> Vec<Result<(), PoolError>> {
    let pixels = Bytes::from(vec![0; SHAPE.iter().product()]);
    let tickets: Vec<_> = (0..batches)
        .map(|_| pool.submit(pixels.clone(), SHAPE))
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
fn a_teacher_that_does_not_offer_the_encoding_is_refused_by_name() {
    let scene = Scene::new();
    let teacher = scene.play(answers_well).to_string();
    let config = PoolConfig {
        wait_timeout_seconds: 1,
        encoding: soft_targets::Encoding::F16,
        ..PoolConfig::new(vec![teacher.clone()])
    };
    let Err(error) = scene.connect(config) else {
        panic!("it is taken");
    };
    let said = error.to_string();
    for part in [&teacher, "does not offer soft targets as f16"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

#[test]
fn a_wrong_answer_bars_its_teacher_and_another_answers_the_batch() {
    let cases: [(Answer, &str); 6] = [
        (
            |batch| {
                let mut answer = good(batch);
                answer.shape.swap(0, 1);
                Ok(Response::SoftTargets(answer))
            },
            "shape [3, 2]",
        ),
        (
            |batch| {
                let mut answer = good(batch);
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
                let answer = good(batch);
                Ok(Response::SoftTargets(SoftTargets { logits, ..answer }))
            },
            "a logit is NaN",
        ),
        (
            |batch| {
                let id = batch.id + 1000;
                let answer = good(batch);
                Ok(Response::SoftTargets(SoftTargets { id, ..answer }))
            },
            "which it does not have",
        ),
        (
            |_| Ok(Response::Opened(Opened { credit: 1 })),
            "opened an open stream",
        ),
        (
            |_| Err(Status::out_of_range("the message is too large")),
            "the message is too large",
        ),
    ];
    for (answer, reason) in cases {
        let scene = Scene::new();
        let [bad, well] = [scene.play(answer), scene.play(answers_well)];
        let pool = scene.pool(&[bad, well], 30);
        let barred = format!("teacher {bad} is refused");
        eventually("both connected, or the bad one barred already", || {
            (pool.teachers() == 2 || scene.told(&barred)).then_some(())
        });
        eventually("the bad one barred", || {
            assert_eq!(ask(&pool, 8), vec![Ok(()); 8], "{reason}");
            scene.told(&barred).then_some(())
        });
        assert!(scene.told(reason), "{:?}", scene.notices);
        assert!(pool.figures().requeued > 0);
    }
}

#[test]
fn when_everybody_is_barred_the_run_fails_and_says_why() {
    let scene = Scene::new();
    let bad = scene.play(|_| Err(Status::invalid_argument("no")));
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

/// Never answers: a credit message is no answer.
fn answers_nothing(_: &Batch) -> Result<Response, Status> {
    Ok(Response::Credit(proto::teacher::v1::Credit { credit: 4 }))
}

#[test]
fn a_teacher_that_never_answers_is_helped_out_and_let_go() {
    let scene = Scene::new();
    let [silent, well] = [scene.play(answers_nothing), scene.play(answers_well)];
    let pool = scene.pool(&[silent, well], 30);
    eventually("both connected", || (pool.teachers() == 2).then_some(()));
    // The other may be so fast that nothing is left for the silent one; on a slow machine that one is
    // let go before anybody else is asked.
    eventually("the silent one helped out", || {
        assert_eq!(ask(&pool, 16), vec![Ok(()); 16]);
        let figures = pool.figures();
        (figures.hedged + figures.requeued > 0).then_some(())
    });
    eventually("the silent one let go", || {
        let told = format!("teacher {silent} is away: no answer within 2s");
        scene.told(&told).then_some(())
    });
}

#[test]
fn when_nobody_answers_tickets_say_so_and_those_that_follow_at_once() {
    const WAIT_SECONDS: u64 = 4;
    let scene = Scene::new();
    let silent = scene.play(answers_nothing);
    let pool = scene.pool(&[silent], WAIT_SECONDS);
    let gone = |answers: Vec<Result<(), PoolError>>| {
        for answer in answers {
            let error = answer.unwrap_err();
            assert!(matches!(error, PoolError::TeachersGone { .. }), "{error}");
            assert!(error.to_string().contains(&silent.to_string()), "{error}");
        }
    };
    gone(ask(&pool, 3));
    // Unless the silent one has come back meanwhile, and is waited for again.
    eventually("tickets that fail at once", || {
        let again = Instant::now();
        gone(ask(&pool, 3));
        (again.elapsed() < Duration::from_secs(WAIT_SECONDS)).then_some(())
    });
}

#[test]
fn only_a_teacher_that_says_it_serves_is_used() {
    let scene = Scene::new();
    let always = scene.play(answers_well);
    let (at_times, health) = scene.play_with_health(answers_well);
    scene.serves(&health, false);
    let pool = scene.pool(&[always, at_times], 30);
    let says = format!("teacher {at_times} is away: says that it is NOT_SERVING");
    eventually("the one that does not serve", || {
        scene.told(&says).then_some(())
    });
    assert_eq!(ask(&pool, 8), vec![Ok(()); 8]);
    assert_eq!(pool.teachers(), 1);
    scene.serves(&health, true);
    eventually("both", || (pool.teachers() == 2).then_some(()));
    scene.serves(&health, false);
    eventually("one again", || (pool.teachers() == 1).then_some(()));
    assert_eq!(ask(&pool, 8), vec![Ok(()); 8]);
    assert_eq!(pool.figures().requeued, 0, "what it had, it answered");
}

#[test]
fn a_wire_that_is_cut_without_a_word_is_noticed_and_used_again_once_mended() {
    let scene = Scene::new();
    let relay = Relay::to(scene.play(answers_well));
    let pool = scene.pool(&[relay.address], 60);
    assert_eq!(ask(&pool, 4), vec![Ok(()); 4]);
    relay.cut();
    // Nothing is in flight: only health checks can tell. The silence of a teacher that has answered none
    // on this connection yet says nothing, so the wire is mended for a moment, and cut again. The
    // time is no multiple of that between two checks.
    let mut cut = Instant::now();
    eventually("the teacher lost", || {
        if cut.elapsed() > Duration::from_secs(17) {
            relay.mend();
            assert_eq!(ask(&pool, 1), vec![Ok(())]);
            relay.cut();
            cut = Instant::now();
        }
        (pool.teachers() == 0).then_some(())
    });
    relay.mend();
    assert_eq!(ask(&pool, 4), vec![Ok(()); 4]);
}

#[test]
fn a_refused_batch_fails_its_own_ticket_only() {
    let scene = Scene::new();
    let teacher = scene.play(|batch| match batch.id {
        1 => Ok(Response::BatchError(BatchError {
            id: 1,
            reason: "I do not like it".into(),
        })),
        _ => answers_well(batch),
    });
    let pool = scene.pool(&[teacher], 30);
    let answers = ask(&pool, 3);
    assert_eq!([&answers[0], &answers[2]], [&Ok(()), &Ok(())]);
    let error = answers[1].clone().unwrap_err().to_string();
    assert!(
        error.contains("I do not like it") && error.contains(&teacher.to_string()),
        "{error}"
    );
}

#[test]
fn what_one_teacher_cannot_compute_another_does() {
    let scene = Scene::new();
    let broken = scene.play(|_| Err(Status::internal("out of memory")));
    let well = scene.play(answers_well);
    let pool = scene.pool(&[broken, well], 30);
    eventually("both connected", || (pool.teachers() == 2).then_some(()));
    // The other may be so fast that nothing is left for the broken one.
    eventually("a batch given to the broken one", || {
        assert_eq!(ask(&pool, 16), vec![Ok(()); 16]);
        (pool.figures().requeued > 0).then_some(())
    });
    eventually("the loss told", || {
        let away = format!("teacher {broken} is away");
        (scene.told(&away) && scene.told("out of memory")).then_some(())
    });
}

#[test]
fn a_stream_that_breaks_again_and_again_loses_nothing() {
    let scene = Scene::new();
    // Breaks on every fifth batch that it sees, whoever sent it.
    static SEEN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let teacher =
        scene.play(
            |batch| match SEEN.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 5 {
                4 => Err(Status::unavailable("a wire broke")),
                _ => answers_well(batch),
            },
        );
    let pool = scene.pool(&[teacher], 30);
    assert_eq!(ask(&pool, 40), vec![Ok(()); 40]);
    assert!(pool.figures().requeued > 0);
    assert!(scene.told("a wire broke"));
}

#[test]
fn a_ticket_of_a_dropped_pool_fails() {
    let scene = Scene::new();
    let teacher = scene.play(answers_nothing);
    let pool = scene.pool(&[teacher], 30);
    let ticket = pool.submit(Bytes::from(vec![0; SHAPE.iter().product()]), SHAPE);
    drop(pool);
    let answer = ticket.wait(&CancellationToken::new());
    assert_eq!(answer.unwrap_err(), PoolError::Closed);
}
