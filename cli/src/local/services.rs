//! The services that a command runs on free ports of this machine.

use std::{net::SocketAddr, path::Path};

use super::{InferenceSettings, LocalError, Processes, Service, setting::set};
use crate::{CliError, text_path::text_path};

/// Lets the operating system choose a port that only this machine can reach.
const ANY_PORT: &str = "127.0.0.1:0";
/// Name of the trainer among the processes.
const TRAINER: &str = "trainer";
/// Name of the inference service among the processes.
pub(crate) const INFERENCE: &str = "inference";

/// The programs that [`LocalServices`] starts.
pub(crate) const PROGRAMS: [&str; 3] = ["student-trainer", "teacher-service", "inference-service"];

/// Services as processes of this machine, and the commands that share their lifetime.
pub(crate) struct LocalServices {
    processes: Processes,
    ready: Vec<Service>,
}

impl LocalServices {
    /// No service yet.
    pub(crate) fn new(processes: Processes) -> Self {
        Self {
            processes,
            ready: Vec::new(),
        }
    }

    /// The processes and the services that are ready.
    pub(crate) fn into_parts(self) -> (Processes, Vec<Service>) {
        (self.processes, self.ready)
    }

    /// Starts a trainer that keeps its runs in `runs_folder` and reads data below `allowed`. Returns the address
    /// of its gRPC port.
    pub(crate) async fn start_trainer(
        &mut self,
        runs_folder: &Path,
        allowed: &[&str],
    ) -> Result<SocketAddr, CliError> {
        let allowed = toml::Value::from(allowed.to_vec());
        let arguments = [
            set("runs_folder", text_path(runs_folder)?),
            format!("--set=allowed_folders={allowed}"),
            set("grpc.listen", ANY_PORT),
            set("metrics.listen", ANY_PORT),
        ];
        let service = self.serve(TRAINER, "student-trainer", &arguments).await?;
        port(&service, "grpc")
    }

    /// Starts a teacher on one thread, because the trainer needs a core too. `model` are the arguments that
    /// describe its model. Returns the address of its gRPC port.
    pub(crate) async fn start_teacher(
        &mut self,
        name: &str,
        model: &[String],
    ) -> Result<SocketAddr, CliError> {
        let arguments = [
            model,
            &[
                set("compute.threads", 1),
                set("grpc.listen", ANY_PORT),
                set("metrics.listen", ANY_PORT),
            ],
        ]
        .concat();
        let service = self.serve(name, "teacher-service", &arguments).await?;
        port(&service, "grpc")
    }

    /// Starts an inference service with the model store `store`. Returns the address of its gRPC port.
    pub(crate) async fn start_inference(
        &mut self,
        store: &Path,
        settings: &InferenceSettings,
    ) -> Result<SocketAddr, CliError> {
        let mut arguments = vec![set("store", text_path(store)?)];
        arguments.extend(settings.arguments());
        let service = self.serve(INFERENCE, "inference-service", &arguments);
        port(&service.await?, "grpc")
    }

    /// Runs `program ARGUMENTS` until it ends successfully.
    pub(crate) async fn finish(
        &mut self,
        name: &str,
        program: &str,
        arguments: &[String],
    ) -> Result<(), CliError> {
        Ok(self.processes.finish(name, program, arguments).await?)
    }

    /// The address of the port `kind` of the service `name`.
    pub(crate) fn address(&self, name: &str, kind: &'static str) -> Result<SocketAddr, CliError> {
        let service = self.ready.iter().find(|service| service.name == name);
        let missing = || LocalError::NoAddress {
            service: name.to_owned(),
            port: kind,
        };
        port(service.ok_or_else(missing)?, kind)
    }

    async fn serve(
        &mut self,
        name: &str,
        program: &str,
        arguments: &[String],
    ) -> Result<Service, CliError> {
        let service = self.processes.serve(name, program, arguments).await?;
        self.ready.push(service.clone());
        Ok(service)
    }
}

fn port(service: &Service, kind: &'static str) -> Result<SocketAddr, CliError> {
    let address = service.addresses.get(kind).copied();
    address.ok_or_else(|| {
        let service = service.name.clone();
        LocalError::NoAddress {
            service,
            port: kind,
        }
        .into()
    })
}
