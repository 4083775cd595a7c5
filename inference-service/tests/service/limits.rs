//! Slow clients.

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
async fn an_incomplete_upload_times_out_and_the_next_one_succeeds() {
    let options = ServiceOptions {
        // The time limit of complete uploads.
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
    assert_eq!(
        published.expect("the upload is complete").get_ref().version,
        1
    );
}

/// Concurrent uploads; see `grpc/publisher.rs`.
const UPLOADS: usize = 4;

#[tokio::test]
async fn endless_uploads_time_out_and_release_their_permits() {
    let options = ServiceOptions {
        set: &[
            "publish.upload_timeout_seconds=3",
            // Each part arrives in time.
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
    // Twice as many as there are permits: the second half gets the permits of the first.
    let mut publishers = Vec::new();
    for _ in 0..2 * UPLOADS {
        let (mut publisher, trickle) = (service.publisher().await, Box::pin(trickle()));
        publishers.push(async move { publisher.publish(trickle).await });
    }
    let refused = tokio::time::timeout(PATIENCE, futures::future::join_all(publishers)).await;
    for refused in refused.expect("every upload ends") {
        let status = refused.expect_err("it is late");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        let info = status.get_details_error_info().expect("a reason is given");
        assert_eq!(info.reason, "UPLOAD_TIMED_OUT", "{status}");
        assert!(status.message().contains("within 3 s"), "{status}");
    }
    assert!(service.versions().await.is_empty());
    let published = service.publish(whole).await;
    assert_eq!(published.expect("a permit is free").version, 1);
    assert_eq!(service.versions().await.len(), 1);
}

#[test]
fn a_new_connection_replaces_the_one_that_was_idle_for_the_longest_time() {
    let options = ServiceOptions {
        set: &["grpc.max_connections=2"],
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    for port in ["grpc", "admin"] {
        let mut connections: Vec<_> = (0..3)
            .map(|_| {
                let connection = TcpStream::connect(service.address(port));
                let mut connection = connection.expect("the port is open");
                let patience = Some(Duration::from_secs(60));
                let set = connection.set_read_timeout(patience);
                set.expect("it can be set");
                // The service sends the first frame (SETTINGS of HTTP/2).
                let greeted = connection.read(&mut [0; 9]).expect("it is greeted");
                assert!(greeted > 0, "{port}");
                connection
            })
            .collect();
        // The connection gets a GOAWAY, and is closed if the client does not react.
        let mut rest = Vec::new();
        match connections[0].read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{port}"),
        }
        for connection in &mut connections[1..] {
            let soon = Some(Duration::from_millis(1));
            connection.set_read_timeout(soon).expect("it can be set");
            let mut bytes = [0; 64];
            let ended = loop {
                match connection.read(&mut bytes) {
                    Ok(0) => break true,
                    Ok(_) => {}
                    Err(error) => break error.kind() != ErrorKind::WouldBlock,
                }
            };
            assert!(!ended, "{port}");
        }
    }
    service.log_once(|log| log.contains("too many connections"));
}
