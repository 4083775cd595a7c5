//! An inference service as a process of its own.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::ready_file;

/// An inference service with a model of random weights, `model`. It is killed when this is dropped.
pub struct Service {
    pub process: Child,
    addresses: BTreeMap<String, SocketAddr>,
}

impl Service {
    /// Starts one whose store, `models`, is made in `folder`, and waits until it serves.
    pub fn start(folder: &Path) -> Self {
        let (store, ready) = (folder.join("models"), folder.join("ready"));
        let made = program("inference-service")
            .args(["bench", "store", "--network", "demo-student"])
            .args(["--model", "model", "--output"])
            .arg(&store)
            .status();
        assert!(made.unwrap().success());
        let mut command = program("inference-service");
        command.arg("serve").arg("--store").arg(&store);
        for port in ["grpc", "admin", "http", "metrics"] {
            command.args(["--set", &format!("{port}.listen=127.0.0.1:0")]);
        }
        command.arg("--ready-file").arg(&ready);
        let process = command.stderr(Stdio::null()).spawn().unwrap();
        let mut service = Self {
            process,
            addresses: BTreeMap::new(),
        };
        let began = Instant::now();
        service.addresses = loop {
            if let Some(addresses) = ready_file::read(&ready).unwrap() {
                break addresses;
            }
            assert!(service.process.try_wait().unwrap().is_none(), "it ended");
            assert!(began.elapsed() < Duration::from_secs(60), "not ready");
            thread::sleep(Duration::from_millis(5));
        };
        service
    }

    pub fn address(&self, port: &str) -> String {
        self.addresses[port].to_string()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program that stands beside `retort`.
fn program(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_BIN_EXE_retort")).with_file_name(name))
}
