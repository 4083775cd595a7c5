//! Batches that refer to samples of a data set that the teacher has too.

use std::path::Path;

use datasets::{
    Augmentation, BatchAssembler, DataSpec, Source, Subset, Targets, View, open as open_data,
};
use proto::teacher::v1::{
    Batch, BatchError, DataReference as Message, DataType, DescribeRequest, Open, Opened, Tensor,
    batch::Input, stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
};
use soft_targets::{DataReference, SampleReferences};
use test_support::write_idx;
use tonic::Code;

use crate::support::{SMALL, Teacher, Trainer, connect, fitting_open, start, write_artifact};

const VIEW: View = View::OfEpoch {
    seed: 5,
    phase: 0,
    epoch: 1,
};
const SAMPLES: usize = 40;

fn augmentation() -> Augmentation {
    Augmentation {
        pad: 2,
        horizontal_flip: true,
        ..Augmentation::default()
    }
}

/// The training samples of a run on the data in `folder`.
fn train(folder: &Path) -> Subset {
    let opened = open_data(&DataSpec::new(folder), &|_| {}).unwrap();
    Subset::whole(opened.train)
}

/// A teacher with the data in `folder`/data.
fn start_with_data(folder: &Path) -> Teacher {
    write_artifact(folder, SMALL, 7);
    let data = folder.join("data");
    write_idx(&data, SAMPLES, [8, 8]);
    start(folder, &[&format!("data.path={}", data.display())])
}

/// The reference of a run on the data in `folder`/data.
fn reference(folder: &Path) -> Message {
    let train = train(&folder.join("data"));
    let reference = DataReference::of(&train, 0, 0, augmentation(), &[1, 8, 8]);
    reference.unwrap().to_wire()
}

async fn opened(teacher: &Teacher, data: Message) -> (Trainer, Opened) {
    let mut trainer = Trainer::silent(teacher).await;
    trainer.send(Request::Open(Open {
        data: Some(data),
        ..fitting_open(teacher).await
    }));
    match trainer.next().await {
        Ok(Some(Response::Opened(opened))) => (trainer, opened),
        other => panic!("{other:?}"),
    }
}

fn send(trainer: &Trainer, id: u64, input: Input) {
    trainer.send(Request::Batch(Batch {
        id,
        input: Some(input),
        ..Batch::default()
    }));
}

fn references(positions: &[u32]) -> Input {
    let references = SampleReferences::of(VIEW, positions.iter().copied());
    Input::References(references.unwrap().to_wire())
}

async fn refusal(trainer: &mut Trainer) -> BatchError {
    match trainer.next().await.unwrap() {
        Some(Response::BatchError(error)) => error,
        other => panic!("{other:?}"),
    }
}

async fn logits(trainer: &mut Trainer) -> Vec<u8> {
    match trainer.next().await.unwrap() {
        Some(Response::SoftTargets(targets)) => targets.logits.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn references_and_the_same_samples_as_pixels_have_the_same_logits() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = start_with_data(folder.path());
    let described = connect(&teacher).await.describe(DescribeRequest {}).await;
    let described = described.unwrap().into_inner();
    let train = train(&folder.path().join("data"));
    assert_eq!(described.data_fingerprint, train.fingerprint());

    let (mut trainer, opened) = opened(&teacher, reference(folder.path())).await;
    assert!(opened.by_reference && opened.not_by_reference_because.is_empty());
    let samples = [3, 39, 3, 0];
    let targets = Targets::student(&[1, 8, 8]);
    let assembler = BatchAssembler::new(&train, augmentation(), VIEW, targets);
    let pixels = assembler.assemble(&samples).unwrap().values.into_bytes();
    let tensor = Tensor {
        data_type: DataType::U8.into(),
        shape: vec![samples.len() as u64, 1, 8, 8],
        data: pixels.into(),
    };
    send(&trainer, 1, references(&samples));
    let by_reference = logits(&mut trainer).await;
    send(&trainer, 2, Input::Tensor(tensor));
    assert!(logits(&mut trainer).await == by_reference);
    send(&trainer, 3, references(&[3, 38, 3, 0]));
    assert!(logits(&mut trainer).await != by_reference, "another sample");
}

#[tokio::test]
async fn references_that_no_trainer_sends_are_refused_and_the_stream_stays_open() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = start_with_data(folder.path());
    let (mut trainer, _) = opened(&teacher, reference(folder.path())).await;
    let changed = |change: fn(&mut proto::teacher::v1::SampleReferences)| {
        let Input::References(mut message) = references(&[1, 2]) else {
            panic!("a tensor");
        };
        change(&mut message);
        Input::References(message)
    };
    for (input, named) in [
        (references(&[0, 40]), "position 40 is outside"),
        (references(&[u32::MAX]), "position 4294967295 is outside"),
        (changed(|message| message.view = None), "no view"),
        (
            changed(|message| message.positions = vec![1; 7].into()),
            "7 bytes of positions",
        ),
        (
            changed(|message| message.positions = Default::default()),
            "0 bytes of positions",
        ),
        // 80 MB of pixels, although the message has 5 MB.
        (
            references(&vec![0; 1_250_000]),
            "more than grpc.max_message_bytes",
        ),
    ] {
        send(&trainer, 1, input);
        let error = refusal(&mut trainer).await;
        assert!(error.reason.contains(named), "{named}: {}", error.reason);
        assert!(!error.send_tensor, "{named}");
    }
    send(&trainer, 2, references(&[1, 2]));
    assert_eq!(logits(&mut trainer).await.len(), 2 * 3 * 4);
}

#[tokio::test]
async fn a_run_whose_data_or_views_differ_gets_no_references() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = start_with_data(folder.path());
    let good = reference(folder.path());
    let changed = |change: fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        message
    };
    for (data, named) in [
        (
            changed(|data| data.split_fingerprint = "other".to_owned()),
            "training split",
        ),
        (changed(|data| data.drawn_samples = 9), "training samples"),
        (
            changed(|data| data.views = data.views.replace("\"pad\":2", "\"pad\":1")),
            "renders the samples differently",
        ),
        (
            changed(|data| data.views = "{".to_owned()),
            "cannot be read",
        ),
    ] {
        let (_trainer, opened) = opened(&teacher, data).await;
        let reason = &opened.not_by_reference_because;
        assert!(
            !opened.by_reference && reason.contains(named),
            "{named}: {reason}"
        );
    }
    let without = start(folder.path(), &[]);
    let (mut trainer, opened) = opened(&without, good.clone()).await;
    let reason = &opened.not_by_reference_because;
    assert!(reason.contains("no data set"), "{reason}");
    send(&trainer, 1, references(&[1]));
    let status = trainer.next().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("no references"), "{status}");
}
