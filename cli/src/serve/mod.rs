//! `retort serve`: serves distilled students on this machine.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use clap::Args;
use common::{output::Narration, shutdown::Signals};
use server::upload::IfStored;
use tempfile::TempDir;

use crate::{
    CliError,
    client::Remote,
    local::{INFERENCE, InferenceSettings, LocalServices, Processes},
    models::upload_artifact,
};
use student_folder::Artifact;

mod commands;
mod error;
mod student_folder;

pub use error::ServeError;

const EXAMPLES: &str = "\
Examples:
  retort serve student/                  the result of `retort distill --out student/`
  retort serve student/ --demo-page      with a web page that classifies pictures: http://127.0.0.1:8000/
  retort serve student/ --demo-page --teacher 127.0.0.1:50051
                                         the page also shows the classes of a running teacher service
  retort serve runs/demo --port 0        every student in a folder, on free ports

The models are published to an inference service on this machine, with a model store that is removed at the
end. Ctrl-C or SIGTERM stops it; requests in flight are answered. To serve permanently, and on other machines,
run `inference-service serve` and `retort models publish`.";

/// Serve distilled students on this machine until Ctrl-C or SIGTERM.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArguments {
    /// The output folder of `retort distill`, the folder of a run, a folder with model.onnx and manifest.json,
    /// or a folder of several of these.
    folder: PathBuf,
    /// Name of the model, if there is only one [default: the folder's name].
    #[arg(long, value_name = "MODEL")]
    name: Option<String>,
    /// Address of the HTTP and gRPC ports. With an address that other machines reach, everybody who reaches it
    /// may classify pictures; publishing stays with this machine.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The HTTP port. The gRPC, metrics and admin ports are the next three. 0 takes free ports.
    #[arg(long, default_value_t = 8000, value_parser = clap::value_parser!(u16).range(..=i64::from(u16::MAX) - 3))]
    port: u16,
    /// Serves a web page at the HTTP port that classifies pictures in a browser.
    #[arg(long)]
    demo_page: bool,
    /// host:port of a teacher service, whose classes the page shows beside those of the models.
    #[arg(long, value_name = "HOST:PORT", requires = "demo_page")]
    teacher: Option<String>,
}

impl ServeArguments {
    fn settings(&self) -> InferenceSettings {
        let port = |offset: u16| match self.port {
            0 => 0,
            first => first + offset,
        };
        let here = |offset| SocketAddr::from(([127, 0, 0, 1], port(offset)));
        InferenceSettings {
            http: SocketAddr::new(self.host, port(0)),
            grpc: SocketAddr::new(self.host, port(1)),
            metrics: here(2),
            admin: here(3),
            demo_page: self.demo_page,
            demo_page_teacher: self.teacher.clone(),
        }
    }
}

/// `retort serve`.
pub(crate) async fn execute(arguments: ServeArguments) -> Result<(), CliError> {
    let mut signals = Signals::listen().map_err(CliError::Signals)?;
    let artifacts = student_folder::find(&arguments.folder, arguments.name.as_deref())?;
    let settings = arguments.settings();
    for address in settings.addresses() {
        check_free(address)?;
    }
    let folder = TempDir::with_prefix("retort-serve-");
    let folder = folder.map_err(CliError::file(std::env::temp_dir()))?;
    let (processes, mut deaths) = Processes::new(folder.path().to_owned())?;
    processes.check(&["inference-service"])?;

    let mut services = LocalServices::new(processes);
    let store = folder.path().join("models");
    let started = tokio::select! {
        started = start(&mut services, &store, &settings, &artifacts) => started,
        death = deaths.next() => Err(death.into()),
        signal = signals.next() => Err(CliError::Stopped(signal)),
    };
    let outcome = match started {
        Ok(()) => tokio::select! {
            signal = signals.next() => {
                writeln!(Narration, "Stopping ({signal}) …");
                Ok(())
            }
            death = deaths.next() => Err(death.into()),
        },
        Err(error) => Err(deaths.root_cause(error).await),
    };
    let (mut processes, _) = services.into_parts();
    let hurry = async {
        signals.next().await;
    };
    processes.stop(hurry).await;
    if let Err(CliError::Local(_)) = outcome {
        // The error names a log in it.
        let _ = folder.keep();
    }
    outcome
}

/// Starts the service, publishes every model, and prints how to call them.
async fn start(
    services: &mut LocalServices,
    store: &Path,
    settings: &InferenceSettings,
    artifacts: &[Artifact],
) -> Result<(), CliError> {
    let grpc = services.start_inference(store, settings).await?;
    let admin = Remote::admin(services.address(INFERENCE, "admin")?.to_string());
    for Artifact { name, folder, .. } in artifacts {
        let published = upload_artifact(&admin, name.as_str(), folder, IfStored::Activate).await?;
        for warning in &published.warnings {
            writeln!(Narration, "{name}: warning: {warning}");
        }
    }
    let addresses = commands::Addresses {
        http: services.address(INFERENCE, "http")?,
        grpc,
        metrics: services.address(INFERENCE, "metrics")?,
        admin: services.address(INFERENCE, "admin")?,
    };
    let text = commands::text(artifacts, &addresses, settings.demo_page);
    writeln!(Narration, "{text}");
    Ok(())
}

/// Names a port that is taken before anything is started.
fn check_free(address: SocketAddr) -> Result<(), ServeError> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) => Err(ServeError::Port { address, error }),
    }
}
