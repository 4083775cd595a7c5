//! `retort demo`: trains a teacher, distils a student, publishes and serves it, with real processes on
//! this machine.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use common::{output::Narration, shutdown::Signals};
use datasets::{Split, load_idx};

use crate::{
    CliError,
    local::{INFERENCE, KeptService, OutputFolder, Owner, PROGRAMS, Processes, Service},
    text_path::text_path,
};
use recipe::{MODEL, Recipe};
use steps::Steps;
use test_images::TestImages;

mod recipe;
mod report;
mod serving;
mod steps;
mod summary;
mod table;
mod test_images;

const EXAMPLES: &str = "\
Examples:
  retort demo                  about ten minutes on two cores with AVX512_BF16
  retort demo --quick          smaller and less accurate, within a minute
  retort demo --seed 2 --output runs/demo-2
  retort demo --keep           leaves the services running and prints how to call them

Ctrl-C ends the demo and every process that it has started. The demo replaces the output folder of an
earlier demo, and never changes a folder with other content.";

/// Train a teacher on Fashion-MNIST, distil a student from it, serve the student, and measure both.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArguments {
    /// Seed of every random choice.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
    /// Leave the services running at the end.
    #[arg(long)]
    keep: bool,
    /// Run all steps on less data.
    #[arg(long)]
    quick: bool,
    /// Output folder of the demo.
    #[arg(long, default_value = "runs/demo")]
    output: PathBuf,
    /// Folder with the IDX files of Fashion-MNIST; `scripts/setup` downloads them.
    #[arg(long, value_name = "FOLDER", default_value = ".deps/fashion-mnist")]
    data: PathBuf,
}

/// `retort demo`.
pub(crate) async fn execute(arguments: DemoArguments) -> Result<(), CliError> {
    let mut signals = Signals::listen().map_err(CliError::Signals)?;
    let recipe = if arguments.quick {
        Recipe::QUICK
    } else {
        Recipe::FULL
    };
    // Check the data before the folder is changed and before minutes of work.
    let images = load_idx(&arguments.data, Split::Test, &recipe::class_names())?;
    let data = arguments.data.canonicalize();
    let data = data.map_err(CliError::file(&arguments.data))?;
    let data = text_path(&data)?;
    let images = TestImages::new(images, recipe.test_samples)?;
    let folder = OutputFolder::prepare(&arguments.output, Owner::Demo)?;
    let (processes, mut deaths) = Processes::new(folder.logs())?;
    processes.check(&PROGRAMS)?;

    let mut steps = Steps::new(&arguments, recipe, data, images, &folder, processes);
    let outcome = tokio::select! {
        outcome = steps.all() => outcome,
        death = deaths.next() => Err(death.into()),
        signal = signals.next() => Err(CliError::Stopped(signal)),
    };
    let doing = steps.doing;
    let (mut processes, services) = steps.into_services();
    match outcome {
        Ok(()) if arguments.keep => keep(&folder, processes, services).await,
        Ok(()) => {
            stop(&mut processes, &mut signals).await;
            writeln!(Narration, "All services are stopped.");
            Ok(())
        }
        Err(error) => {
            let error = deaths.root_cause(error).await;
            writeln!(Narration, "\nEnding all services …");
            stop(&mut processes, &mut signals).await;
            writeln!(
                Narration,
                "All services are stopped. The demo ended while {doing}; its output so far is in {}, \
                 its logs are in {}.",
                folder.path().display(),
                folder.logs().display(),
            );
            Err(error)
        }
    }
}

async fn stop(processes: &mut Processes, signals: &mut Signals) {
    let hurry = async {
        signals.next().await;
    };
    processes.stop(hurry).await;
}

async fn keep(
    folder: &OutputFolder,
    mut processes: Processes,
    services: Vec<Service>,
) -> Result<(), CliError> {
    let left = processes.detach().await;
    let services: Vec<KeptService> = services
        .into_iter()
        .filter(|service| left.contains(&service.pid))
        .map(|service| KeptService {
            name: service.name,
            pid: service.pid,
            addresses: service.addresses,
        })
        .collect();
    let file = folder.keep(&services)?;
    writeln!(Narration, "The services keep running:");
    for service in &services {
        let addresses: Vec<String> = service
            .addresses
            .iter()
            .map(|(port, address)| format!("{port} {address}"))
            .collect();
        writeln!(
            Narration,
            "  {:<18} pid {:<8} {}",
            service.name,
            service.pid,
            addresses.join(", ")
        );
    }
    writeln!(Narration, "  (as JSON: {})", file.display());
    print_calls(&services);
    let pids: Vec<String> = services
        .iter()
        .map(|service| service.pid.to_string())
        .collect();
    writeln!(Narration, "\nStop them with: kill {}", pids.join(" "));
    Ok(())
}

/// Prints how to call the inference service from a shell and from Python.
fn print_calls(services: &[KeptService]) {
    let none = BTreeMap::new();
    let inference = services
        .iter()
        .find(|service| service.name == INFERENCE)
        .map_or(&none, |service| &service.addresses);
    let [Some(grpc), Some(admin)] = ["grpc", "admin"].map(|port| inference.get(port)) else {
        return;
    };
    writeln!(
        Narration,
        "
Call the student, from a shell:
  retort predict --url {grpc} --model {MODEL} --index 0,1,2
  retort models list --admin {admin}
from Python (pip install 'tritonclient[grpc]'):
  import numpy, tritonclient.grpc as triton
  client = triton.InferenceServerClient('{grpc}')
  images = numpy.zeros((1, 1, 28, 28), numpy.float32)  # normalized: (pixel / 255 - mean) / std
  tensor = triton.InferInput('input', images.shape, 'FP32')
  tensor.set_data_from_numpy(images)
  print(client.infer('{MODEL}', [tensor]).as_numpy('logits'))"
    );
}
