//! A teacher's memory stays bounded with many connections and with trainers that read or write slowly.

use std::{convert::Infallible, future::poll_fn, time::Duration};

use crate::support::{
    SMALL, SOON, Teacher, Trainer, connect, eventually, fitting_open, start, u8_tensor,
    write_artifact,
};
use futures::{StreamExt, stream as streams};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proto::teacher::v1::{
    stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tonic::{
    Code, Status,
    body::Body,
    client::GrpcService,
    codegen::{Bytes, http},
};
use tonic_types::StatusExt;

fn peak(teacher: &Teacher) -> u64 {
    teacher.process.peak_memory().unwrap()
}

/// Streams `batches` batches of 128 and reads their answers, with as many in flight as the credit allows.
async fn stream(teacher: &Teacher, batches: u64) {
    let (mut trainer, credit) = Trainer::open(teacher).await;
    let credit = u64::from(credit);
    let tensor = u8_tensor([128, 1, 8, 8], 0);
    for id in 0..batches + credit {
        if id >= credit {
            let answer = trainer.next().await.unwrap();
            assert!(
                matches!(answer, Some(Response::SoftTargets(_))),
                "{answer:?}"
            );
        }
        if id < batches {
            trainer.send_batch(id, tensor.clone());
        }
    }
}

/// `cargo test --release -p teacher-service --test teacher memory -- --nocapture` prints the figures of
/// docs/benchmarks.md.
#[tokio::test(flavor = "multi_thread")]
async fn memory_is_flat_over_a_long_stream_and_with_many_connections() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let teacher = start(folder.path(), &["grpc.max_streams=64"]);
    let at_start = peak(&teacher);
    stream(&teacher, 2_000).await;
    let warm = peak(&teacher);
    stream(&teacher, 20_000).await;
    let long = peak(&teacher);
    println!("peak memory: {at_start} MiB at the start, {warm} MiB after 2,000 batches of 128");
    println!("{long} MiB after 22,000 batches");
    assert!(long <= warm + 8, "grows from {warm} to {long} MiB");

    // Idle connections: 100 that send nothing, and 100 that stay open after one call.
    let mut silent = Vec::new();
    let mut asked = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(teacher.grpc).await.unwrap());
        let mut client = connect(&teacher).await;
        client
            .describe(proto::teacher::v1::DescribeRequest {})
            .await
            .unwrap();
        asked.push(client);
    }
    // Slow connections: the whole credit is in flight, and the trainer reads no answer.
    let mut slow = Vec::new();
    for _ in 0..20 {
        let (trainer, credit) = Trainer::open(&teacher).await;
        for id in 0..u64::from(credit) {
            trainer.send_batch(id, u8_tensor([4096, 1, 8, 8], 0));
        }
        slow.push(trainer);
    }
    let connections = teacher.metric("retort_teacher_connections");
    assert!(connections >= 220.0, "{connections}");
    eventually("the batches of the slow ones computed", || {
        (teacher.metric("retort_teacher_queue_depth") == 0.0).then_some(())
    });
    // Another trainer is still served.
    stream(&teacher, 2_000).await;
    let crowded = peak(&teacher);
    println!("{crowded} MiB with 200 idle and 20 slow connections");
    assert!(crowded <= long + 128, "grows from {long} to {crowded} MiB");
    drop((silent, asked, slow));
    eventually("the end of the connections", || {
        (teacher.metric("retort_teacher_connections") <= 1.0).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_port_closes_an_idle_connection_and_keeps_streams() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let teacher = start(folder.path(), &["grpc.max_connections=2"]);
    let (mut first, _) = Trainer::open(&teacher).await;
    let open = fitting_open(&teacher).await;
    let connections = |count: f64| {
        eventually("the count of connections", || {
            (teacher.metric("retort_teacher_connections") == count).then_some(())
        });
    };
    // Waits until the connection of `fitting_open` has ended, so that the next one is the only idle one.
    connections(1.0);
    let mut second = TcpStream::connect(teacher.grpc).await.unwrap();
    connections(2.0);
    // The teacher closes the second connection, which has no call, in favour of this one.
    let mut client = connect(&teacher).await;
    client
        .describe(proto::teacher::v1::DescribeRequest {})
        .await
        .unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(SOON, second.read_to_end(&mut rest)).await;
    let _ = ended.expect("the connection is closed");
    // A second stream takes the last place; a third connection is answered with an error.
    drop(client);
    connections(1.0);
    let mut other = Trainer::silent(&teacher).await;
    other.send(Request::Open(open));
    let opened = other.next().await;
    assert!(matches!(opened, Ok(Some(Response::Opened(_)))));
    let refused = connect(&teacher)
        .await
        .stream_soft_targets(tokio_stream::pending())
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    for trainer in [&mut first, &mut other] {
        trainer.send_batch(1, u8_tensor([1, 1, 8, 8], 0));
        assert!(matches!(
            trainer.next().await,
            Ok(Some(Response::SoftTargets(_)))
        ));
    }
    drop(other);
    connections(1.0);
    connect(&teacher)
        .await
        .describe(proto::teacher::v1::DescribeRequest {})
        .await
        .unwrap();
}

#[tokio::test]
async fn batches_wait_for_memory_and_all_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    // Room for two batches of 64 KiB and their messages.
    let settings = [
        "grpc.max_message_bytes=131072",
        "grpc.max_queued_bytes=131072",
    ];
    let teacher = start(folder.path(), &settings);
    let mut trainers = Vec::new();
    for _ in 0..4 {
        let (trainer, credit) = Trainer::open(&teacher).await;
        for id in 0..u64::from(credit) {
            trainer.send_batch(id, u8_tensor([1024, 1, 8, 8], 0));
        }
        trainers.push((trainer, credit));
    }
    for (trainer, credit) in &mut trainers {
        for id in 0..u64::from(*credit) {
            match trainer.next().await {
                Ok(Some(Response::SoftTargets(answer))) => assert_eq!(answer.id, id),
                other => panic!("{other:?}"),
            }
        }
    }
    // All batches are answered, so none waits in the queue.
    let depth = teacher.metric("retort_teacher_queue_depth");
    assert_eq!(depth, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_does_not_read_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let settings = ["grpc.reader_timeout_seconds=1", "grpc.credit=1024"];
    let teacher = start(folder.path(), &settings);
    // A few answers fill this small flow-control window.
    let endpoint = server::grpc::endpoint(&teacher.grpc.to_string()).unwrap();
    let channel = endpoint
        .initial_stream_window_size(1024)
        .connect()
        .await
        .unwrap();
    let client = proto::teacher::v1::teacher_service_client::TeacherServiceClient::new(channel);
    let mut slow = Trainer::over(client).await;
    slow.send(
        proto::teacher::v1::stream_soft_targets_request::Message::Open(
            crate::support::fitting_open(&teacher).await,
        ),
    );
    let opened = slow.next().await;
    assert!(
        matches!(opened, Ok(Some(Response::Opened(_)))),
        "{opened:?}"
    );
    for id in 0..1024 {
        slow.send_batch(id, u8_tensor([256, 1, 8, 8], 0));
    }
    eventually("the log reports a slow reader", || {
        let log = teacher.process.stderr();
        log.contains("the trainer has read no answer for 1 s")
            .then_some(())
    });
    // The trainer then reads the answers already sent, and the reason why the stream ended.
    let status = loop {
        match tokio::time::timeout(Duration::from_secs(60), slow.next())
            .await
            .unwrap()
        {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without an error"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

/// Sends only the beginning of a message and returns the status that ends the call.
async fn send_half(teacher: &Teacher, call: &str) -> Status {
    // The compression flag, the length, and three bytes of a message of 100.
    let beginning = Frame::data(Bytes::from_static(&[0, 0, 0, 0, 100, 1, 2, 3]));
    let beginning = streams::iter([Ok::<_, Infallible>(beginning)]);
    let body = StreamBody::new(beginning.chain(streams::pending()));
    let request = http::Request::post(format!("/retort.teacher.v1.TeacherService/{call}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(body))
        .unwrap();
    let endpoint = server::grpc::endpoint(&teacher.grpc.to_string()).unwrap();
    let mut channel = endpoint.connect().await.unwrap();
    poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let (head, body) = channel.call(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap();
    let status = Status::from_header_map(&head.headers);
    let status = status.or_else(|| Status::from_header_map(body.trailers()?));
    status.expect("a status")
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_message_is_given_up_and_a_silent_stream_is_not() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let teacher = start(folder.path(), &["grpc.read_timeout_seconds=3"]);
    let (mut silent, _) = Trainer::open(&teacher).await;
    for call in ["Describe", "StreamSoftTargets"] {
        let half = tokio::time::timeout(test_support::SOON, send_half(&teacher, call));
        let status = half.await.expect("the call ends");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{call}: {status}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "BODY_TIMED_OUT", "{call}");
    }
    // This stream was silent for longer than the arrival of a message may take.
    silent.send_batch(1, u8_tensor([1, 1, 8, 8], 0));
    let answer = silent.next().await.unwrap();
    assert!(
        matches!(answer, Some(Response::SoftTargets(_))),
        "{answer:?}"
    );
}
