//! Runs that start from the weights in a file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use common::digest::Sha256;
use networks::{NetworkSpec, Weights};
use student_trainer::run::RunManifest;
use test_support::{
    Process, eventually,
    run_toml::{PhaseToml, RunToml},
    write_idx,
};

/// Without batch-norm, whose statistics change even if the weights do not.
const NETWORK: &str = "input = [1, 8, 8]\nclasses = 10\npreset = \"mlp\"\nwidths = [8]";

struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        write_idx(&scene.path("data"), 64, [8, 8]);
        let config = RunToml {
            network: NETWORK,
            phases: &[PhaseToml {
                // Too small to change any weight.
                schedule: "{ kind = \"constant\", learning_rate = 1e-30 }",
                ..PhaseToml::default()
            }],
            ..RunToml::default()
        };
        fs::write(scene.path("run.toml"), config.to_string()).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A run that starts from the file `weights`.
    fn command(&self, output: &str, weights: &str, settings: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_student-trainer"));
        command.arg("run").arg(self.path("run.toml"));
        command.arg("--output").arg(self.path(output));
        let data = format!("data.path={}", self.path("data").display());
        let weights = format!("initial_weights.path={}", self.path(weights).display());
        for setting in [&*data, &*weights].iter().chain(settings) {
            command.args(["--set", setting]);
        }
        command
    }

    fn run(&self, output: &str, weights: &str) -> Output {
        self.command(output, weights, &[]).output().unwrap()
    }

    /// Writes random weights of [`NETWORK`] with so many classes. Returns them and the digest of the file.
    fn write_weights(&self, name: &str, classes: usize, seed: u64) -> (Weights, Sha256) {
        let spec = NETWORK.replace("classes = 10", &format!("classes = {classes}"));
        let spec = NetworkSpec::from_toml(&spec).unwrap();
        let weights = Weights::initial(&spec, seed).unwrap();
        let bytes = weights.to_safetensors().unwrap();
        fs::write(self.path(name), &bytes).unwrap();
        (weights, Sha256::of(&bytes))
    }
}

fn trained(run: &Path) -> Weights {
    let bytes = fs::read(run.join("artifact/weights.safetensors")).unwrap();
    let spec = NetworkSpec::from_toml(NETWORK).unwrap();
    Weights::from_safetensors(&bytes, &spec).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_run_starts_from_the_weights_in_the_file_and_its_manifest_names_them() {
    let scene = Scene::new();
    let (weights, sha256) = scene.write_weights("own.safetensors", 10, 9);
    let done = scene.run("own", "own.safetensors");
    assert!(done.status.success(), "{}", stderr(&done));
    let said = stderr(&done);
    assert!(said.contains(sha256.as_str()), "{said}");
    assert!(
        said.contains("with Retort's names; no layer is random"),
        "{said}"
    );
    assert_eq!(trained(&scene.path("own")), weights);
    let manifest = fs::read(scene.path("own/manifest.json")).unwrap();
    let manifest: RunManifest = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest.initial_weights_sha256, Some(sha256));

    // Other classes: only the last layer is random, as the seed of the run says.
    let (weights, _) = scene.write_weights("other.safetensors", 7, 9);
    let done = scene.run("other", "other.safetensors");
    assert!(done.status.success(), "{}", stderr(&done));
    let spec = NetworkSpec::from_toml(NETWORK).unwrap();
    let random = Weights::initial(&spec, 1).unwrap();
    let trained = trained(&scene.path("other"));
    let names: Vec<_> = trained.iter().map(|(name, _)| name).collect();
    let [hidden @ .., head_bias, head_weight] = &names[..] else {
        panic!("{names:?}");
    };
    for name in hidden {
        assert_eq!(trained.get(name), weights.get(name), "{name}");
    }
    for name in [head_bias, head_weight] {
        assert_eq!(trained.get(name), random.get(name), "{name}");
        assert!(stderr(&done).contains(*name), "{}", stderr(&done));
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_before_anything_starts() {
    let scene = Scene::new();
    scene.write_weights("good.safetensors", 10, 9);
    let good = fs::read(scene.path("good.safetensors")).unwrap();
    fs::write(scene.path("truncated.safetensors"), &good[..good.len() - 1]).unwrap();
    fs::write(scene.path("pickle.pth"), b"PK\x03\x04").unwrap();
    let wider = NetworkSpec::from_toml(&NETWORK.replace("[8]", "[9]")).unwrap();
    let wider = Weights::initial(&wider, 9).unwrap();
    fs::write(
        scene.path("wider.safetensors"),
        wider.to_safetensors().unwrap(),
    )
    .unwrap();
    for (file, said) in [
        ("missing.safetensors", "No such file"),
        ("truncated.safetensors", "truncated"),
        ("pickle.pth", "from safetensors.torch import save_file"),
        ("wider.safetensors", "of another shape: layers."),
    ] {
        let done = scene.run("run", file);
        assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
        for part in ["initial_weights.path = ", file, said] {
            assert!(
                stderr(&done).contains(part),
                "{part} is not in: {}",
                stderr(&done)
            );
        }
        assert!(!scene.path("run").exists());
    }
}

#[test]
fn a_run_does_not_resume_from_other_initial_weights() {
    let scene = Scene::new();
    scene.write_weights("first.safetensors", 10, 9);
    let endless = ["phases[0].epochs=1000000"];
    let mut process = Process::start(scene.command("run", "first.safetensors", &endless));
    let metrics = scene.path("run/metrics.jsonl");
    eventually("an epoch", || {
        let text = fs::read_to_string(&metrics).unwrap_or_default();
        text.contains("epoch_finished").then_some(())
    });
    process.signal("INT");
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());

    scene.write_weights("other.safetensors", 10, 8);
    let refused = scene.command("run", "other.safetensors", &endless).output();
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("the initial weights are a file with SHA-256"),
        "{}",
        stderr(&refused)
    );

    // The same weights may be elsewhere.
    fs::rename(
        scene.path("first.safetensors"),
        scene.path("moved.safetensors"),
    )
    .unwrap();
    let mut process = Process::start(scene.command("run", "moved.safetensors", &endless));
    eventually("the resumption", || {
        process.stderr().contains("resumes from step").then_some(())
    });
    process.signal("INT");
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
}
