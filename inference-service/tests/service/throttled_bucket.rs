//! A publish to a bucket that throttles its clients and answers slowly.

use std::{fs, path::Path, time::Duration};

use test_support::{Bucket, Pace, RequestRelay};

use crate::{
    buckets::{comes_to_serve, start_in, start_with},
    support::{Artifact, publish},
};

/// Whether a file below `folder` has these bytes.
fn has_file(folder: &Path, bytes: &[u8]) -> bool {
    let entries = fs::read_dir(folder).expect("a readable folder");
    let mut paths = entries.map(|entry| entry.expect("a readable folder").path());
    paths.any(|path| {
        if path.is_dir() {
            has_file(&path, bytes)
        } else {
            fs::read(&path).expect("a readable file") == bytes
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_through_a_throttled_and_slow_bucket_stores_the_bytes_of_the_upload() {
    // A publish needs more than three requests: the upload, the manifest, the active version and those that look for them.
    const THROTTLED: usize = 6;
    let bucket = Bucket::start();
    let relay = RequestRelay::to(bucket.address);
    let environment = Bucket::environment_at(relay.address);
    let folder = tempfile::tempdir().expect("a folder");
    // A look for changes would be counted as a request of the publish.
    let settings = ["model_store.poll_interval_milliseconds=3600000"];
    let publisher = start_in(
        &environment,
        &bucket,
        folder.path(),
        "publisher",
        60,
        &settings,
    );
    let artifacts = [1, 2].map(Artifact::constant);
    relay.slow_down(Pace {
        piece: 256,
        pause: Duration::from_millis(1),
    });
    relay.throttle(THROTTLED);
    assert_eq!(publish(&publisher, &artifacts[0]).await, (1, false));
    assert_eq!(relay.throttled(), THROTTLED);
    comes_to_serve(&publisher, 1).await;

    // A service without the relay downloads what was stored.
    let reader = start_with(&bucket, folder.path(), "reader", 60, &[]);
    comes_to_serve(&reader, 1).await;
    let copies = folder.path().join("reader");
    assert!(has_file(&copies, &artifacts[0].onnx));
    assert!(!has_file(&copies, &artifacts[1].onnx));
}
