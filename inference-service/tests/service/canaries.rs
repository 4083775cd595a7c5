//! Canaries: versions on trial beside the active version.

use std::{net::TcpListener, path::Path, sync::Arc, time::Duration};

use networks::onnx;
use proto::{
    inference::{ModelInferRequest, ModelInferResponse},
    publish::v1::{PublishHeader, PublishResponse, Trial, TrialState},
};
use test_support::{Teacher, built_beside, class_names, write_artifact};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::{
    publish_checks::check,
    support::{
        Artifact, BINARY, CLASSES, INPUT_SHAPE, Load, MODEL, PATIENCE, Service, ServiceOptions,
        infer_request, listed, normalized, publish, upload,
    },
    swaps::encoded,
};

/// A rule that a canary of the same kind passes after few requests.
pub const QUICK: [&str; 2] = ["canary.min_requests=20", "canary.max_latency_ratio=1000"];

/// A rule that needs more requests than a test sends.
pub const SLOW: [&str; 1] = ["canary.min_requests=4096"];

fn start(settings: &[&str]) -> Service {
    Service::start(&ServiceOptions {
        set: settings,
        ..ServiceOptions::default()
    })
}

pub async fn publish_with_share(
    service: &Service,
    artifact: &Artifact,
    share: f64,
) -> Result<PublishResponse, Status> {
    let header = PublishHeader {
        canary_share: Some(share),
        ..artifact.header()
    };
    service.publish(upload(header, &artifact.onnx)).await
}

/// Publishes a canary and checks that version 1 serves beside it. Returns its version.
pub async fn publish_canary(service: &Service, artifact: &Artifact, share: f64) -> u64 {
    let published = publish_with_share(service, artifact, share).await;
    let published = published.expect("it is published");
    assert!(published.canary);
    assert_eq!(published.active_version, 1);
    published.version
}

/// The newest trial of a version.
async fn trial(service: &Service, version: u64) -> Option<Trial> {
    let versions = service.versions().await;
    let version = versions.into_iter().find(|one| one.version == version);
    version.expect("it is stored").trial
}

/// Waits for the end of a trial.
async fn ended(service: &Service, version: u64) -> Trial {
    let end = async {
        loop {
            let trial = trial(service, version).await.expect("it was on trial");
            if trial.state() != TrialState::Running {
                return trial;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, end).await.expect("the trial ends")
}

pub fn trials(service: &Service, outcome: &str) -> f64 {
    let line = format!("retort_canary_trials{{model=\"{MODEL}\",outcome=\"{outcome}\"}}");
    service.metric(&line)
}

pub fn canary_metric(service: &Service, name: &str) -> f64 {
    service.metric(&format!("{name}{{model=\"{MODEL}\"}}"))
}

fn named(version: u64) -> ModelInferRequest {
    ModelInferRequest {
        model_version: version.to_string(),
        ..infer_request(1).0
    }
}

/// Answers that agree with the logits of the version that they name.
pub async fn load(service: &Service) -> Load {
    let check = |response: &ModelInferResponse| assert!(encoded(response) > 0);
    Load::start(service, 4, &infer_request(1).0, Arc::new(check)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_canary_is_promoted_under_load_and_no_call_fails() {
    let models = tempfile::tempdir().expect("a folder");
    let options = ServiceOptions {
        store: Some(models.path()),
        set: &QUICK,
        ..ServiceOptions::default()
    };
    let mut service = Service::start(&options);
    publish(&service, &Artifact::constant(1)).await;
    let load = load(&service).await;
    load.answers(20).await;
    assert_eq!(
        publish_canary(&service, &Artifact::constant(2), 0.2).await,
        2
    );
    let trial = ended(&service, 2).await;
    assert_eq!(trial.state(), TrialState::Promoted, "{trial:?}");
    assert_eq!((trial.active_version, trial.share), (1, 0.2));
    assert!(
        trial.canary_requests >= 20 && trial.active_requests >= 20,
        "{trial:?}"
    );
    assert!(trial.compared_samples >= 20, "{trial:?}");
    assert_eq!(trial.agreeing_samples, trial.compared_samples);
    load.answers(20).await;
    load.end().await;
    assert_eq!(listed(&service).await, [(1, false), (2, true)]);
    assert_eq!(service.serving_version().await, "2");
    assert_eq!(trials(&service, "promoted"), 1.0);
    assert_eq!(canary_metric(&service, "retort_canary_version"), 0.0);
    assert!(canary_metric(&service, "retort_canary_agreeing_samples") >= 20.0);
    service.log_once(|log| log.contains("the canary is promoted"));

    service.kill();
    let service = Service::start(&options);
    assert_eq!(service.serving_version().await, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_disagrees_is_rolled_back_and_the_old_version_serves_throughout() {
    let service = start(&QUICK);
    // The logits of version 1 in another order, so that only the class differs.
    let [a, b, c] = Artifact::constant_logits(1);
    publish(&service, &Artifact::constant(1)).await;
    let check = |response: &ModelInferResponse| assert!(!response.raw_output_contents.is_empty());
    let load = Load::start(&service, 4, &infer_request(1).0, Arc::new(check)).await;
    let version = publish_canary(&service, &Artifact::with_logits([b, a, c]), 0.5).await;
    let trial = ended(&service, version).await;
    assert_eq!(trial.state(), TrialState::RolledBack, "{trial:?}");
    assert!(
        trial.reason.contains("its agreement is 0.0000"),
        "{trial:?}"
    );
    assert_eq!(trial.agreeing_samples, 0);
    load.answers(20).await;
    load.end().await;
    for _ in 0..4 {
        assert_eq!(service.serving_version().await, "1");
    }
    assert_eq!(listed(&service).await, [(1, true), (2, false)]);
    let refused = service.infer(named(2)).await.expect_err("it is unloaded");
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(trials(&service, "rolled_back"), 1.0);
    service.log_once(|log| log.contains("the canary is rolled back"));
}

#[tokio::test]
async fn a_slow_canary_is_rolled_back() {
    // No canary of the same kind is ten times as fast as the active version.
    let service = start(&["canary.min_requests=20", "canary.max_latency_ratio=0.1"]);
    publish(&service, &Artifact::constant(1)).await;
    publish_canary(&service, &Artifact::constant(2), 0.5).await;
    for _ in 0..60 {
        service.serving_version().await;
    }
    let trial = ended(&service, 2).await;
    assert_eq!(trial.state(), TrialState::RolledBack, "{trial:?}");
    assert!(trial.reason.contains("its latency is"), "{trial:?}");
}

#[tokio::test]
async fn a_trial_without_enough_requests_is_rolled_back_after_its_time() {
    let service = start(&["canary.decide_within_seconds=1"]);
    publish(&service, &Artifact::constant(1)).await;
    publish_canary(&service, &Artifact::constant(2), 0.5).await;
    let trial = ended(&service, 2).await;
    assert_eq!(trial.state(), TrialState::RolledBack, "{trial:?}");
    let expected = "0 of 200 requests to the canary";
    assert!(trial.reason.contains(expected), "{trial:?}");
}

#[tokio::test]
async fn a_teacher_that_never_answers_does_not_hold_up_the_decision() {
    // Connections are accepted by the operating system, and never answered.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let teacher = format!("canary.teacher={address}");
    let service = start(&["canary.decide_within_seconds=1", &teacher]);
    publish(&service, &Artifact::constant(1)).await;
    publish_canary(&service, &Artifact::constant(2), 0.5).await;
    for _ in 0..4 {
        service.serving_version().await;
    }
    let trial = ended(&service, 2).await;
    assert_eq!(trial.state(), TrialState::RolledBack, "{trial:?}");
    // The first comparison still waits.
    assert!(
        trial.reason.ends_with("of 200 compared samples"),
        "{trial:?}"
    );
}

#[tokio::test]
async fn requests_without_a_version_are_shared_and_those_with_one_are_not() {
    let service = start(&SLOW);
    publish(&service, &Artifact::constant(1)).await;
    publish_canary(&service, &Artifact::constant(2), 0.25).await;
    let mut by_canary = 0;
    for _ in 0..40 {
        let response = service.infer(infer_request(1).0).await.expect("it answers");
        by_canary += u64::from(encoded(&response) == 2);
        for version in [1, 2] {
            let response = service.infer(named(version)).await.expect("it answers");
            assert_eq!(encoded(&response), version);
        }
    }
    assert_eq!(by_canary, 10);
    let trial = trial(&service, 2).await.expect("it is on trial");
    assert_eq!(trial.state(), TrialState::Running);
    assert_eq!((trial.canary_requests, trial.active_requests), (10, 30));
    assert_eq!(canary_metric(&service, "retort_canary_version"), 2.0);
}

#[tokio::test]
async fn a_restart_ends_a_trial_and_the_old_version_serves() {
    let models = tempfile::tempdir().expect("a folder");
    let options = ServiceOptions {
        store: Some(models.path()),
        set: &SLOW,
        ..ServiceOptions::default()
    };
    let mut service = Service::start(&options);
    publish(&service, &Artifact::constant(1)).await;
    publish_canary(&service, &Artifact::constant(2), 0.5).await;
    service.kill();

    let service = Service::start(&options);
    for _ in 0..4 {
        assert_eq!(service.serving_version().await, "1");
    }
    assert_eq!(listed(&service).await, [(1, true), (2, false)]);
    assert_eq!(trial(&service, 2).await, None);
    // The stored version can be tried again; a publish that is repeated joins the trial.
    for _ in 0..2 {
        let again = publish_with_share(&service, &Artifact::constant(2), 0.5).await;
        let again = again.expect("it is published");
        assert_eq!((again.version, again.already_published), (2, true));
        assert!(again.canary);
    }
    // A late retry of a trainer does not activate it.
    let header = PublishHeader {
        keep_active: true,
        ..Artifact::constant(2).header()
    };
    let retried = service.publish(upload(header, &Artifact::constant(2).onnx));
    assert_eq!(retried.await.expect("it is published").active_version, 1);
}

#[tokio::test]
async fn every_other_change_of_the_versions_ends_a_trial() {
    let service = start(&SLOW);
    publish(&service, &Artifact::constant(1)).await;
    for (number, version) in [(1.0, 2), (2.0, 3), (3.0, 4)] {
        publish_canary(&service, &Artifact::constant(version), 0.5).await;
        match version {
            // The next canary replaces it.
            2 => {}
            // Operators keep the version that serves, or delete the canary.
            3 => assert_eq!(service.activate(MODEL, 1).await.expect("it serves"), 1),
            _ => service.delete(MODEL, version).await.expect("it is deleted"),
        }
        if version == 3 {
            let trial = ended(&service, version).await;
            assert_eq!(trial.state(), TrialState::Withdrawn, "{trial:?}");
        }
        if version > 2 {
            let withdrawn = async {
                while trials(&service, "withdrawn") < number {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(PATIENCE, withdrawn).await.expect("the trial ends");
            for _ in 0..4 {
                assert_eq!(service.serving_version().await, "1");
            }
        }
    }
    // A publish that is no canary serves at once.
    publish_canary(&service, &Artifact::constant(5), 0.5).await;
    let published = publish_with_share(&service, &Artifact::constant(6), 0.0).await;
    let published = published.expect("it is published");
    assert_eq!((published.active_version, published.canary), (6, false));
    assert_eq!(ended(&service, 5).await.state(), TrialState::Withdrawn);
    assert_eq!(service.serving_version().await, "6");
}

#[tokio::test]
async fn the_configuration_can_try_every_publish_and_the_first_one_serves() {
    let service = start(&["canary.share=0.5", "canary.min_requests=4096"]);
    assert_eq!(publish(&service, &Artifact::constant(1)).await, (1, false));
    assert_eq!(service.serving_version().await, "1");
    let second = service.publish(Artifact::constant(2).upload()).await;
    let second = second.expect("it is published");
    assert_eq!((second.version, second.active_version), (2, 1));
    assert!(second.canary);
    let trial = trial(&service, 2).await.expect("it is on trial");
    assert_eq!(trial.share, 0.5);
}

#[tokio::test]
async fn a_canary_that_the_callers_of_the_active_version_would_misread_is_refused() {
    let service = start(&[]);
    publish(&service, &Artifact::new(1)).await;
    let mut renamed = Artifact::new(2);
    renamed.manifest["class_names"] = serde_json::json!(["null", "eins", "zwei"]);
    let refused = publish_with_share(&service, &renamed, 0.1).await;
    let refused = refused.expect_err("its classes differ");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("class_names"), "{refused}");
    // A run learns it before it trains.
    for (share, is_accepted) in [(0.1, false), (0.0, true)] {
        let header = PublishHeader {
            canary_share: Some(share),
            ..renamed.header()
        };
        let checked = check(&service, header, &renamed.onnx, 0).await;
        assert_eq!(checked.is_ok(), is_accepted, "{checked:?}");
    }
    for share in [0.6, -0.1, f64::NAN] {
        let refused = publish_with_share(&service, &Artifact::new(2), share).await;
        let refused = refused.expect_err("its share is out of range");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("canary_share"), "{refused}");
    }
    assert_eq!(listed(&service).await, [(1, true)]);
}

#[tokio::test]
async fn services_that_share_the_store_serve_a_canary_once_it_is_promoted() {
    let models = tempfile::tempdir().expect("a folder");
    let writing = ServiceOptions {
        store: Some(models.path()),
        set: &QUICK,
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
    publish(&writer, &Artifact::constant(1)).await;
    let reader = Service::start(&reading);
    publish_canary(&writer, &Artifact::constant(2), 0.5).await;
    // Version 2 is stored, and the reader keeps to version 1.
    for _ in 0..10 {
        assert_eq!(reader.serving_version().await, "1");
    }
    let decided = async {
        while trial(&writer, 2).await.expect("it was on trial").state() == TrialState::Running {
            writer.serving_version().await;
        }
    };
    timeout(PATIENCE, decided).await.expect("the trial ends");
    assert_eq!(ended(&writer, 2).await.state(), TrialState::Promoted);
    let follows = async { while reader.serving_version().await != "2" {} };
    timeout(PATIENCE, follows).await.expect("it follows");
}

#[tokio::test]
async fn a_canary_is_compared_with_the_teacher() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let network = "input = [1, 8, 8]\nclasses = 3\npreset = \"cnn\"\nwidths = [8, 16]";
    let (model, weights) = write_artifact(folder.path(), network, 5);
    let binary = built_beside(BINARY, "teacher-service");
    let teacher = Teacher::start(Path::new(&binary), folder.path(), &[]);
    let address = format!("canary.teacher={}", teacher.grpc);
    let service = start(&[QUICK[0], QUICK[1], &address]);

    // The teacher's own network agrees with it; constant logits for another class do not.
    let onnx = onnx::export(&model.network, &weights).expect("the weights fit");
    let (names, normalization) = (class_names(CLASSES), (0.3, 0.4));
    let agreeing = Artifact::of(onnx, INPUT_SHAPE, &names, normalization, &[200; 64]);
    let logits = |pixels: &[u8]| agreeing.logits(&normalized(pixels, normalization));
    // The image of the clearest class: the teacher may compute in bf16.
    let images = (0..=255).step_by(15).map(|pixel| [pixel; 64]);
    let pixels = images.max_by(|a, b| margin(&logits(a)).total_cmp(&margin(&logits(b))));
    let pixels = pixels.expect("there are images");
    let values = normalized(&pixels, normalization);
    let top = top_class(&logits(&pixels));
    let disagreeing = |largest: f32| {
        let mut logits = [0.0; CLASSES];
        logits[(top + 1) % CLASSES] = largest;
        let onnx = Artifact::with_logits(logits).onnx;
        Artifact::of(onnx, INPUT_SHAPE, &names, normalization, &pixels)
    };
    let mut request = infer_request(1).0;
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    request.raw_input_contents = vec![bytes.into()];

    publish(&service, &disagreeing(1.0)).await;
    for (canary, version, expected) in [
        // It agrees with the active version, which is not asked.
        (disagreeing(2.0), 2, TrialState::RolledBack),
        (agreeing, 3, TrialState::Promoted),
    ] {
        assert_eq!(publish_canary(&service, &canary, 0.5).await, version);
        // Comparisons are slower than requests, so some requests are not compared.
        let decided = async {
            loop {
                service.infer(request.clone()).await.expect("it answers");
                let trial = trial(&service, version).await.expect("it was on trial");
                if trial.state() != TrialState::Running {
                    return trial;
                }
            }
        };
        let trial = timeout(PATIENCE, decided).await.expect("the trial ends");
        assert_eq!(trial.state(), expected, "{trial:?}");
    }
    assert_eq!(service.serving_version().await, "3");
}

fn top_class(logits: &[f32]) -> usize {
    let top = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    top.expect("there are classes").0
}

/// The largest of the logits minus the second largest.
fn margin(logits: &[f32]) -> f32 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted[0] - sorted[1]
}
