//! A running teacher service, and artifacts for it.

use std::{net::SocketAddr, path::Path, process::Command};

use networks::{ModelFile, NetworkSpec, Weights};

use crate::{data::class_names, metrics_page::metric, process::Process};

/// A running teacher-service on free ports.
pub struct Teacher {
    pub process: Process,
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
}

impl Teacher {
    /// Serves `artifact` on one CPU thread. `settings` are further `key=value` pairs.
    pub fn start(binary: &Path, artifact: &Path, settings: &[&str]) -> Self {
        Self::start_at(binary, artifact, "127.0.0.1:0", settings)
    }

    /// [`start`](Self::start) at the given address.
    pub fn start_at(binary: &Path, artifact: &Path, listen: &str, settings: &[&str]) -> Self {
        Self::launch(Command::new(binary), artifact, listen, settings)
    }

    /// [`start`](Self::start) with further environment variables.
    pub fn start_in(binary: &Path, artifact: &Path, environment: &[(&str, String)]) -> Self {
        let mut command = Command::new(binary);
        command.envs(environment.iter().cloned());
        Self::launch(command, artifact, "127.0.0.1:0", &[])
    }

    fn launch(mut command: Command, artifact: &Path, listen: &str, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ready_file = folder.path().join("ready.json");
        let listen = format!("grpc.listen={listen}");
        command.arg("serve").arg("--model").arg(artifact);
        command.arg("--ready-file").arg(&ready_file);
        let fixed = [
            &listen,
            "metrics.listen=127.0.0.1:0",
            "compute.device=cpu",
            "compute.threads=1",
        ];
        for setting in fixed.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let mut process = Process::start(command);
        let addresses = process.ready(&ready_file);
        Self {
            process,
            grpc: addresses["grpc"],
            metrics: addresses["metrics"],
        }
    }

    /// Value of a line of `/metrics`, such as `retort_teacher_streams`, or 0 if it is missing.
    pub fn metric(&self, line: &str) -> f64 {
        metric(self.metrics, line)
    }

    /// Number of batches answered so far.
    pub fn answered(&self) -> f64 {
        self.metric("retort_teacher_batches_total{outcome=\"answered\"}")
    }
}

/// Writes an untrained teacher with the network `network` (a spec in TOML) to `folder`.
pub fn write_artifact(folder: &Path, network: &str, seed: u64) -> (ModelFile, Weights) {
    let network: NetworkSpec = toml::from_str(network).unwrap();
    let weights = Weights::initial(&network, seed).unwrap();
    let channels = network.input.channels();
    let model = ModelFile {
        format_version: ModelFile::FORMAT_VERSION,
        weights_sha256: None,
        class_names: class_names(network.classes),
        normalization_mean: vec![0.3; channels],
        normalization_std: vec![0.4; channels],
        network,
    };
    let bytes = weights.to_safetensors().unwrap();
    let model = model.with_weights(&bytes);
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("model.toml"), model.to_toml().unwrap()).unwrap();
    std::fs::write(folder.join("weights.safetensors"), bytes).unwrap();
    (model, weights)
}
