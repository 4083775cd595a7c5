//! A running inference service, with a model of random weights or without models.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Command};

use crate::process::{Process, built_beside};

/// A running inference service on free ports. Its store is the folder `models` in that of the caller.
pub struct InferenceService {
    pub process: Process,
    addresses: BTreeMap<String, SocketAddr>,
}

impl InferenceService {
    /// Starts the service that was built beside `own`, with a store in `folder` that has one model, called `model`.
    pub fn start(own: &str, folder: &Path) -> Self {
        Self::start_with(own, folder, &[])
    }

    /// [`start`](Self::start) with further `key=value` settings.
    pub fn start_with(own: &str, folder: &Path, settings: &[&str]) -> Self {
        let written = Command::new(built_beside(own, "retort-bench"))
            .args(["store", "--network", "demo-student"])
            .args(["--model", "model", "--output"])
            .arg(folder.join("models"))
            .status();
        assert!(written.unwrap().success());
        Self::start_empty(own, folder, settings)
    }

    /// [`start_with`](Self::start_with), with no model but those that `folder` has already.
    pub fn start_empty(own: &str, folder: &Path, settings: &[&str]) -> Self {
        let ready_file = folder.join("ready.json");
        let mut command = Command::new(built_beside(own, "inference-service"));
        command.arg("serve");
        command.arg("--store").arg(folder.join("models"));
        for port in ["grpc", "admin", "http", "metrics"] {
            command.args(["--set", &format!("{port}.listen=127.0.0.1:0")]);
        }
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.arg("--ready-file").arg(&ready_file);
        let mut process = Process::start(command);
        let addresses = process.ready(&ready_file);
        Self { process, addresses }
    }

    /// The address of a port: grpc, admin, http or metrics.
    pub fn address(&self, port: &str) -> String {
        self.addresses[port].to_string()
    }
}
