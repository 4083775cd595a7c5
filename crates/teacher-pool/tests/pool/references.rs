//! Batches of positions in the data set instead of pixels.

use crate::support::{SHAPE, SPLIT, Scene, answers_correctly, batch_of};
use bytes::Bytes;
use datasets::{Augmentation, View};
use proto::teacher::v1::batch::Input;
use proto::teacher::v1::stream_soft_targets_response::Message as Response;
use proto::teacher::v1::{Batch, BatchError};
use soft_targets::{DataReference, SampleReferences, ViewSet};
use teacher_pool::{PoolConfig, PoolError, SentAs, TeacherBatch, TeacherPool, Ticket};
use tokio_util::sync::CancellationToken;

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
