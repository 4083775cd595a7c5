//! The pool with teachers that violate the protocol, fail, or do not answer. They run in this process.

use crate::support::{Answer, CLASSES, SHAPE, Scene, answers_correctly, ask, batch_of, correct};
use bytes::Bytes;
use proto::teacher::v1::stream_soft_targets_response::Message as Response;
use proto::teacher::v1::{Batch, BatchError, Opened, SoftTargets};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use teacher_pool::{PoolConfig, PoolError};
use test_support::{Relay, eventually};
use tokio_util::sync::CancellationToken;
use tonic::Status;

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
