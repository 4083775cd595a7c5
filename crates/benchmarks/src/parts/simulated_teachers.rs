//! Simulated teachers: they speak the real protocol, but compute nothing.

use std::{sync::Arc, thread, time::Duration};

use artifacts::manifest::TeacherIdentity;
use clap::Args;
use common::ready_file::ReadyFile;
use datasets::Interpolation;
use futures::future::join_all;
use server::listen::PortAccess;
use teacher_service::{
    backend::{Backend, BackendError, Description},
    batch::Batch,
    compute::Compute,
    config::GrpcConfig,
    loaded_teacher::LoadedTeacher,
    service::Teacher,
    stream::Stopping,
};
use tensors::{DataType, TensorSpec};
use tokio_util::sync::CancellationToken;

use super::teacher_server::{self, ReadyFileArgument, incoming, listen};

/// More than can be in flight.
const MAX_QUEUED_BYTES: usize = 1 << 30;

/// Serve simulated teachers, which wait for a fixed time per batch and answer with a constant.
#[derive(Debug, Args)]
pub(crate) struct SimulatedTeachersArguments {
    /// Number of teachers, each on its own port; the ready file names them 0, 1, 2, …
    #[arg(long, default_value_t = 1)]
    teachers: usize,
    /// Time per batch of any size.
    #[arg(long, default_value_t = 20)]
    milliseconds: u64,
    /// Batches in flight per stream.
    #[arg(long, default_value_t = 2)]
    credit: u32,
    /// Shape of one sample: channels, height and width.
    #[arg(long, value_delimiter = ',', num_args = 3, default_values_t = [1, 28, 28])]
    shape: Vec<usize>,
    /// Number of logits per sample.
    #[arg(long, default_value_t = 10)]
    classes: usize,
    #[command(flatten)]
    ready_file: ReadyFileArgument,
}

/// Serves until a signal asks to stop.
pub(super) fn serve(arguments: &SimulatedTeachersArguments) -> anyhow::Result<()> {
    teacher_server::run(|stop| serve_until(stop, arguments))
}

async fn serve_until(
    stop: CancellationToken,
    arguments: &SimulatedTeachersArguments,
) -> anyhow::Result<()> {
    let stopping = Stopping {
        drain: stop.clone(),
        ..Stopping::default()
    };
    let mut servers = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..arguments.teachers {
        let teacher = SimulatedTeacher::new(arguments);
        let compute = Compute::start(MAX_QUEUED_BYTES, move || Ok(teacher)).await?;
        let (listener, address) = listen().await?;
        addresses.push(address);
        let config = GrpcConfig {
            listen: address,
            access: PortAccess::ThisMachineOnly,
            tls: None,
            credit: arguments.credit,
            max_connections: 64,
            max_streams: 64,
            max_queued_bytes: MAX_QUEUED_BYTES,
            read_timeout_seconds: 30,
            reader_timeout_seconds: 60,
            max_message_bytes: 64 << 20,
        };
        let loaded = LoadedTeacher {
            compute,
            data: None,
        };
        let service = Teacher::service(Arc::new(loaded.into()), &config, stopping.clone());
        let served = teacher_server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming(listener), stop.clone().cancelled_owned());
        servers.push(tokio::spawn(served));
    }
    let names: Vec<_> = (0..addresses.len())
        .map(|index| index.to_string())
        .collect();
    let named: Vec<_> = names.iter().map(String::as_str).zip(addresses).collect();
    let mut ready_file = ReadyFile::prepare(&arguments.ready_file.path)?;
    ready_file.write(&named)?;
    for served in join_all(servers).await {
        served??;
    }
    Ok(())
}

/// Waits, and answers with zeros.
struct SimulatedTeacher {
    time: Duration,
    description: Description,
}

impl SimulatedTeacher {
    fn new(arguments: &SimulatedTeachersArguments) -> Self {
        Self {
            time: Duration::from_millis(arguments.milliseconds),
            description: Description {
                identity: TeacherIdentity {
                    model_id: "simulated".to_owned(),
                    numerics: "simulated".to_owned(),
                    probe_sha256: "simulated".to_owned(),
                },
                input: TensorSpec::batch_of("input", DataType::Uint8, &arguments.shape),
                interpolation: Interpolation::Bilinear,
                preprocessing: String::new(),
                class_names: (0..arguments.classes)
                    .map(|class| class.to_string())
                    .collect(),
            },
        }
    }
}

impl Backend for SimulatedTeacher {
    fn description(&self) -> &Description {
        &self.description
    }

    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>, BackendError> {
        if !self.time.is_zero() {
            thread::sleep(self.time);
        }
        Ok(vec![
            0.0;
            batch.samples * self.description.class_names.len()
        ])
    }
}
