//! Services that share a model store in a bucket of a real object store.

use std::{collections::BTreeSet, ffi::OsStr, path::Path, process::Command, sync::Arc};

use proto::{
    inference::{ModelInferRequest, ModelInferResponse},
    publish::v1::PublishHeader,
};
use test_support::{Bucket, unused_address};
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::{
    support::{
        Artifact, BINARY, FREE_PORTS, Load, MODEL, PATIENCE, Service, ServiceOptions,
        infer_request, upload,
    },
    swaps::encoded,
};

/// How often a service looks for changes of the bucket.
pub const POLL_MILLISECONDS: u64 = 50;

/// A model that no load calls.
const OTHER: &str = "letters";

/// Starts a service on the bucket, with the folder `name` in `folder` as its cache. It waits for answers of the bucket
/// for so many seconds.
fn start(bucket: &Bucket, folder: &Path, name: &str, patience: u64) -> Service {
    start_with(bucket, folder, name, patience, &[])
}

/// [`start`] with further settings.
pub fn start_with(
    bucket: &Bucket,
    folder: &Path,
    name: &str,
    patience: u64,
    settings: &[&str],
) -> Service {
    start_in(
        &bucket.environment(),
        bucket,
        folder,
        name,
        patience,
        settings,
    )
}

/// [`start_with`] in an environment that may give the bucket another address, that of a relay.
pub fn start_in(
    environment: &[(&'static str, String); 4],
    bucket: &Bucket,
    folder: &Path,
    name: &str,
    patience: u64,
    settings: &[&str],
) -> Service {
    let environment = environment
        .each_ref()
        .map(|(name, value)| (OsStr::new(*name), OsStr::new(value)));
    let patience = format!("model_store.patience_seconds={patience}");
    let cache = format!("model_store.cache={}", folder.join(name).display());
    let interval = format!("model_store.poll_interval_milliseconds={POLL_MILLISECONDS}");
    let mut set = vec![interval.as_str(), patience.as_str(), cache.as_str()];
    set.extend(settings);
    Service::start(&ServiceOptions {
        store: Some(Path::new(&bucket.url("team/store"))),
        set: &set,
        environment: &environment,
        ..ServiceOptions::default()
    })
}

async fn answer(service: &Service, model: &str) -> Result<ModelInferResponse, Status> {
    let request = ModelInferRequest {
        model_name: model.to_owned(),
        ..infer_request(1).0
    };
    service.infer(request).await
}

/// Waits until the service's answer for `model` satisfies `is_right`.
async fn comes_to_answer(
    service: &Service,
    model: &str,
    is_right: impl Fn(Result<ModelInferResponse, Status>) -> bool,
) {
    let change = async { while !is_right(answer(service, model).await) {} };
    timeout(PATIENCE, change).await.expect("it follows");
}

/// Waits until the service answers with this version of [`MODEL`], and checks that it stays with it.
pub async fn comes_to_serve(service: &Service, version: u64) {
    let serves = |found: Result<ModelInferResponse, Status>| {
        found.is_ok_and(|found| encoded(&found) == version)
    };
    comes_to_answer(service, MODEL, serves).await;
    for _ in 0..20 {
        let found = answer(service, MODEL).await.expect("it answers");
        assert_eq!(encoded(&found), version);
    }
}

async fn publish(service: &Service, n: u64) -> Result<u64, Status> {
    let published = service.publish(Artifact::constant(n).upload()).await?;
    Ok(published.version)
}

/// Publishes until it succeeds: a slow machine may answer too late.
async fn publish_in_the_end(service: &Service, n: u64) {
    let published = async {
        loop {
            match publish(service, n).await {
                Ok(version) => return version,
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
            }
        }
    };
    let version = timeout(PATIENCE, published).await.expect("it is stored");
    assert_eq!(version, n);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_on_one_bucket_serve_what_any_of_them_publishes_and_deletes() {
    const PUBLISHES: u64 = 4;
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let services = ["first", "second"].map(|name| start(&bucket, folder.path(), name, 60));
    for n in 1..=PUBLISHES {
        let (publisher, other) = match n % 2 {
            0 => (&services[0], &services[1]),
            _ => (&services[1], &services[0]),
        };
        assert_eq!(publish(publisher, n).await.expect("it is stored"), n);
        comes_to_serve(publisher, n).await;
        comes_to_serve(other, n).await;
    }
    // The same model again, at the other service: nothing is stored.
    let again = services[1].publish(Artifact::constant(2).upload()).await;
    let again = again.expect("it is stored");
    assert_eq!((again.version, again.already_published), (2, true));
    comes_to_serve(&services[0], 2).await;
    services[0].delete(MODEL, 3).await.expect("it is stored");
    assert_eq!(
        services[1].versions().await.len() as u64,
        PUBLISHES - 1,
        "all but the deleted one"
    );

    // A service that starts later serves the same.
    let third = start(&bucket, folder.path(), "third", 60);
    comes_to_serve(&third, 2).await;
    let deleted = third.delete_model(MODEL).await.expect("it is stored");
    assert_eq!(deleted.len() as u64, PUBLISHES - 1);
    for service in &services {
        comes_to_answer(service, MODEL, |found| {
            found.is_err_and(|status| status.code() == Code::NotFound)
        })
        .await;
    }
    // The numbers continue.
    let next = publish(&services[0], PUBLISHES + 1).await;
    assert_eq!(next.expect("it is stored"), PUBLISHES + 1);
    comes_to_serve(&third, PUBLISHES + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_publishes_at_the_same_time_one_serves_everywhere() {
    const ROUNDS: u64 = 8;
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let services = ["first", "second"].map(|name| start(&bucket, folder.path(), name, 60));
    let publish = async |service: &Service, n: u64| {
        let artifact = Artifact::constant(n);
        let header = PublishHeader {
            model_name: OTHER.to_owned(),
            ..artifact.header()
        };
        let published = service.publish(upload(header, &artifact.onnx)).await;
        published.map(|published| published.version)
    };
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let (one, two) = tokio::join!(
            publish(&services[0], 2 * round + 1),
            publish(&services[1], 2 * round + 2)
        );
        assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
        for result in [one, two] {
            match result {
                Ok(version) => assert!(acknowledged.insert(version), "{version} twice"),
                Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
            }
        }
    }
    // A refused publish leaves no version behind.
    let stored = services[0].versions().await;
    let active = stored.iter().filter(|version| version.active);
    let active: Vec<u64> = active.map(|version| version.version).collect();
    let stored: BTreeSet<u64> = stored.iter().map(|version| version.version).collect();
    assert_eq!(stored, acknowledged);
    let [active] = active[..] else {
        panic!("{active:?}");
    };
    for service in &services {
        comes_to_answer(service, OTHER, |found| {
            found.is_ok_and(|found| found.model_version == active.to_string())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_does_not_answer_stops_publishes_and_nothing_else() {
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let services = ["first", "second"].map(|name| start(&bucket, folder.path(), name, 2));
    publish_in_the_end(&services[0], 1).await;
    comes_to_serve(&services[1], 1).await;
    let check = |response: &ModelInferResponse| assert!(encoded(response) > 0);
    let load = Load::start(&services[1], 2, &infer_request(1).0, Arc::new(check)).await;

    bucket.stall();
    let refused = publish(&services[0], 2).await.expect_err("it cannot store");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    services[1].log_once(|log| log.contains("the model store does not answer"));
    load.answers(50).await;
    for service in &services {
        let answered = answer(service, MODEL).await.expect("it answers");
        assert_eq!(encoded(&answered), 1);
    }

    bucket.restore();
    publish_in_the_end(&services[0], 2).await;
    comes_to_serve(&services[1], 2).await;
    assert!(load.end().await > 0);

    // A service stops in time while the bucket does not answer.
    bucket.stall();
    let [first, second] = services;
    second.log_once(|log| log.matches("the model store does not answer").count() > 1);
    for service in [first, second] {
        service.terminate();
        assert!(service.wait().success());
    }
}

#[test]
fn a_bucket_without_a_server_is_named_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = format!("model_store.cache={}", folder.path().display());
    let endpoint = format!("http://{}", unused_address());
    let ended = Command::new(BINARY)
        .args(["serve", "--store", "s3://models/team"])
        .args(FREE_PORTS)
        .args(["--set", &cache, "--set", "model_store.patience_seconds=1"])
        .envs([
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_SKIP_SIGNATURE", "true"),
        ])
        .output()
        .expect("the program starts");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("s3://models/team"), "{stderr}");
}
