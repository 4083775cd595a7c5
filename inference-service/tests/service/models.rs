//! Several models in one process do not affect each other.

use std::sync::Arc;

use proto::{
    inference::{ModelInferRequest, ModelStatistics},
    publish::v1::PublishRequest,
};

use crate::support::{
    Artifact, Check, Load, MODEL, Service, ServiceOptions, assert_close, infer_request, upload,
};

/// The second model, besides [`MODEL`].
const OTHER: &str = "letters";

/// Samples per request to the second model.
const OTHER_SAMPLES: usize = 3;

/// The upload of `artifact` as `model`.
fn named(artifact: &Artifact, model: &str) -> Vec<PublishRequest> {
    let mut header = artifact.header();
    header.model_name = model.to_owned();
    upload(header, &artifact.onnx)
}

fn request(model: &str, samples: usize) -> (ModelInferRequest, Vec<f32>) {
    let (mut request, values) = infer_request(samples);
    request.model_name = model.to_owned();
    (request, values)
}

/// A service with both models.
struct Both {
    service: Service,
    other: Artifact,
}

impl Both {
    async fn start() -> Self {
        let service = Service::start(&ServiceOptions::default());
        let other = Artifact::new(7);
        for upload in [Artifact::constant(1).upload(), named(&other, OTHER)] {
            let published = service.publish(upload).await.expect("it is published");
            assert_eq!(published.version, 1);
        }
        Self { service, other }
    }

    /// Callers of [`MODEL`], whose logits are those of the version that answers.
    async fn load(&self) -> Load {
        let check: Check = Arc::new(|response| {
            assert_eq!(response.model_name, MODEL);
            let version = response.model_version.parse().expect("it is a number");
            let logits = Artifact::constant_logits(version);
            assert_close(&response.raw_output_contents[0], &logits);
        });
        Load::start(&self.service, 2, &request(MODEL, 1).0, check).await
    }

    /// Callers of [`OTHER`], which has one version only.
    async fn other_load(&self) -> Load {
        let (request, values) = request(OTHER, OTHER_SAMPLES);
        let logits = self.other.logits(&values);
        let check: Check = Arc::new(move |response| {
            assert_eq!(response.model_name, OTHER);
            assert_eq!(response.model_version, "1");
            assert_close(&response.raw_output_contents[0], &logits);
        });
        Load::start(&self.service, 2, &request, check).await
    }

    /// The statistics of a model's versions.
    async fn statistics(&self, model: &str) -> Vec<ModelStatistics> {
        let mut statistics = self.service.statistics().await;
        statistics.retain(|version| version.name == model);
        statistics
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_models_answer_concurrently_and_are_counted_separately() {
    const CALLS: u64 = 200;
    const REFUSED: u64 = 3;
    let both = Both::start().await;
    let (load, other_load) = (both.load().await, both.other_load().await);
    load.answers(CALLS).await;
    other_load.answers(CALLS).await;
    for _ in 0..REFUSED {
        let (mut bad, _) = request(OTHER, 1);
        bad.inputs.clear();
        both.service.infer(bad).await.expect_err("it has no input");
    }
    let calls = [(MODEL, load.end().await, 1, 0)];
    let other_calls = [(OTHER, other_load.end().await, OTHER_SAMPLES, REFUSED)];
    let metrics = both.service.metrics();
    for (model, calls, samples, refused) in calls.into_iter().chain(other_calls) {
        assert!(calls >= CALLS, "{model}: {calls}");
        let [statistics] = both
            .statistics(model)
            .await
            .try_into()
            .expect("one version");
        assert_eq!(
            statistics.inference_count,
            calls * samples as u64,
            "{model}"
        );
        let stats = statistics.inference_stats.expect("they are filled");
        let counts = [stats.success, stats.fail].map(|count| count.expect("it is filled").count);
        assert_eq!(counts, [calls, refused], "{model}");
        let labels = format!("{{model=\"{model}\",version=\"1\"");
        for line in [
            format!("nv_inference_request_success{labels}}} {calls}"),
            format!("nv_inference_count{labels}}} {}", calls * samples as u64),
            format!("nv_inference_request_failure{labels},reason=\"OTHER\"}} {refused}"),
            format!("nv_inference_pending_request_count{labels}}} 0"),
        ] {
            let found = metrics.lines().any(|found| found == line);
            assert!(found, "{line} is missing in\n{metrics}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_one_model_under_load_does_not_disturb_the_other() {
    /// Below the number of versions whose statistics are kept.
    const PUBLISHES: u64 = 12;
    /// Answers of each model between two publishes, so that every publish happens under load.
    const CALLS_BETWEEN: u64 = 10;
    let both = Both::start().await;
    let (load, other_load) = (both.load().await, both.other_load().await);
    for n in 2..=PUBLISHES {
        load.answers(CALLS_BETWEEN).await;
        other_load.answers(CALLS_BETWEEN).await;
        let published = both.service.publish(Artifact::constant(n).upload()).await;
        assert_eq!(published.expect("it is published").version, n);
        // A rejected publish of the other model, whose old version continues to serve.
        let mut refused = Artifact::new(100 + n);
        refused.manifest["golden_batch"]["logits"][0][0] = 1000.into();
        let refused = both.service.publish(named(&refused, OTHER)).await;
        refused.expect_err("its logits are not those of its manifest");
    }
    other_load.answers(CALLS_BETWEEN).await;
    let (calls, other_calls) = (load.end().await, other_load.end().await);

    let success = |statistics: &ModelStatistics| {
        let stats = statistics.inference_stats.as_ref();
        let success = stats.and_then(|stats| stats.success);
        success.expect("it is filled").count
    };
    let [other] = both
        .statistics(OTHER)
        .await
        .try_into()
        .expect("one version");
    assert_eq!(success(&other), other_calls);
    let versions = both.statistics(MODEL).await;
    assert_eq!(versions.iter().map(success).sum::<u64>(), calls);
    let metrics = both.service.metrics();
    for line in [
        format!("retort_inference_active_version{{model=\"{MODEL}\"}} {PUBLISHES}"),
        format!("retort_inference_active_version{{model=\"{OTHER}\"}} 1"),
    ] {
        let found = metrics.lines().any(|found| found == line);
        assert!(found, "{line} is missing in\n{metrics}");
    }
}
