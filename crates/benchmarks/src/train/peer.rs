//! PyTorch, in a process of its own.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, ensure};
use common::{
    atomic_file,
    process_environment::{KEPT_MEMORY, ONE_HEAP},
};
use networks::{NetworkSpec, cost};
use serde::{Deserialize, Serialize};
use toml::Table;
use torch_networks::InstructionSet;

use super::workload::{Amount, BATCH_SIZE, Workload, optimizer, schedule};
use crate::{process::Program, recipe};

/// The program that trains with PyTorch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer<'a> {
    pub program: &'a Path,
    /// Whether it measures torch.compile, too.
    pub compile: bool,
}

/// What PyTorch reached.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeerFigures {
    /// Version of PyTorch.
    pub torch: String,
    /// Trained values of its network.
    parameters: u64,
    /// Samples/s of each variant of eager mode, by its name; not empty.
    pub samples_per_second: BTreeMap<String, f64>,
    /// Samples/s with torch.compile, if it was asked for and works.
    pub compiled: Option<f64>,
    /// Why torch.compile does not work.
    pub compile_error: Option<String>,
}

/// What the program reads.
#[derive(Debug, Serialize)]
struct Job<'a> {
    /// With its preset expanded to layers.
    network: NetworkSpec,
    /// Folder with IDX files or NumPy arrays.
    images: &'a Path,
    samples: usize,
    batch_size: usize,
    threads: usize,
    warm_up_steps: usize,
    steps: usize,
    mean: Vec<f32>,
    std: Vec<f32>,
    augmentation: Table,
    optimizer: Table,
    schedule: Table,
    /// Whether it measures bf16 too: this processor multiplies bf16 numbers natively. PyTorch's emulation takes minutes for a
    /// step of MobileNetV2.
    bf16: bool,
    compile: bool,
}

impl Peer<'_> {
    /// Installs PyTorch, if it is missing.
    pub(super) async fn prepare(&self) -> anyhow::Result<()> {
        Program::script(self.program)?.arg("--install").run().await
    }

    /// Trains `workload` as the trainer does, on `cores`, and notes the job in `folder`.
    pub(super) async fn train(
        &self,
        folder: &Path,
        workload: Workload,
        amount: Amount,
        images: &Path,
        cores: &[usize],
    ) -> anyhow::Result<PeerFigures> {
        let network = workload.network()?;
        let parameters = cost(&network)?.parameters;
        let (mean, std) = workload.task().normalization();
        let steps = workload.samples() / BATCH_SIZE;
        let job = Job {
            network: network.expanded()?,
            images,
            samples: workload.samples(),
            batch_size: BATCH_SIZE,
            threads: amount.threads,
            warm_up_steps: steps,
            steps: steps * amount.epochs,
            mean,
            std,
            augmentation: recipe::augmentation()?,
            optimizer: optimizer(),
            schedule: schedule(),
            bf16: InstructionSet::current().has_bf16(),
            compile: self.compile,
        };
        let file = folder.join("job.json");
        atomic_file::write(&file, &serde_json::to_vec(&job)?)
            .with_context(|| file.display().to_string())?;
        let program = Program::script(self.program)?.arg(&file).on_cores(cores);
        // As the trainer sets them. They make PyTorch faster, too.
        let program = KEPT_MEMORY
            .iter()
            .chain(&[ONE_HEAP])
            .fold(program, |program, (name, value)| program.env(name, value));
        let figures: PeerFigures = program.figures().await?;
        ensure!(
            figures.parameters == parameters,
            "PyTorch's network has {} parameters and the trainer's {parameters}",
            figures.parameters
        );
        ensure!(
            !figures.samples_per_second.is_empty(),
            "{} measured nothing",
            self.program.display()
        );
        Ok(figures)
    }
}

impl PeerFigures {
    /// Samples/s of the fastest variant.
    pub(super) fn fastest(&self) -> f64 {
        self.samples_per_second
            .values()
            .copied()
            .fold(0.0, f64::max)
    }
}
