//! `retort-bench threads`: two threads on cores that other programs use.

mod busy_loops;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use clap::Args;
use common::output::Messages;
use tempfile::TempDir;

use crate::{
    distill::Teacher,
    measurement::Measurement,
    number_arguments::at_least_one,
    process::{Program, usable_cores},
    report::print,
    task::Architecture,
    train::workload::{Amount, Workload},
    trainer::Trainer,
};
use busy_loops::BusyLoops;
use report::{Figures, Round, Turn};

/// Threads of trainer and teacher, cores that they may use, and busy loops.
const THREADS: usize = 2;

/// Measure two threads on cores that other programs use.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  retort-bench threads
  retort-bench threads --spins 0,1000,300000 --network demo-student --json

Trains a network on two threads and two cores, alone and beside two busy loops, one on each of the
cores, and measures a teacher's forward pass (the demo's ResNet-14) in the same way. The threads of
a step wait for each other; a thread that waits spins for --spins iterations before it sleeps (the
variable GOMP_SPINCOUNT; 100,000 are about a millisecond). The programs themselves set 30,000;
libgomp's default is 300,000.

beside_ratio  samples/s beside the busy loops, divided by samples/s alone; the fair share is 0.5
alone_ratio   samples/s alone, divided by that of the largest number of spins")]
pub(crate) struct ThreadsArguments {
    /// The network that is trained.
    #[arg(long, value_enum, default_value_t = Workload::Resnet8)]
    network: Workload,
    /// Iterations for which a waiting thread spins.
    #[arg(long, value_delimiter = ',', default_value = "0,30000,300000")]
    spins: Vec<u64>,
    /// Number of turns; the benchmark reports medians.
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    turns: usize,
    /// Training samples of an epoch, and at least that many samples of forward passes.
    #[arg(long, default_value_t = 1_024, value_parser = at_least_one)]
    samples: usize,
    /// Measured epochs per turn.
    #[arg(long, default_value_t = 2, value_parser = at_least_one)]
    epochs: usize,
    /// Folder with the IDX files of Fashion-MNIST; `scripts/setup` downloads them.
    #[arg(long, value_name = "FOLDER", default_value = ".deps/fashion-mnist")]
    data: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn execute(arguments: &ThreadsArguments) -> anyhow::Result<()> {
    let cores = usable_cores(THREADS).context("cannot read the core affinity")?;
    ensure!(
        cores.len() == THREADS,
        "the benchmark needs {THREADS} cores, but this process may use {}",
        cores.len()
    );
    let folder = TempDir::new().context("cannot create a folder")?;
    let task = arguments.network.task();
    let images = task.data(&arguments.data, folder.path(), arguments.samples)?;
    let teacher = Teacher::write(folder.path(), Architecture::Demo, task)?;
    let mut contestants = Vec::new();
    for &spins in &arguments.spins {
        let waiting = Waiting {
            spins,
            cores: &cores,
        };
        let folder = folder.path().join(format!("spins-{spins}"));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let program = waiting.apply(Trainer::program()?);
        contestants.push((waiting, Trainer::start(program, &folder, &images).await?));
    }
    let mut turns = Vec::new();
    for number in 1..=arguments.turns {
        writeln!(Messages, "turn {number} of {}", arguments.turns);
        let mut turn = Turn::new();
        for (waiting, trainer) in &contestants {
            let measure = || arguments.measure(waiting, trainer, &teacher, &images);
            let alone = measure().await?;
            let busy = BusyLoops::start(&cores);
            let beside = measure().await?;
            drop(busy);
            turn.insert(waiting.spins, Round { alone, beside });
        }
        turns.push(turn);
    }
    print(&Figures::of(&turns), arguments.json)
}

/// How the threads of a program wait for each other, and where.
struct Waiting<'a> {
    spins: u64,
    cores: &'a [usize],
}

impl Waiting<'_> {
    fn apply(&self, program: Program) -> Program {
        program
            .on_cores(self.cores)
            .env("GOMP_SPINCOUNT", &self.spins.to_string())
    }
}

/// Samples/s of training and of a teacher's forward pass.
#[derive(Debug, Clone, Copy)]
struct Speeds {
    training: f64,
    forward: f64,
}

impl ThreadsArguments {
    async fn measure(
        &self,
        waiting: &Waiting<'_>,
        trainer: &Trainer,
        teacher: &Teacher,
        images: &Path,
    ) -> anyhow::Result<Speeds> {
        let amount = Amount {
            threads: THREADS,
            epochs: self.epochs,
        };
        let run = self.network.run(amount, self.samples, images)?;
        let training = trainer.train(run, self.samples as u64, None).await?;
        let forward = waiting.apply(teacher.forward_program(self.samples, THREADS)?);
        let forward: Measurement = forward.figures().await?;
        Ok(Speeds {
            training: training.measurement.samples_per_second(),
            forward: forward.samples_per_second(),
        })
    }
}
