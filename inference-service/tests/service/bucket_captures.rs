//! Captured samples in a bucket of a real object store.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::Path,
};

use test_support::Bucket;

use crate::support::{
    Artifact, MODEL, PIXELS, Service, ServiceOptions, distinct_images, image_request, publish,
    read_captured, wait_until,
};

const PREFIX: &str = "team/captured";
const UPLOADED: &str = "retort_capture_uploaded_samples";

/// Starts a service that captures every request, in a bucket, with `spool`.
fn start(bucket: &Bucket, spool: &Path, settings: &[&str]) -> Service {
    let environment = bucket.environment();
    let environment = environment
        .each_ref()
        .map(|(name, value)| (OsStr::new(*name), OsStr::new(value)));
    let folder = format!("capture.folder={}", bucket.url(PREFIX));
    let spool = format!("capture.spool={}", spool.display());
    let own = ["capture.share=1.0", folder.as_str(), spool.as_str()];
    Service::start(&ServiceOptions {
        set: &[&own[..], settings].concat(),
        environment: &environment,
        ..ServiceOptions::default()
    })
}

/// Sends a request for each of `requests`.
async fn infer(service: &Service, requests: &[Vec<u8>]) {
    for pixels in requests {
        let response = service.infer(image_request(pixels)).await;
        response.expect("it answers");
    }
}

/// The samples that a run reads from a copy of the objects.
fn read_objects(objects: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let copy = tempfile::tempdir().expect("a folder");
    for (name, content) in objects {
        let path = copy.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it is created");
        fs::write(path, content).expect("it is written");
    }
    read_captured(copy.path())
}

/// The number of files in the spool.
fn spooled(spool: &Path) -> usize {
    let Ok(files) = fs::read_dir(spool.join(MODEL).join("1x8x8")) else {
        return 0;
    };
    files.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_does_not_answer_at_first_gets_what_a_folder_would_hold() {
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let [data, spool] = ["data", "spool"].map(|name| folder.path().join(name));
    let settings = ["capture.write_after_seconds=1"];
    bucket.stall();
    let to_bucket = start(&bucket, &spool, &settings);
    let data_folder = format!("capture.folder={}", data.display());
    let to_folder = Service::start(&ServiceOptions {
        set: &["capture.share=1.0", &data_folder, settings[0]],
        ..ServiceOptions::default()
    });
    let requests = [
        distinct_images(0, 3),
        distinct_images(50, 1),
        distinct_images(100, 2),
    ];
    for service in [&to_bucket, &to_folder] {
        publish(service, &Artifact::new(1)).await;
        infer(service, &requests).await;
        wait_until(|| service.metric("retort_capture_samples") >= 6.0);
    }
    to_bucket.log_once(|log| log.contains("captured samples wait for their upload"));
    assert_eq!(to_bucket.metric(UPLOADED), 0.0);
    assert!(spooled(&spool) > 0);
    infer(&to_bucket, &[distinct_images(0, 1)]).await;
    infer(&to_folder, &[distinct_images(0, 1)]).await;

    bucket.restore();
    wait_until(|| to_bucket.metric(UPLOADED) >= 7.0);
    wait_until(|| to_folder.metric("retort_capture_samples") >= 7.0);
    assert_eq!(spooled(&spool), 0);
    assert_eq!(to_bucket.metric("retort_capture_dropped_samples"), 0.0);
    let objects = bucket.objects(PREFIX);
    let expected = [requests.concat(), distinct_images(0, 1)].concat();
    assert_eq!(read_objects(&objects), expected);
    assert_eq!(read_captured(&data), expected);
    for name in objects.keys() {
        assert!(name.starts_with("digits/1x8x8/x-"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_share_a_prefix_and_upload_the_last_samples_when_they_stop() {
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [
        "capture.write_after_seconds=3600",
        "shutdown.drain_seconds=120",
    ];
    let mut expected = BTreeSet::new();
    let services = ["one", "two"].map(|name| start(&bucket, &folder.path().join(name), &settings));
    for (number, service) in services.iter().enumerate() {
        let pixels = distinct_images(100 * number as u8, 2);
        publish(service, &Artifact::new(1)).await;
        infer(service, std::slice::from_ref(&pixels)).await;
        expected.extend(pixels.chunks(PIXELS).map(<[u8]>::to_vec));
    }
    assert_eq!(bucket.objects(PREFIX).len(), 0);
    for service in services {
        service.terminate();
        assert!(service.wait().success());
    }
    let objects = bucket.objects(PREFIX);
    assert_eq!(objects.len(), 2, "a file of each service");
    let found = read_objects(&objects);
    assert_eq!(found.len(), 4 * PIXELS);
    let found: BTreeSet<_> = found.chunks(PIXELS).map(<[u8]>::to_vec).collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_that_a_stopped_service_could_not_upload_are_uploaded_by_the_next_one() {
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let spool = folder.path().join("spool");
    let settings = [
        "capture.write_after_seconds=3600",
        "shutdown.drain_seconds=5",
    ];
    bucket.stall();
    let service = start(&bucket, &spool, &settings);
    publish(&service, &Artifact::new(1)).await;
    infer(&service, &[distinct_images(7, 2)]).await;
    service.terminate();
    service.log_once(|log| log.contains("the others stay in the spool"));
    assert!(service.wait().success());
    assert_eq!(spooled(&spool), 1);

    bucket.restore();
    let next = start(&bucket, &spool, &settings);
    wait_until(|| next.metric(UPLOADED) >= 2.0);
    assert_eq!(spooled(&spool), 0);
    assert_eq!(read_objects(&bucket.objects(PREFIX)), distinct_images(7, 2));
}
