//! Callers who send little, and slowly.

use std::{
    io::{ErrorKind, Read},
    net::TcpStream,
    time::Duration,
};

use futures::StreamExt;
use proto::publish::v1::{PublishRequest, publish_request::Part};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{Artifact, PATIENCE, Service, ServiceOptions};

#[tokio::test]
async fn an_upload_that_stops_in_the_middle_is_ended_and_the_next_one_succeeds() {
    let options = ServiceOptions {
        // The whole one has to come in time, too.
        set: &["grpc.read_timeout_seconds=3"],
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    let whole = Artifact::new(1).upload();
    let half = tokio_stream::iter(whole[..2].to_vec()).chain(tokio_stream::pending());
    let mut publisher = service.publisher().await;
    let status = publisher.publish(half).await.expect_err("it is late");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let info = status.get_details_error_info().expect("a reason is given");
    assert_eq!(info.reason, "BODY_TIMED_OUT");
    let published = publisher.publish(tokio_stream::iter(whole)).await;
    assert_eq!(published.expect("it is whole").get_ref().version, 1);
}

/// Places for uploads; see `publisher/service.rs`.
const UPLOADS: usize = 4;

#[tokio::test]
async fn uploads_that_trickle_for_ever_are_ended_and_give_their_places_back() {
    let options = ServiceOptions {
        set: &[
            "publish.upload_timeout_seconds=3",
            // Each part is in time.
            "grpc.read_timeout_seconds=3600",
        ],
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    let whole = Artifact::new(1).upload();
    let empty = PublishRequest {
        part: Some(Part::Chunk(Vec::new().into())),
    };
    let trickle = || {
        let parts = tokio_stream::iter(std::iter::repeat(empty.clone()));
        let parts = parts.then(async |part| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            part
        });
        tokio_stream::iter(whole[..2].to_vec()).chain(parts)
    };
    // As many as there are places, twice: the second ones get those of the first.
    let mut publishers = Vec::new();
    for _ in 0..2 * UPLOADS {
        let (mut publisher, trickle) = (service.publisher().await, Box::pin(trickle()));
        publishers.push(async move { publisher.publish(trickle).await });
    }
    let refused = tokio::time::timeout(PATIENCE, futures::future::join_all(publishers)).await;
    for refused in refused.expect("none holds its place for ever") {
        let status = refused.expect_err("it is late");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        let info = status.get_details_error_info().expect("a reason is given");
        assert_eq!(info.reason, "UPLOAD_TIMED_OUT", "{status}");
        assert!(status.message().contains("within 3 s"), "{status}");
    }
    assert!(service.versions().await.is_empty());
    let published = service.publish(whole).await;
    assert_eq!(published.expect("there is a place").version, 1);
    assert_eq!(service.versions().await.len(), 1);
}

#[test]
fn a_connection_too_many_is_closed_and_the_others_stay() {
    let options = ServiceOptions {
        set: &["grpc.max_connections=2"],
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    for port in ["grpc", "admin"] {
        let mut connections: Vec<_> = (0..3)
            .map(|_| TcpStream::connect(service.address(port)).expect("the port is open"))
            .collect();
        for connection in &connections {
            let patience = Some(Duration::from_secs(30));
            connection
                .set_read_timeout(patience)
                .expect("it can be set");
        }
        // The service speaks first where it means to go on (HTTP/2's SETTINGS).
        let mut greeted = connections.iter_mut().map(|connection| {
            let read = connection.read(&mut [0; 9]);
            match read {
                Ok(bytes) => bytes > 0,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
                Err(error) => panic!("{port}: {error}"),
            }
        });
        assert!(greeted.by_ref().take(2).all(|greeted| greeted), "{port}");
        assert_eq!(greeted.next(), Some(false), "{port}");
    }
    assert!(service.log().contains("too many connections"));
}
