//! Problems of export and publishing are found before the first step.

use std::fs;
use test_support::{InferenceService, SigningKeys, class_names, unused_address, write_idx};

use artifacts::manifest::{ArtifactManifest, MAX_MANIFEST_BYTES};
use datasets::{Split, load_idx};
use model_signing::{ModelFiles, TrustedKeys};
use networks::{NetworkSpec, Weights};
use student_trainer::{
    config::{ExportConfig, RunConfig},
    engine::TorchNetwork,
    export::{ExportError, ExportSource, export},
};
use torch_networks::Device;

use super::{Scene, TRAINER, config};

/// Returns weights whose last layer is multiplied by a large factor, like those of a network that was
/// trained without a bound on its logits.
fn with_large_logits(spec: &NetworkSpec) -> Weights {
    let weights = Weights::initial(spec, 1).unwrap();
    let tensors = weights.iter().map(|(name, tensor)| {
        let mut tensor = tensor.clone();
        if let [10, _] = tensor.shape[..] {
            tensor.data.iter_mut().for_each(|value| *value *= 100_000.0);
        }
        (name.to_owned(), tensor)
    });
    Weights::from_tensors(tensors, spec).unwrap()
}

#[test]
fn large_logits_are_compared_by_their_size() {
    let folder = tempfile::tempdir().unwrap();
    write_idx(folder.path(), 64, [28, 28]);
    let images = load_idx(folder.path(), Split::Train, &class_names(10)).unwrap();
    let config =
        RunConfig::from_toml(&config().replace("widths = [4, 8]", "widths = [32, 64]")).unwrap();
    let weights = with_large_logits(&config.network);
    let network = TorchNetwork::new(&config.network, &weights, Device::Cpu).unwrap();
    let export = |relative_tolerance| {
        let source = ExportSource {
            spec: &config.network,
            weights: &weights,
            network: &network,
            source: &images,
            normalization: &config.data.normalization,
        };
        let config = ExportConfig {
            relative_tolerance,
            ..config.export.clone()
        };
        export(source, &config, 8)
    };
    let error = export(0.0).map(|model| model.largest_difference);
    let error = error.unwrap_err();
    assert!(matches!(error, ExportError::Disagrees { .. }), "{error}");
    let model = export(config.export.relative_tolerance).unwrap();
    assert!(model.largest_difference > config.export.tolerance);
    let golden = model.golden_batch;
    assert_eq!(golden.relative_tolerance, config.export.relative_tolerance);
    // The tolerance still detects errors that are larger than rounding.
    let largest = golden
        .logits
        .iter()
        .flatten()
        .fold(0.0f32, |a, b| a.max(b.abs()));
    assert!(largest > 1000.0, "{largest}");
    let allowed = golden.allowed_difference(&golden.logits[0]);
    assert!(allowed < largest / 10_000.0, "{allowed} {largest}");
}

#[test]
fn many_classes_leave_room_for_fewer_golden_samples() {
    let scene = Scene::new();
    let names = (0..21_841).map(|class| format!("class {class}"));
    let names = toml::Value::Array(names.map(toml::Value::String).collect());
    let config = config()
        .replace("[data]", &format!("[data]\nclass_names = {names}"))
        .replace("classes = 10", "classes = 21841")
        .replace("epochs = 2", "epochs = 1")
        .replace("widths = [4, 8]", "widths = [2, 4]");
    fs::write(scene.path("run.toml"), config).unwrap();
    let folder = scene.run(
        "run",
        &["export.golden_samples=64", "data.train_samples=64"],
    );
    let json = fs::read(folder.join("artifact/manifest.json")).unwrap();
    assert!(json.len() <= MAX_MANIFEST_BYTES, "{}", json.len());
    let golden = ArtifactManifest::from_json(&json).unwrap().golden_samples();
    assert!((20..64).contains(&golden), "{golden}");
}

/// Starts an inference service with further `key=value` settings. Returns its addresses for publishing and
/// for predictions.
pub(super) fn inference_service(
    scene: &Scene,
    settings: &[&str],
) -> (InferenceService, [String; 2]) {
    let service = InferenceService::start_empty(TRAINER, &scene.path(""), settings);
    let addresses = ["admin", "grpc"].map(|port| service.address(port));
    (service, addresses)
}

#[test]
fn what_the_inference_service_would_refuse_ends_a_run_before_its_first_step() {
    let scene = Scene::new();
    for (name, setting, part) in [
        ("manifest", "publish.max_manifest_bytes=10000", "10000"),
        ("model", "publish.max_model_bytes=1000", "1000"),
        (
            "memory",
            "memory.max_model_bytes=1000",
            "memory.max_model_bytes",
        ),
    ] {
        let _ = fs::remove_file(scene.path("ready.json"));
        let (_service, [admin, _]) = inference_service(&scene, &[setting]);
        let publish = format!("publish={{ endpoint = \"{admin}\", model = \"m\" }}");
        let said = scene.failure(name, &[&publish]);
        assert!(
            said.contains("refused the model") && said.contains(part),
            "{said}"
        );
        assert!(
            !scene.path(name).join("phases").exists(),
            "the run was trained first"
        );
    }
}

#[test]
fn a_service_that_cannot_be_asked_yet_does_not_keep_a_run_from_training() {
    let scene = Scene::new();
    let address = unused_address();
    let publish = format!("publish={{ endpoint = \"{address}\", model = \"m\" }}");
    let said = scene.failure("run", &[&publish]);
    assert!(said.contains("could not check whether"), "{said}");
    assert!(scene.path("run/artifact/manifest.json").exists());
}

#[test]
fn a_run_that_publishes_checks_first_and_then_publishes() {
    let scene = Scene::new();
    let (_service, [admin, other]) = inference_service(&scene, &[]);
    let said = scene.failure(
        "other port",
        &[&format!(
            "publish={{ endpoint = \"{other}\", model = \"m\" }}"
        )],
    );
    assert!(said.contains("models are not published there"), "{said}");
    assert!(
        !scene.path("other port/phases").exists(),
        "the run was trained first"
    );

    let publish = format!("publish={{ endpoint = \"{admin}\", model = \"m\" }}");
    scene.run("first", &[&publish]);
    assert!(scene.path("models/m/1/manifest.json").exists());
    assert!(
        !scene.path("models/m/2").exists(),
        "the check stored something"
    );
}

#[test]
fn a_run_signs_its_models_and_a_wrong_key_ends_it_before_its_first_step() {
    let scene = Scene::new();
    let keys_folder = tempfile::tempdir().unwrap();
    let keys = SigningKeys::write(keys_folder.path(), "trusted");
    let others = SigningKeys::write(keys_folder.path(), "other");
    let trusted = keys.trusted_setting();
    let settings = [trusted.as_str(), "signatures.required=true"];
    let (_service, [admin, _]) = inference_service(&scene, &settings);
    let publish = |key: &str| format!("publish={{ endpoint = \"{admin}\", model = \"m\"{key} }}");
    let signing = |keys: &SigningKeys| publish(&format!(", signing_key = {:?}", keys.private));
    for (name, setting, part) in [
        ("unsigned", publish(""), "the model is not signed"),
        ("other", signing(&others), "no trusted key made it"),
    ] {
        let said = scene.failure(name, &[&setting]);
        let refused = said.contains("refused the model") && said.contains(part);
        assert!(refused, "{said}");
        let trained = scene.path(name).join("phases").exists();
        assert!(!trained, "the run was trained first");
    }

    let int8 = "export.int8={ calibration_samples = 100 }";
    let artifact = scene
        .run("signed", &[&signing(&keys), int8])
        .join("artifact");
    let mut trusted = TrustedKeys::default();
    trusted.trust(&keys.public).unwrap();
    for folder in [&artifact, &artifact.join("int8")] {
        let signature = fs::read(folder.join("model.sig")).unwrap();
        let files = ModelFiles::in_folder(folder).unwrap();
        assert_eq!(model_signing::verify(&signature, &files, &trusted), Ok(()));
    }
    let published = fs::read(scene.path("models/m/1/model.sig")).unwrap();
    assert!(published == fs::read(artifact.join("model.sig")).unwrap());

    // The signature covers the weights too.
    fs::write(artifact.join("weights.safetensors"), "changed").unwrap();
    let files = ModelFiles::in_folder(&artifact).unwrap();
    let error = model_signing::verify(&published, &files, &trusted).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("weights.safetensors was changed"),
        "{error}"
    );
}
