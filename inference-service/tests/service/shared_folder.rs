//! Services that share a model store in a folder: one writes, others read.

use proto::inference::ModelReadyRequest;
use tokio::time::timeout;
use tonic::Code;

use crate::support::{Artifact, MODEL, PATIENCE, Service, ServiceOptions, publish};

/// Waits until the service answers with this version.
async fn comes_to_serve(service: &Service, version: &str) {
    let change = async { while service.serving_version().await != version {} };
    timeout(PATIENCE, change).await.expect("it follows");
}

#[tokio::test]
async fn a_reader_follows_the_writer_and_changes_nothing() {
    let models = tempfile::tempdir().unwrap();
    let writing = ServiceOptions {
        store: Some(models.path()),
        ..ServiceOptions::default()
    };
    let reading = ServiceOptions {
        set: &[
            "model_store.access=read_only",
            "model_store.poll_interval_milliseconds=20",
        ],
        ..writing
    };
    let writer = Service::start(&writing);
    publish(&writer, &Artifact::new(1)).await;
    let reader = Service::start(&reading);
    assert_eq!(reader.serving_version().await, "1");

    publish(&writer, &Artifact::new(2)).await;
    comes_to_serve(&reader, "2").await;
    writer.activate(MODEL, 1).await.unwrap();
    comes_to_serve(&reader, "1").await;

    let refused = [
        reader
            .publish(Artifact::new(3).upload())
            .await
            .map(drop)
            .unwrap_err(),
        reader.activate(MODEL, 2).await.map(drop).unwrap_err(),
        reader.delete(MODEL, 2).await.unwrap_err(),
        reader.delete_model(MODEL).await.map(drop).unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains("read_only"), "{status}");
    }
    assert_eq!(reader.serving_version().await, "1");

    // The reader neither keeps a writer out nor needs one.
    drop(writer);
    let writer = Service::start(&writing);
    publish(&writer, &Artifact::new(3)).await;
    comes_to_serve(&reader, "3").await;
    writer.delete_model(MODEL).await.unwrap();
    let request = ModelReadyRequest {
        name: MODEL.to_owned(),
        version: String::new(),
    };
    let deletion = async {
        let mut client = reader.inference().await;
        loop {
            let ready = client.model_ready(request.clone()).await;
            if !ready.is_ok_and(|ready| ready.get_ref().ready) {
                return;
            }
        }
    };
    timeout(PATIENCE, deletion).await.expect("it follows");
}
