//! `retort-bench train`: the speed of training beside PyTorch's.

mod cell;
mod peer;
mod report;
pub(crate) mod workload;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use common::output::Messages;
use tempfile::TempDir;

use crate::{number_arguments::at_least_one, process::usable_cores, report::print};
use cell::Cell;
use peer::Peer;
use report::Figures;
use workload::{Amount, Workload};

/// Measure the speed of training beside PyTorch's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  retort-bench train
  retort-bench train --json --turns 5 --networks resnet8 --threads 2
  retort-bench train --compile

Trains each network alternately with the trainer (a run, as `retort run` starts it, precision \"auto\")
and with PyTorch, on hard labels: the same network, images, batch size, optimizer and augmentation,
on as many cores as threads. The first epoch is not measured.

ratio  the trainer's samples/s divided by PyTorch's fastest of f32 and bf16 autocast, each with and
       without channels-last, in eager mode

The first run installs PyTorch into .deps/pytorch (600 MB to download).")]
pub(crate) struct TrainArguments {
    /// The networks that are trained.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Workload::value_variants().to_vec())]
    networks: Vec<Workload>,
    /// Numbers of threads.
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = at_least_one)]
    threads: Vec<usize>,
    /// Number of turns; the benchmark reports medians.
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    turns: usize,
    /// Measured epochs per turn.
    #[arg(long, default_value_t = 2, value_parser = at_least_one)]
    epochs: usize,
    /// Also measure torch.compile, which is no part of the ratio.
    #[arg(long)]
    compile: bool,
    /// The program that measures PyTorch.
    #[arg(long, value_name = "FILE", default_value = "bench/train-peer")]
    peer: PathBuf,
    /// Folder with the IDX files of Fashion-MNIST; `scripts/setup` downloads them.
    #[arg(long, value_name = "FOLDER", default_value = ".deps/fashion-mnist")]
    data: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn execute(arguments: &TrainArguments) -> anyhow::Result<()> {
    let peer = Peer {
        program: &arguments.peer,
        compile: arguments.compile,
    };
    writeln!(Messages, "preparing PyTorch");
    peer.prepare().await?;
    let folder = TempDir::new().context("cannot create a folder")?;
    let mut cells = Vec::new();
    for &threads in &arguments.threads {
        let cores = usable_cores(threads).context("cannot read the core affinity")?;
        ensure!(
            cores.len() == threads,
            "{threads} threads need {threads} cores, but this process may use {}",
            cores.len()
        );
        for &network in &arguments.networks {
            let folder = folder.path().join(format!("{}-{threads}", network.name()));
            let amount = Amount {
                threads,
                epochs: arguments.epochs,
            };
            cells.push(
                Cell::prepare(&folder, network, amount, &arguments.data, cores.clone()).await?,
            );
        }
    }
    for turn in 1..=arguments.turns {
        writeln!(Messages, "turn {turn} of {}", arguments.turns);
        for cell in &mut cells {
            cell.measure(&peer).await?;
        }
    }
    print(&Figures::of(&cells), arguments.json)
}
