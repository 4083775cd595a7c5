//! The `export` command: a folder, or a prefix of a bucket, with what a store in a bucket serves.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use proto::{inference::ModelInferResponse, publish::v1::PublishHeader};
use test_support::Bucket;

use crate::{
    buckets::start_with,
    support::{
        Artifact, BINARY, MODEL, Service, ServiceOptions, infer_request, publish, run_to_the_end,
        upload,
    },
};

/// The prefix of the store in [`start_with`].
const STORE: &str = "team/store";
/// A model with an active version that is not the newest one.
const OTHER: &str = "letters";

fn export(bucket: &Bucket, arguments: &[&str]) -> Output {
    let output = Command::new(BINARY)
        .args(["export", "--store", &bucket.url(STORE)])
        .args(arguments)
        .envs(bucket.environment())
        .output();
    output.expect("the program starts")
}

/// [`export`], which must succeed; returns what it says.
fn exported(bucket: &Bucket, arguments: &[&str]) -> String {
    let output = export(bucket, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

async fn answer(service: &Service, model: &str) -> ModelInferResponse {
    let (mut request, _) = infer_request(3);
    model.clone_into(&mut request.model_name);
    service.infer(request).await.expect("it answers")
}

/// A service that serves a copy of the store, as KServe starts it.
fn reader(folder: &Path) -> Service {
    Service::start(&ServiceOptions {
        store: Some(folder),
        set: &["model_store.access=read_only"],
        ..ServiceOptions::default()
    })
}

async fn publish_other(service: &Service, artifact: &Artifact) {
    let header = PublishHeader {
        model_name: OTHER.to_owned(),
        ..artifact.header()
    };
    let published = service.publish(upload(header, &artifact.onnx)).await;
    published.expect("it is published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_store_in_a_bucket_serves_the_same_logits() {
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let text = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
    let original = start_with(&bucket, folder.path(), "cache", 60, &[]);
    publish(&original, &Artifact::new(1)).await;
    publish(&original, &Artifact::new(2)).await;
    for seed in [3, 4] {
        publish_other(&original, &Artifact::new(seed)).await;
    }
    original
        .activate(OTHER, 1)
        .await
        .expect("it is rolled back");

    let copy = path("copy");
    let said = exported(&bucket, &[&text(&copy)]);
    assert!(said.contains("digits: version 2 is in"), "{said}");
    assert!(said.contains("letters: version 1 is in"), "{said}");
    let again = exported(&bucket, &[&text(&copy)]);
    assert!(again.contains("digits: version 2 is already in"), "{again}");
    let copied = reader(&copy);
    for (model, version) in [(MODEL, "2"), (OTHER, "1")] {
        let [expected, found] = [answer(&original, model).await, answer(&copied, model).await];
        assert_eq!(found.model_version, version);
        assert_eq!(found.model_version, expected.model_version);
        assert_eq!(found.raw_output_contents, expected.raw_output_contents);
    }
    // The models differ, so equal logits mean the same model.
    assert_ne!(
        answer(&copied, MODEL).await.raw_output_contents,
        answer(&copied, OTHER).await.raw_output_contents
    );

    // One model, as objects that KServe downloads.
    let target = "team/kserve/1";
    let url = bucket.url(target);
    exported(&bucket, &["--model", MODEL, &url]);
    let objects = bucket.objects(target);
    let names: Vec<&str> = objects.keys().map(String::as_str).collect();
    let expected = [
        "digits/2/manifest.json",
        "digits/2/model.onnx",
        "digits/active.json",
    ];
    assert_eq!(names, expected);
    let downloaded = path("downloaded");
    for (name, content) in &objects {
        let file = downloaded.join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("it is created");
        fs::write(file, content).expect("it is written");
    }
    let downloaded = reader(&downloaded);
    assert_eq!(
        answer(&downloaded, MODEL).await.raw_output_contents,
        answer(&original, MODEL).await.raw_output_contents
    );

    // What cannot be exported is named.
    let inside = bucket.url("team/store/copy");
    let missing = text(&path("missing"));
    for (arguments, code, part) in [
        (&[inside.as_str()][..], 2, "overlap"),
        (
            &["--model", "unknown", missing.as_str()][..],
            1,
            "`unknown`",
        ),
        (&["s3://"][..], 2, "s3://BUCKET/PREFIX"),
    ] {
        let output = export(&bucket, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn a_folder_that_a_service_writes_to_takes_no_copy() {
    let folder = tempfile::tempdir().expect("a folder");
    let [source, target] = ["source", "target"].map(|name| folder.path().join(name));
    let start = |store: &Path| {
        Service::start(&ServiceOptions {
            store: Some(store),
            ..ServiceOptions::default()
        })
    };
    let writer = start(&source);
    let _other = start(&target);
    publish(&writer, &Artifact::new(1)).await;
    let [source, target] = [&source, &target].map(|path| path.to_str().expect("UTF-8"));
    let ended = run_to_the_end(&["export", "--store", source, target]);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("in use"), "{}", ended.stderr);
    // Beside the service that writes to the store.
    let free = folder.path().join("free");
    let free = free.to_str().expect("UTF-8");
    let ended = run_to_the_end(&["export", "--store", source, free]);
    assert!(ended.status.success(), "{}", ended.stderr);
    let served = reader(Path::new(free));
    assert_eq!(served.serving_version().await, "1");
}
