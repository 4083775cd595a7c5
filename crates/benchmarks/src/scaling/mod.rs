//! `retort-bench scaling`: how much each part of a distillation takes, and what limits many of them.

mod arithmetic;
mod exchange;
mod figures;
mod link;
mod loopback;
mod message_bytes;
mod predictions;
mod recorders;
mod recording;
mod shards;
mod store;
mod teachers;
mod worker_group;
mod workers;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use common::output::Messages;
use object_storage::BucketLocation;
use tempfile::TempDir;

use crate::{
    number_arguments::{above_zero, at_least_one},
    report::print,
    train::workload::Workload,
};
use arithmetic::{ArithmeticFigures, Measured};
use figures::Figures;
use link::Link;
use message_bytes::ByteFigures;

/// Measure what limits many teachers and workers, and compute what cannot be measured on this machine.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  retort-bench scaling
  retort-bench scaling --json > scaling.json
  retort-bench scaling --parts arithmetic --measured scaling.json --link-gbit 1
  retort-bench scaling --parts recording,workers --recorders 1,2 --processes 1,2 --turns 1
  retort-bench scaling --parts recording --recorded-batch 0 --store s3://BUCKET/PREFIX

teachers     samples/s of the demo's teacher on one core, and how many such teachers one core of a
             trainer feeds on; the share of linear scaling of simulated teachers
bytes        bytes per sample in the messages of trainer and teacher: soft targets by encoding, images
             as pixels and by reference
recording    samples/s of several processes of `student-trainer record` on one recording; a simulated
             teacher for each takes a fixed time per batch, so that teachers and not cores are the limit;
             with --recorded-batch 0 it answers at once, so that the cores are
workers      samples/s of data-parallel training by several processes of one thread, and by arithmetic
             the network's share of a step with more of them on machines of their own
predictions  processor time of a million predictions of the demo's student, by `retort-bench serve`
arithmetic   by arithmetic from the figures above: what limits 10, 100 and 1,000 teachers, and when a
             recording takes less of the teachers than live soft targets

docs/scaling.md explains every figure.")]
pub(crate) struct ScalingArguments {
    /// What to measure and to compute.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = ScalingPart::value_variants().to_vec())]
    parts: Vec<ScalingPart>,
    /// Take the figures of the other parts from this file, an earlier output of --json.
    #[arg(long, value_name = "FILE")]
    measured: Option<PathBuf>,
    /// Number of turns; the benchmark reports medians.
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    turns: usize,
    /// Duration of each measurement of teachers, recordings and predictions.
    #[arg(long, default_value_t = 5.0, value_parser = above_zero)]
    seconds: f64,
    /// Numbers of simulated teachers of one trainer.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100", value_parser = at_least_one)]
    teachers: Vec<usize>,
    /// Numbers of processes that record together.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8", value_parser = at_least_one)]
    recorders: Vec<usize>,
    /// Milliseconds that the teacher of a recording process takes for a batch of 128 samples; 0: it answers at once.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 40)]
    recorded_batch: usize,
    /// Record below this prefix of a bucket and not into a folder; the environment has the credentials.
    #[arg(long, value_name = "URL", value_parser = store::bucket_location)]
    store: Option<BucketLocation>,
    /// The networks that processes train together.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "demo-student,demo-teacher"
    )]
    networks: Vec<Workload>,
    /// Numbers of processes that train together.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_parser = at_least_one)]
    processes: Vec<usize>,
    /// Batches of an optimizer step, which the processes share.
    #[arg(long, default_value_t = 4, value_parser = at_least_one)]
    batches: usize,
    /// Training samples of an epoch [default: by network, for an epoch of some seconds].
    #[arg(long, value_parser = at_least_one)]
    samples: Option<usize>,
    /// Measured epochs per turn.
    #[arg(long, default_value_t = 2, value_parser = at_least_one)]
    epochs: usize,
    /// Numbers of workers whose exchange is computed, each with one batch of a step.
    #[arg(long, value_delimiter = ',', default_value = "2,4,16", value_parser = at_least_one)]
    simulated_workers: Vec<usize>,
    /// Bandwidth of a machine's link in each direction, gigabits per second, for the arithmetic.
    #[arg(long, value_name = "GBIT", default_value_t = 10.0, value_parser = above_zero)]
    link_gbit: f64,
    /// Latency of the link, one way, microseconds, for the arithmetic.
    #[arg(long, value_name = "US", default_value_t = 50.0, value_parser = above_zero)]
    link_latency_us: f64,
    /// Images of the data set, for the arithmetic.
    #[arg(long, default_value_t = 1_000_000, value_parser = at_least_one)]
    images: usize,
    /// Folder with the IDX files of Fashion-MNIST; `scripts/setup` downloads them.
    #[arg(long, value_name = "FOLDER", default_value = ".deps/fashion-mnist")]
    data: PathBuf,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

/// A part of the benchmark, in the order in which they run: arithmetic needs the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScalingPart {
    Teachers,
    Bytes,
    Recording,
    Workers,
    Predictions,
    Arithmetic,
}

pub(crate) async fn execute(arguments: &ScalingArguments) -> Result<()> {
    arguments.check()?;
    let mut figures = match &arguments.measured {
        Some(file) => Figures::read(file)?,
        None => Figures::default(),
    };
    let folder = TempDir::new().context("cannot create a folder")?;
    let parts = ScalingPart::value_variants().iter();
    for part in parts.filter(|part| arguments.parts.contains(part)) {
        writeln!(Messages, "{part:?}");
        match part {
            ScalingPart::Teachers => {
                let measured = teachers::measure(arguments, folder.path()).await?;
                figures.teachers = Some(measured);
            }
            ScalingPart::Bytes => figures.bytes = Some(ByteFigures::count()?),
            ScalingPart::Recording => {
                let measured = recording::measure(arguments, folder.path()).await?;
                figures.recording = Some(measured);
            }
            ScalingPart::Workers => {
                let measured = workers::measure(arguments, folder.path()).await?;
                figures.workers = Some(measured);
            }
            ScalingPart::Predictions => {
                figures.predictions = Some(predictions::measure(arguments).await?);
            }
            ScalingPart::Arithmetic => {
                figures.arithmetic = Some(arguments.compute(&figures)?);
            }
        }
    }
    print(&figures, arguments.json)
}

impl ScalingArguments {
    /// Refuses what would fail after minutes.
    fn check(&self) -> Result<()> {
        let batches = self.batches;
        let mut processes = self.processes.iter();
        if let Some(processes) = processes.find(|count| !batches.is_multiple_of(**count)) {
            bail!(
                "{processes} processes cannot share the {batches} batches of a step: choose another \
                 --batches, which every number of --processes divides"
            );
        }
        Ok(())
    }

    fn link(&self) -> Link {
        Link {
            gigabits_per_second: self.link_gbit,
            latency_us: self.link_latency_us,
        }
    }

    fn compute(&self, figures: &Figures) -> Result<ArithmeticFigures> {
        const MISSING: &str = "the arithmetic needs the parts teachers, bytes, recording and workers: \
                               add them to --parts, or name a file that has them with --measured";
        let measured = Measured::of(
            figures.teachers.as_ref().context(MISSING)?,
            figures.bytes.as_ref().context(MISSING)?,
            figures.recording.as_ref().context(MISSING)?,
            figures.workers.as_ref().context(MISSING)?,
        )?;
        ensure!(
            measured.is_usable(),
            "a figure that the arithmetic needs is not above 0: measure with more --seconds"
        );
        Ok(ArithmeticFigures::of(&measured, self.images, self.link()))
    }
}
