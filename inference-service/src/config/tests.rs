use common::config::Layers;

use super::*;

fn load(overrides: &[&str]) -> Result<InferenceConfig, String> {
    let layers = Layers {
        overrides: overrides.iter().map(Into::into).collect(),
        ..Layers::shipped(InferenceConfig::SHIPPED)
    };
    layers.load().map_err(|error| error.to_string())
}

#[test]
fn the_shipped_file_is_complete() {
    let config = load(&[]).unwrap();
    assert_eq!(config.http.listen.port(), 8000);
    assert_eq!(config.grpc.listen.port(), 8001);
    assert_eq!(config.metrics.listen.port(), 8002);
    assert_eq!(config.admin.listen.port(), 8003);
}

#[test]
fn the_teacher_of_the_page_is_an_address_and_needs_the_page() {
    let teacher = "http.demo_page_teacher=127.0.0.1:50051";
    let config = load(&["http.demo_page=true", teacher]).unwrap();
    assert_eq!(
        config.http.demo_page_teacher.as_deref(),
        Some("127.0.0.1:50051")
    );
    let error = load(&[teacher]).unwrap_err();
    assert!(error.contains("http.demo_page = true"), "{error}");
    let error = load(&["http.demo_page=true", "http.demo_page_teacher=nowhere"]).unwrap_err();
    assert!(error.contains("host:port"), "{error}");
}

#[test]
fn a_models_table_overrides_the_defaults() {
    let config = load(&[
        "models.cats.max_batch_size=8",
        "models.cats.deterministic=true",
        "models.cats.version_policy={ specific = { versions = [2] } }",
        "models.dogs.instances=3",
        "runtime.threads=2",
    ]);
    let config = config.unwrap();
    let cats = config.model("cats");
    assert_eq!(cats.batching.max_batch_size, 8);
    assert_eq!(cats.batching.max_queue_size, config.batching.max_queue_size);
    assert!(cats.runtime.deterministic);
    assert_eq!(cats.runtime.threads, 2);
    let versions = vec![2];
    assert_eq!(cats.version_policy, VersionPolicy::Specific { versions });
    let dogs = config.model("dogs");
    assert_eq!(dogs.runtime.instances, Instances::Count(3));
    assert_eq!(dogs.batching.max_batch_size, config.batching.max_batch_size);
    assert_eq!(
        dogs.version_policy,
        VersionPolicy::Latest { num_versions: 1 }
    );
}

#[test]
fn ports_reachable_from_other_machines_require_access_to_be_explicit() {
    for table in ["grpc", "http", "admin", "metrics"] {
        let open = format!("{table}.listen=0.0.0.0:1");
        let error = load(&[&open]).unwrap_err();
        let explicit = format!("{table}.access = \"anyone_who_reaches_the_port\"");
        assert!(error.contains(&explicit), "{error}");
        let explicit = format!("{table}.access=anyone_who_reaches_the_port");
        assert!(load(&[&open, &explicit]).is_ok());
    }
}

#[test]
fn contradicting_settings_are_rejected_with_both_keys() {
    let delay = "batching.max_queue_delay_microseconds=500000";
    for (settings, parts) in [
        (
            [delay, "batching.default_timeout_microseconds=500000"],
            [
                "batching.default_timeout_microseconds = 500000",
                "batching.max_queue_delay_microseconds = 500000",
            ],
        ),
        (
            [delay, "models.cats.default_timeout_microseconds=200000"],
            [
                "models.cats.default_timeout_microseconds = 200000",
                "models.cats.max_queue_delay_microseconds = 500000",
            ],
        ),
        (
            ["http.listen=127.0.0.1:9000", "admin.listen=127.0.0.1:9000"],
            ["admin.listen = 127.0.0.1:9000", "http.listen"],
        ),
    ] {
        let error = load(&settings).unwrap_err();
        assert!(error.starts_with("1 problem"), "{error}");
        for part in parts {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }
    for settings in [
        [delay, "batching.default_timeout_microseconds=500001"],
        [delay, "batching.default_timeout_microseconds=0"],
        ["http.listen=127.0.0.1:0", "admin.listen=127.0.0.1:0"],
        ["http.listen=127.0.0.1:9000", "admin.listen=127.0.0.2:9000"],
    ] {
        assert!(load(&settings).is_ok(), "{settings:?}");
    }
}

#[test]
fn captured_samples_are_kept_in_a_folder_or_in_a_bucket() {
    let location = |folder: &str| {
        let config = load(&[&format!("capture.folder={folder}")]).unwrap();
        config.capture.location().unwrap()
    };
    assert_eq!(location("a/b"), Location::Folder("a/b".into()));
    assert_eq!(location("file:///a"), Location::Folder("/a".into()));
    for url in ["s3://b/captured", "gs://b", "az://b/captured"] {
        let Location::Bucket(bucket) = location(url) else {
            panic!("{url} is a bucket");
        };
        assert_eq!(bucket.to_string(), url);
    }
}

#[test]
fn names_of_models_keep_capitals_and_dots() {
    let layers = Layers {
        environment: vec![common::config::Variable {
            name: "RETORT_INFERENCE__MODELS__ResNet8__MAX_BATCH_SIZE".into(),
            key: "MODELS__ResNet8__MAX_BATCH_SIZE".into(),
            value: "4".into(),
        }],
        overrides: vec!["models.\"v1.0\".max_batch_size=5".into()],
        ..Layers::shipped(InferenceConfig::SHIPPED)
    };
    let config: InferenceConfig = layers.load().unwrap();
    assert_eq!(config.model("ResNet8").batching.max_batch_size, 4);
    assert_eq!(config.model("v1.0").batching.max_batch_size, 5);
    assert_eq!(config.model("resnet8").batching.max_batch_size, 64);
}

#[test]
fn every_key_has_a_range() {
    for bad in [
        "store=",
        "store=http://bucket/models",
        "store=s3://",
        "model_store.access=write_only",
        "model_store.poll_interval_milliseconds=9",
        "model_store.patience_seconds=241",
        "model_store.cache=",
        "model_store.max_cache_bytes=-1",
        "readiness=some_models",
        "grpc.listen=localhost",
        "grpc.max_message_bytes=1",
        "grpc.model_control=anyone",
        "admin.access=everyone",
        "batching.max_batch_size=0",
        "batching.max_queue_delay_microseconds=1000001",
        "batching.max_queue_size=0",
        "batching.default_timeout_microseconds=-1",
        "batching.default_timeout_microseconds=3600000001",
        "runtime.instances=0",
        "runtime.instances=many",
        "runtime.deterministic=2",
        "version_policy={ latest = { num_versions = 0 } }",
        "version_policy={ newest = {} }",
        "models.a.threads=0",
        "models.a.max_batch=3",
        "memory.max_model_bytes=-1",
        "memory.on_swap=hope",
        "log.access=all",
        "runtime.threads=257",
        "http.listen=localhost",
        "http.max_body_bytes=0",
        "grpc.read_timeout_seconds=0",
        "grpc.max_connections=0",
        "http.read_timeout_seconds=0",
        "http.max_connections=0",
        "images.max_bytes=0",
        "images.max_pixels=0",
        "images.decoders=0",
        "publish.max_model_bytes=0",
        "publish.max_manifest_bytes=0",
        "publish.max_activation_bytes=0",
        "publish.load_timeout_seconds=0",
        "publish.upload_timeout_seconds=0",
        "publish.upload_timeout_seconds=86401",
        "signatures.required=true",
        "signatures.trusted_keys=[\"no-such.pub\"]",
        "canary.share=0.6",
        "canary.min_requests=0",
        "canary.min_requests=4097",
        "canary.max_latency_ratio=0",
        "canary.min_agreement=1.1",
        "canary.decide_within_seconds=0",
        "canary.compare_share=0",
        "canary.teacher=nowhere",
        "capture.share=1.5",
        "capture.folder=",
        "capture.folder=http://bucket/captured",
        "capture.spool=",
        "capture.max_spool_bytes=65535",
        "capture.max_bytes=65535",
        "capture.write_after_seconds=0",
        "shutdown.grace_seconds=3601",
        "shutdown.drain_seconds=-1",
        "shutdown.drain=1",
    ] {
        let error = load(&[bad]).unwrap_err();
        let key = bad.split_once('=').unwrap().0;
        assert!(error.contains(key), "{bad}: {error}");
    }
    for bad in ["models.-a.threads=1", "models.-a.threads=0"] {
        assert!(load(&[bad]).unwrap_err().contains("models.-a"), "{bad}");
    }
}
