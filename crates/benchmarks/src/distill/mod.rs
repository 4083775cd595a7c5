//! `retort-bench distill`: the cost of soft targets in training.

mod report;
mod teachers;
mod training;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use common::output::Messages;
use tempfile::TempDir;

use crate::{
    number_arguments::at_least_one,
    report::print,
    task::{Architecture, Task},
};
use report::{Figures, Round};
pub(crate) use teachers::Teacher;
use training::{SoftTargets, Student, Workload};

/// Measure the cost of soft targets in training.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  retort-bench distill
  retort-bench distill --json --turns 15
  retort-bench distill --task color-64 --samples 2000

Trains the demo's student alternately from hard labels (the denominator), from recorded soft targets
and from live ones, with the same images, augmentation and phase code, in one trainer. The first
epoch of each turn is not measured.

recorded_ratio  samples/s from recorded soft targets, divided by samples/s from hard labels
live_ratio      samples/s from a teacher of negligible cost in its own process, divided by the same
cpu_ratio       processor seconds of trainer and teacher (the demo's ResNet-14) while they distil,
                divided by those of its forward pass alone plus the student's training alone
beside_ratio    the same numerator, divided by that of both computations at the same time and without
                communication: excludes the effect of one busy core slowing down the other
network_share   the network threads' share of that processor time, measured in the same seconds, so
                that it does not depend on the processor's speed")]
pub(crate) struct DistillArguments {
    /// The images that it trains on.
    #[arg(long, value_enum, default_value_t = Task::FashionMnist)]
    task: Task,
    /// Number of turns; the benchmark reports medians.
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    turns: usize,
    /// Number of training images.
    #[arg(long, default_value_t = 5_000, value_parser = at_least_one)]
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

pub(crate) async fn execute(arguments: &DistillArguments) -> anyhow::Result<()> {
    let folder = TempDir::new().context("cannot create a folder")?;
    let tiny = Teacher::write(folder.path(), Architecture::OneLinearLayer, arguments.task)?;
    let demo = Teacher::write(folder.path(), Architecture::Demo, arguments.task)?;
    let (tiny_server, demo_server) = (tiny.serve().await?, demo.serve().await?);
    let task = arguments.task;
    let data = task.data(&arguments.data, folder.path(), arguments.samples)?;
    let workload = Workload {
        task,
        data: &data,
        samples: arguments.samples,
        epochs: arguments.epochs,
    };
    let student = Student::start(folder.path(), workload).await?;

    writeln!(Messages, "recording soft targets");
    student
        .train(SoftTargets::Record, Some(&tiny_server))
        .await?;
    let mut rounds = Vec::new();
    for number in 1..=arguments.turns {
        writeln!(Messages, "turn {number} of {}", arguments.turns);
        let (supervised, live) = (SoftTargets::None, SoftTargets::Live);
        // Longer than the concurrent training.
        let beside = arguments.samples * (1 + arguments.epochs);
        let (supervised_beside, demo_forward_beside) =
            tokio::join!(student.train(supervised, None), demo.forward(beside));
        rounds.push(Round {
            supervised: student.train(supervised, None).await?.measurement,
            recorded: student
                .train(SoftTargets::Recorded, None)
                .await?
                .measurement,
            live: student.train(live, Some(&tiny_server)).await?,
            demo_live: student.train(live, Some(&demo_server)).await?,
            demo_forward: demo.forward(arguments.samples).await?,
            supervised_beside: supervised_beside?.measurement,
            demo_forward_beside: demo_forward_beside?,
        });
    }
    print(&Figures::of(&rounds), arguments.json)
}
