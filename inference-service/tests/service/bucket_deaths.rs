//! Services that are killed at every request of a publish to a bucket.

use std::sync::Arc;

use proto::inference::ModelInferResponse;
use test_support::{Bucket, RequestRelay, StopAt, eventually};

use crate::{
    buckets::{comes_to_serve, start_in, start_with},
    support::{Artifact, Load, Service, infer_request, publish},
    swaps::encoded,
};

/// The version that answers, after a check that it answers whole.
async fn serving(service: &Service) -> u64 {
    let answer = service.infer(infer_request(1).0).await;
    encoded(&answer.expect("it answers"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_killed_at_any_request_of_a_publish_leaves_the_old_or_the_new_version() {
    let bucket = Bucket::start();
    let relay = RequestRelay::to(bucket.address);
    let environment = Bucket::environment_at(relay.address);
    let folder = tempfile::tempdir().expect("a folder");
    // A look for changes would be counted as a request of the publish.
    let settings = ["model_store.poll_interval_milliseconds=3600000"];
    let start = || {
        let folder = folder.path();
        start_in(&environment, &bucket, folder, "killed", 60, &settings)
    };
    let mut killed = start();
    let other = start_with(&bucket, folder.path(), "other", 60, &[]);
    let mut version = 1;
    assert_eq!(publish(&killed, &Artifact::constant(version)).await.0, 1);
    comes_to_serve(&other, version).await;
    let check = |answer: &ModelInferResponse| assert!(encoded(answer) > 0);
    let load = Load::start(&other, 1, &infer_request(1).0, Arc::new(check)).await;

    // For each death, in the order of the moments: whether the new version serves.
    let mut deaths = Vec::new();
    let moments = (1..).flat_map(|n| [(n, StopAt::HalfRequest), (n, StopAt::Reply)]);
    for (request, moment) in moments {
        let (old, new) = (version, version + 1);
        relay.stop_at(request, moment);
        let (mut publisher, upload) = (killed.publisher().await, Artifact::constant(new).upload());
        let publishing =
            tokio::spawn(async move { publisher.publish(tokio_stream::iter(upload)).await });
        eventually("the request or the end of the publish", || {
            (relay.is_stopped() || publishing.is_finished()).then_some(())
        });
        if !relay.is_stopped() {
            // It has no such request.
            let published = publishing.await.expect("no panic");
            assert_eq!(published.expect("it is published").get_ref().version, new);
            comes_to_serve(&other, new).await;
            break;
        }
        killed.kill();
        let published = publishing.await.expect("no panic");
        assert!(published.is_err(), "a killed service answered");
        let found = serving(&other).await;
        assert!([old, new].contains(&found), "{found} serves, not {old}");
        relay.resume();

        killed = start();
        let found = serving(&killed).await;
        assert!([old, new].contains(&found), "{found} serves, not {old}");
        comes_to_serve(&other, found).await;
        println!("killed at {moment:?} of request {request}: version {found} of {old} and {new}");
        deaths.push(found == new);
        // The same model again gets the version that it had or should have had, and the next one gets the next.
        for next in [new, new + 1] {
            assert_eq!(publish(&killed, &Artifact::constant(next)).await.0, next);
            assert_eq!(serving(&killed).await, next);
            comes_to_serve(&other, next).await;
        }
        version = new + 1;
    }
    assert!(load.end().await > 0);
    // One request makes the new version serve; half of it changes nothing, nor does a request before or after it.
    assert!(deaths.is_sorted(), "{deaths:?}");
    for is_new in [false, true] {
        assert!(deaths.contains(&is_new), "{deaths:?}");
    }
}
