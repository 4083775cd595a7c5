//! The soft-target stream of a real process: exact logits, invalid batches, rejected streams, fairness.

use crate::support::{
    SLOW, SMALL, Teacher, Trainer, fitting_open, start, u8_tensor, write_artifact,
};
use datasets::View;
use proto::teacher::v1::{
    DataType, Encoding, Open, SoftTargets, Tensor, stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
};
use soft_targets::{DrawSeeds, Encoder};
use tonic::Code;
use tonic_types::StatusExt;
use torch_networks::{Device, Mode, Precision, TorchNetwork};

fn soft_targets(response: Option<Response>) -> SoftTargets {
    match response {
        Some(Response::SoftTargets(targets)) => targets,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn logits_equal_those_of_the_network_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (model, weights) = write_artifact(folder.path(), SMALL, 7);
    torch_networks::set_threads(1);
    let network = TorchNetwork::new(&model.network, &weights, Device::Cpu).unwrap();
    for (precision, setting) in [
        (Precision::F32, "compute.precision=f32"),
        (Precision::Bf16, "compute.precision=bf16"),
    ] {
        let teacher = start(folder.path(), &[setting]);
        let (mut trainer, _) = Trainer::open(&teacher).await;
        for (id, samples) in [(10, 1), (11, 5), (12, 32)] {
            let shape = [samples, 1, 8, 8];
            let tensor = u8_tensor(shape, id as u8);
            let pixels = tensor.data.clone();
            trainer.send_batch(id, tensor);
            let answer = soft_targets(trainer.next().await.unwrap());
            assert_eq!(answer.id, id);
            assert_eq!(answer.encoding(), Encoding::F32);
            assert_eq!(answer.shape, [samples, 3]);

            let shape = shape.map(|size| size as usize);
            let (mean, std) = (&model.normalization_mean, &model.normalization_std);
            let input = torch_networks::normalize(&pixels, shape, mean, std).unwrap();
            let logits =
                tch::no_grad(|| network.forward(&input, Mode::Evaluate, precision)).unwrap();
            let logits: Vec<f32> = Vec::try_from(logits.reshape([-1])).unwrap();
            let expected: Vec<u8> = logits
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            assert_eq!(answer.logits, expected, "{precision:?}, {samples} samples");
        }
        trainer.finish();
        assert!(
            trainer.next().await.unwrap().is_none(),
            "the stream ends well"
        );
        let bare = "retort_teacher_samples_total";
        assert_eq!(teacher.metric(bare), f64::from(1 + 5 + 32));
        assert_eq!(teacher.answered(), 3.0);
    }
}

#[tokio::test]
async fn every_encoding_carries_what_f32_does() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 7);
    let teacher = start(folder.path(), &[]);
    let tensor = u8_tensor([5, 1, 8, 8], 3);
    let (mut trainer, _) = Trainer::open(&teacher).await;
    trainer.send_batch(1, tensor.clone());
    let exact = soft_targets(trainer.next().await.unwrap());
    let exact = soft_targets::SoftTargets::from_wire(exact, "f32".parse().unwrap(), 5, 3);
    let exact: Vec<f32> = exact.unwrap().logits().collect();
    for encoding in [
        "f16",
        "top-1",
        "top-2-f32",
        "top-100",
        "sampled-7",
        "sampled-7-t3",
    ] {
        let encoding: soft_targets::Encoding = encoding.parse().unwrap();
        let mut trainer = opened(&teacher, encoding).await;
        let seeds = DrawSeeds::of(encoding, View::Fixed { seed: 1, view: 0 }, 0..5);
        trainer.send_batch_with_seeds(2, tensor.clone(), &seeds);
        let answer = soft_targets(trainer.next().await.unwrap());
        let expected = Encoder::default().encode_with_seeds(encoding, &exact, 3, &seeds);
        assert_eq!(answer, expected.unwrap().to_wire(2), "{encoding}");
    }
}

/// A stream whose answers have `encoding`.
async fn opened(teacher: &Teacher, encoding: soft_targets::Encoding) -> Trainer {
    let fitting = fitting_open(teacher).await;
    let mut trainer = Trainer::silent(teacher).await;
    trainer.send(Request::Open(Open {
        model_id: fitting.model_id,
        numerics: fitting.numerics,
        ..encoding.to_open()
    }));
    assert!(matches!(
        trainer.next().await.unwrap(),
        Some(Response::Opened(_))
    ));
    trainer
}

#[tokio::test]
async fn a_sampled_batch_without_a_seed_for_each_sample_is_refused_and_the_stream_stays_open() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let teacher = start(folder.path(), &[]);
    let encoding = "sampled-50-t3".parse().unwrap();
    let mut trainer = opened(&teacher, encoding).await;
    let tensor = u8_tensor([2, 1, 8, 8], 0);
    let seeds = |count| DrawSeeds::of(encoding, View::Plain, 0..count);
    for (count, named) in [(0, "0 bytes"), (1, "8 bytes"), (3, "24 bytes")] {
        trainer.send_batch_with_seeds(1, tensor.clone(), &seeds(count));
        match trainer.next().await.unwrap() {
            Some(Response::BatchError(error)) => {
                let expected =
                    format!("{named} of draw_seeds for 2 samples as sampled-50-t3, which needs 16");
                assert_eq!(error.reason, expected);
            }
            other => panic!("{named}: {other:?}"),
        }
    }
    let mut answers = Vec::new();
    for (id, seeds) in [(2, seeds(2)), (3, seeds(2)), (4, seeds(3).slice(1..3))] {
        trainer.send_batch_with_seeds(id, tensor.clone(), &seeds);
        let answer = soft_targets(trainer.next().await.unwrap());
        assert_eq!((answer.id, answer.kept_classes.len()), (id, 2 * 50 * 2));
        assert!(answer.logits.is_empty() && answer.rest.is_empty());
        answers.push(answer.kept_classes);
    }
    assert_eq!(answers[0], answers[1]);
    assert_ne!(answers[0], answers[2], "other seeds draw the same");
}

#[tokio::test]
async fn a_bad_batch_is_answered_with_a_reason_and_the_stream_stays_open() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let teacher = start(folder.path(), &[]);
    let (mut trainer, _) = Trainer::open(&teacher).await;
    let good = u8_tensor([2, 1, 8, 8], 0);
    let bad = |change: fn(&mut Tensor)| {
        let mut tensor = good.clone();
        change(&mut tensor);
        tensor
    };
    let cases = [
        (
            bad(|tensor| tensor.shape = vec![2, 8, 8]),
            "shape [2, 8, 8]",
        ),
        (bad(|tensor| tensor.shape[1] = 3), "shape [2, 3, 8, 8]"),
        (bad(|tensor| tensor.shape[0] = 3), "needs 192"),
        (bad(|tensor| tensor.shape[0] = u64::MAX), "128 bytes"),
        (bad(|tensor| tensor.data.truncate(127)), "127 bytes"),
        (bad(|tensor| tensor.data_type = 0), "DATA_TYPE_UNSPECIFIED"),
        (bad(|tensor| tensor.data_type = 9), "data_type 9"),
        (
            bad(|tensor| tensor.data_type = DataType::F32.into()),
            "DATA_TYPE_F32 is not what this teacher takes",
        ),
        (u8_tensor([0, 1, 8, 8], 0), "batch of 1 or more"),
        (Tensor::default(), "DATA_TYPE_UNSPECIFIED"),
    ];
    let count = cases.len();
    for (id, (tensor, named)) in cases.into_iter().enumerate() {
        trainer.send_batch(id as u64, tensor);
        match trainer.next().await.unwrap() {
            Some(Response::BatchError(error)) => {
                assert_eq!(error.id, id as u64);
                assert!(error.reason.contains(named), "{named}: {}", error.reason);
            }
            other => panic!("{named}: {other:?}"),
        }
    }
    trainer.send(Request::Batch(proto::teacher::v1::Batch {
        id: 50,
        ..proto::teacher::v1::Batch::default()
    }));
    assert!(matches!(
        trainer.next().await,
        Ok(Some(Response::BatchError(_)))
    ));
    trainer.send_batch(99, good);
    assert_eq!(soft_targets(trainer.next().await.unwrap()).id, 99);
    let refused = teacher.metric("retort_teacher_batches_total{outcome=\"refused\"}");
    assert_eq!(refused, count as f64 + 1.0);
}

#[tokio::test]
async fn a_stream_that_breaks_the_contract_is_refused_with_code_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let teacher = start(folder.path(), &["grpc.max_message_bytes=4096"]);
    let open = fitting_open(&teacher).await;
    let batch = |tensor| {
        let input = Some(proto::teacher::v1::batch::Input::Tensor(tensor));
        Request::Batch(proto::teacher::v1::Batch {
            id: 1,
            input,
            ..proto::teacher::v1::Batch::default()
        })
    };
    let changed = |change: fn(&mut Open)| {
        let mut open = open.clone();
        change(&mut open);
        Request::Open(open)
    };
    let small = || batch(u8_tensor([1, 1, 8, 8], 0));
    let own_numerics = crate::support::numerics(&open);
    let cases = [
        (
            vec![small()],
            Code::InvalidArgument,
            "NOT_OPENED",
            vec!["Open"],
        ),
        (
            vec![Request::Open(open.clone()), Request::Open(open.clone())],
            Code::InvalidArgument,
            "OPENED_TWICE",
            vec![],
        ),
        (
            vec![changed(|open| open.encoding = 0)],
            Code::InvalidArgument,
            "ENCODING_NOT_OFFERED",
            vec!["encoding 0", "Describe"],
        ),
        (
            vec![changed(|open| open.encoding = Encoding::TopKF16.into())],
            Code::InvalidArgument,
            "ENCODING_NOT_OFFERED",
            vec!["k = 0"],
        ),
        (
            vec![changed(|open| {
                (open.encoding, open.k) = (Encoding::Sampled.into(), 5);
            })],
            Code::InvalidArgument,
            "ENCODING_NOT_OFFERED",
            vec!["encoding 5 with k = 5 and temperature = 0"],
        ),
        (
            vec![changed(|open| open.model_id = "abc".into())],
            Code::FailedPrecondition,
            "OTHER_MODEL",
            vec!["model abc", &open.model_id],
        ),
        (
            vec![changed(|open| {
                open.numerics.as_mut().unwrap().descriptor = "f64 on an abacus".into();
            })],
            Code::FailedPrecondition,
            "OTHER_NUMERICS",
            vec!["f64 on an abacus", &own_numerics.descriptor],
        ),
        (
            vec![changed(|open| {
                open.numerics.as_mut().unwrap().probe_sha256 = "123".into();
            })],
            Code::FailedPrecondition,
            "OTHER_NUMERICS",
            vec!["probe 123", &own_numerics.probe_sha256],
        ),
        (
            vec![changed(|open| open.numerics = None)],
            Code::FailedPrecondition,
            "OTHER_NUMERICS",
            vec![],
        ),
        (
            vec![
                Request::Open(open.clone()),
                batch(u8_tensor([100, 1, 8, 8], 0)),
            ],
            Code::OutOfRange,
            "",
            vec!["4096"],
        ),
    ];
    for (messages, code, reason, named) in cases {
        let mut trainer = Trainer::silent(&teacher).await;
        for message in messages {
            trainer.send(message);
        }
        let status = loop {
            match trainer.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{reason}: the stream ended without an error"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), code, "{reason}: {status}");
        let info = status.get_details_error_info();
        assert_eq!(info.map(|info| info.reason).unwrap_or_default(), reason);
        for part in named {
            assert!(
                status.message().contains(part),
                "{part} is not in: {status}"
            );
        }
    }
    // The service still answers other streams.
    let (mut trainer, _) = Trainer::open(&teacher).await;
    trainer.send(small());
    soft_targets(trainer.next().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_in_flight_than_the_credit_ends_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SLOW, 1);
    let teacher = start(folder.path(), &["grpc.credit=2"]);
    let (mut trainer, credit) = Trainer::open(&teacher).await;
    assert_eq!(credit, 2);
    for id in 0..8 {
        trainer.send_batch(id, u8_tensor([64, 1, 28, 28], 0));
    }
    let status = loop {
        match trainer.next().await {
            Ok(Some(Response::SoftTargets(_))) => {}
            Ok(other) => panic!("{other:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("more than 2"), "{status}");
    drop(trainer);
    crate::support::eventually("the stream's queued batches are dropped", || {
        (teacher.metric("retort_teacher_queue_depth") == 0.0).then_some(())
    });
}

// More than one thread: the client's stream ends on another thread while this one blocks.
#[tokio::test(flavor = "multi_thread")]
async fn streams_beyond_the_limit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let teacher = start(folder.path(), &["grpc.max_streams=1"]);
    let (first, _) = Trainer::open(&teacher).await;
    let requests = tokio_stream::pending();
    let refused = crate::support::connect(&teacher)
        .await
        .stream_soft_targets(requests)
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    drop(first);
    crate::support::eventually("the dropped stream no longer counts", || {
        (teacher.metric("retort_teacher_streams") == 0.0).then_some(())
    });
    Trainer::open(&teacher).await;
}

#[tokio::test]
async fn a_stream_with_one_batch_does_not_wait_for_a_stream_with_many() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SLOW, 1);
    let teacher = start(folder.path(), &["grpc.credit=200"]);
    let (mut much, credit) = Trainer::open(&teacher).await;
    let (mut little, _) = Trainer::open(&teacher).await;
    for id in 0..u64::from(credit) {
        much.send_batch(id, u8_tensor([32, 1, 28, 28], 0));
    }
    soft_targets(much.next().await.unwrap());
    little.send_batch(0, u8_tensor([32, 1, 28, 28], 0));
    soft_targets(little.next().await.unwrap());
    // A fair queue answers about three batches before `little`'s, and a few more until the metric is read.
    // In order of arrival it would answer all of them.
    let answered = teacher.answered();
    let half = f64::from(credit) / 2.0;
    assert!(answered < half, "{answered} of {credit} went before");
}
