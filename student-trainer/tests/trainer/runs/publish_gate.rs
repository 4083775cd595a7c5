//! `[publish.gate]`: only a model that meets its bounds is published.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use student_trainer::run::{Bound, GateCheck, RunManifest};
use test_support::{Teacher, built_beside, unused_address, write_artifact};

use super::{LONGER, Scene, TRAINER, config, delivery::inference_service, manifest, read, stderr};

/// Exit code of a complete run whose model was not published.
const WITHHELD: Option<i32> = Some(3);

impl Scene {
    /// A run that publishes to `admin` what meets the bounds.
    fn gated(&self, output: &str, admin: &str, bounds: &str, settings: &[&str]) -> Output {
        let publish =
            format!("publish={{ endpoint = \"{admin}\", model = \"m\", gate = {{ {bounds} }} }}");
        let settings = [&[publish.as_str()][..], settings].concat();
        self.command(output, &settings).output().unwrap()
    }

    /// From now on, the first phase of a run learns from a teacher.
    fn distil(&self) {
        let config = config().replacen(
            "cross_entropy\" }",
            "soft_cross_entropy\", temperature = 2.0 }",
            1,
        );
        fs::write(self.path("run.toml"), config).unwrap();
    }

    /// Starts a run that must be refused before it trains, with a text that has `part`.
    fn refused(&self, output: &str, bounds: &str, settings: &[&str], part: &str) {
        let done = self.gated(output, &unused_address(), bounds, settings);
        let said = stderr(&done);
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(said.contains(part), "{part} is not in: {said}");
        let trained = self.path(output).join("phases");
        assert!(!trained.exists(), "the run was trained first");
    }
}

fn verdict(folder: &Path) -> Vec<GateCheck> {
    let verdict = serde_json::to_value(manifest(folder).publish_gate.unwrap());
    serde_json::from_value(verdict.unwrap()).unwrap()
}

fn epochs(folder: &Path) -> usize {
    let log = String::from_utf8(read(folder, "metrics.jsonl")).unwrap();
    log.matches("\"epoch_finished\"").count()
}

#[test]
fn a_model_that_misses_a_bound_is_kept_and_not_published_until_the_bound_is_changed() {
    let scene = Scene::new();
    let (_service, [admin, _]) = inference_service(&scene, &[]);
    let bounds = "min_accuracy = 0.999, max_latency_us = 1e9";
    let done = scene.gated("run", &admin, bounds, &[]);
    let said = stderr(&done);
    assert_eq!(done.status.code(), WITHHELD, "{said}");
    assert!(
        said.contains("was not published: validation accuracy 0.")
            && said.contains("is below publish.gate.min_accuracy = 0.999; the run is complete"),
        "{said}"
    );
    assert!(!said.contains("latency"), "{said}");
    assert!(!scene.path("models/m").exists());

    let folder = scene.path("run");
    let withheld: RunManifest = manifest(&folder);
    assert_eq!(withheld.published_version, None);
    let checks = verdict(&folder);
    let bounds_met = checks.iter().map(|check| (check.bound, check.met));
    let expected = [(Bound::MinAccuracy, false), (Bound::MaxLatencyUs, true)];
    assert!(bounds_met.eq(expected), "{checks:?}");
    assert_eq!((checks[0].wanted, checks[1].wanted), (0.999, 1e9));
    assert!(checks[1].measured > 0.0);
    let model = read(&folder, "artifact/model.onnx");

    // With another bound, the same run trains nothing and publishes.
    let trained = epochs(&folder);
    let published = scene.gated("run", &admin, "min_accuracy = 0.0", &[]);
    let said = stderr(&published);
    assert!(published.status.success(), "{said}");
    assert!(
        said.contains("the model may be published: validation accuracy"),
        "{said}"
    );
    assert_eq!(epochs(&folder), trained);
    assert!(read(&folder, "artifact/model.onnx") == model);
    assert_eq!(manifest(&folder).published_version, Some(1));
    assert_eq!(manifest(&folder).model_id, withheld.model_id);
    assert!(scene.path("models/m/1/manifest.json").exists());

    let again = scene.gated("run", &admin, "min_accuracy = 0.0", &[]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        stderr(&again).contains("already holds a finished run"),
        "{}",
        stderr(&again)
    );
}

#[test]
fn a_student_must_gain_over_its_baseline() {
    let scene = Scene::new();
    let baseline = scene.run("baseline", &[]);
    assert!(manifest(&baseline).validation_dataset.is_some());
    let bounds = |min_gain: f64| {
        let folder = baseline.display();
        format!("baseline = \"{folder}\", min_gain = {min_gain}")
    };
    let nowhere = unused_address();
    let done = scene.gated("run", &nowhere, &bounds(0.9), &["phases[1].epochs=2"]);
    let said = stderr(&done);
    assert_eq!(done.status.code(), WITHHELD, "{said}");
    assert!(
        said.contains("is below publish.gate.min_gain = 0.9"),
        "{said}"
    );
    assert!(
        said.contains("warning: the baseline of publish.gate trained on 960 samples"),
        "{said}"
    );
    let [gain] = verdict(&scene.path("run"))[..] else {
        panic!("{said}")
    };
    let accuracies =
        ["run", "baseline"].map(|run| manifest(&scene.path(run)).validation_accuracy());
    let difference = accuracies[0].unwrap() - accuracies[1].unwrap();
    // ONNX Runtime may decide differently between two almost equal logits.
    assert!(
        (gain.measured - difference).abs() <= 0.01,
        "{gain:?} {difference}"
    );

    scene.refused(
        "larger",
        &bounds(0.0),
        &["network.widths=[4, 9]"],
        "its number of parameters is 438, and this run has ",
    );
    scene.refused(
        "other samples",
        &bounds(0.0),
        &["data.validation_samples=100"],
        "the fingerprint of its validation samples is ",
    );
    let nothing = format!("baseline = \"{}\"", scene.path("nothing").display());
    scene.refused(
        "no baseline",
        &nothing,
        &[],
        "holds no finished run that can be read",
    );
}

#[test]
fn a_student_is_published_once_it_gains_over_its_baseline_and_agrees_with_its_teacher() {
    /// Less than one of the validation samples.
    const BEYOND: f64 = 0.001;
    let scene = Scene::new();
    let wider = [&LONGER[..], &["network.widths=[8, 16]", "seed=2"]].concat();
    let teacher = scene.run("teacher", &wider).join("artifact");
    // As many samples as the student, with a learning rate that is far too small.
    let slow = [0, 1].map(|phase| {
        format!("phases[{phase}].schedule={{ kind = \"constant\", learning_rate = 0.00001 }}")
    });
    let slow = [&LONGER[..], &slow.each_ref().map(String::as_str)].concat();
    let baseline = scene.run("baseline", &slow);
    scene.distil();
    let binary: PathBuf = built_beside(TRAINER, "teacher-service");
    let teacher = Teacher::start(&binary, &teacher, &[]);
    let endpoints = format!("teacher={{ endpoints = [\"{}\"] }}", teacher.grpc);
    let settings = [&LONGER[..], &[endpoints.as_str()]].concat();
    let (_service, [admin, _]) = inference_service(&scene, &[]);
    let folder = scene.path("run");
    let run = |gain: f64, agreement: f64| {
        let baseline = baseline.display();
        let bounds =
            format!("baseline = \"{baseline}\", min_gain = {gain}, min_agreement = {agreement}");
        let done = scene.gated("run", &admin, &bounds, &settings);
        let [gain, agreement] = verdict(&folder)[..] else {
            panic!("{}", stderr(&done));
        };
        (done.status.code(), stderr(&done), gain, agreement)
    };

    let (code, said, gain, agreement) = run(1.0, 1.0);
    assert_eq!(code, WITHHELD, "{said}");
    assert!(!said.contains("warning: the baseline"), "{said}");
    let trained = epochs(&folder);
    let (gained, agreed) = (gain.measured, agreement.measured);
    println!(
        "the student gains {gained} over the baseline, and agrees with the teacher for {agreed}"
    );
    assert!(gained > BEYOND && agreed > BEYOND, "nothing was learnt");
    // What the run reached is enough, and the least more is not.
    let (enough_gain, enough_agreement) = (gained - BEYOND, agreed - BEYOND);
    for (min_gain, min_agreement, expected) in [
        (gained + BEYOND, enough_agreement, [false, true]),
        (enough_gain, agreed + BEYOND, [true, false]),
    ] {
        let (code, said, gain, agreement) = run(min_gain, min_agreement);
        assert_eq!(code, WITHHELD, "{said}");
        let met =
            [(Bound::MinGain, gain), (Bound::MinAgreement, agreement)].map(|(bound, check)| {
                assert_eq!(check.bound, bound);
                check.met
            });
        assert_eq!(met, expected, "{said}");
        assert_eq!(manifest(&folder).published_version, None);
        assert!(!scene.path("models/m").exists(), "it was published");
    }

    let (code, said, gain, agreement) = run(enough_gain, enough_agreement);
    assert_eq!(code, Some(0), "{said}");
    assert!(gain.met && agreement.met, "{said}");
    for part in [
        "the model may be published: gain over the baseline",
        "agreement with the teacher",
        "published as version 1 of m at",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert_eq!(epochs(&folder), trained, "it was trained again");
    assert_eq!(manifest(&folder).published_version, Some(1));
    let served = read(&scene.path("models/m/1"), "model.onnx");
    assert!(served == read(&folder, "artifact/model.onnx"));
    assert!(!scene.path("models/m/2").exists());
}

#[test]
fn bounds_that_need_validation_samples_are_refused_without_them() {
    let scene = Scene::new();
    let none = ["data.validation_samples=0"];
    for (index, bounds) in ["min_accuracy = 0.5", "baseline = \"b\""]
        .iter()
        .enumerate()
    {
        let part = "is measured on validation samples, and there are none";
        scene.refused(&format!("run {index}"), bounds, &none, part);
    }
    // The latency is measured without any.
    let done = scene.gated(
        "latency",
        &unused_address(),
        "max_latency_us = 0.001",
        &none,
    );
    assert_eq!(done.status.code(), WITHHELD, "{}", stderr(&done));
    assert!(
        stderr(&done).contains("µs is above publish.gate.max_latency_us = 0.001"),
        "{}",
        stderr(&done)
    );
}

#[test]
fn a_student_must_agree_with_the_teacher_of_the_run() {
    let scene = Scene::new();
    scene.distil();
    let binary: PathBuf = built_beside(TRAINER, "teacher-service");
    let network = "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = [4, 8]";
    write_artifact(&scene.path("teacher"), network, 1);
    let teacher = Teacher::start(&binary, &scene.path("teacher"), &[]);
    let endpoints = format!("teacher={{ endpoints = [\"{}\"] }}", teacher.grpc);
    let bound = "min_agreement = 1.0";
    let done = scene.gated("run", &unused_address(), bound, &[&endpoints]);
    let said = stderr(&done);
    assert_eq!(done.status.code(), WITHHELD, "{said}");
    assert!(said.contains("agreement with the teacher 0"), "{said}");
    let [agreement] = verdict(&scene.path("run"))[..] else {
        panic!("{said}")
    };
    assert_eq!(agreement.bound, Bound::MinAgreement);
    assert!((0.0..1.0).contains(&agreement.measured), "{agreement:?}");

    // Another teacher does not decide.
    write_artifact(&scene.path("other"), network, 2);
    let other = Teacher::start(&binary, &scene.path("other"), &[]);
    let endpoints = format!(
        "teacher={{ endpoints = [\"{}\"], wait_timeout_seconds = 2 }}",
        other.grpc
    );
    let done = scene.gated(
        "run",
        &unused_address(),
        "min_agreement = 0.0",
        &[&endpoints],
    );
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
}
