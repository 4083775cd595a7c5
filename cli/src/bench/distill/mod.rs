//! `retort bench distill`: what soft targets cost training.

mod report;
mod teachers;
mod training;

use common::output::Messages;
use std::path::PathBuf;

use clap::Args;
use common::turn::Turn;
use tempfile::TempDir;

use super::{BenchError, at_least_one, report::print};
use crate::CliError;
use report::Figures;
use teachers::{Architecture, Teacher};
use training::{SoftTargets, Trainer, TrainingTurn};

/// Measure what soft targets cost training.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  retort bench distill
  retort bench distill --json --turns 15

Trains the demo's student, from hard labels (the denominator), from recorded soft targets and from
live ones, in turn, with the same images, augmentation and phase code, in one trainer. The first
epoch of each turn is not counted.

recorded_ratio  samples/s from recorded soft targets over samples/s from hard labels
live_ratio      samples/s from a teacher of negligible cost, in a process of its own, over the same
cpu_ratio       processor seconds of trainer and teacher, the demo's ResNet-14, while they distil,
                over those of its forward pass alone plus those of the student's training alone
beside_ratio    the same over those of the two at the same time, with nothing between them: what is
                left of cpu_ratio where one core slows the other down
network_share   the share of the threads that do the network's work in that processor time: measured
                in the same seconds, whatever the processor's speed in them")]
pub(super) struct DistillArguments {
    /// How often everything is measured, in turn; medians are reported.
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    turns: usize,
    /// Training images that are used.
    #[arg(long, default_value_t = 5_000, value_parser = at_least_one)]
    samples: usize,
    /// Epochs of a turn that count.
    #[arg(long, default_value_t = 2, value_parser = at_least_one)]
    epochs: usize,
    /// Folder of Fashion-MNIST's IDX files; `scripts/setup` fetches them.
    #[arg(long, value_name = "FOLDER", default_value = ".deps/fashion-mnist")]
    data: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What was measured at one turn.
struct Round {
    supervised: Turn,
    recorded: Turn,
    live: TrainingTurn,
    /// With the demo's teacher: trainer and teacher together.
    demo_live: TrainingTurn,
    /// The demo's teacher alone.
    demo_forward: Turn,
    /// The two alone again, but at the same time, with nothing between them.
    supervised_beside: Turn,
    demo_forward_beside: Turn,
}

pub(super) async fn execute(arguments: &DistillArguments) -> Result<(), CliError> {
    let folder = TempDir::new().map_err(BenchError::system("cannot make a folder"))?;
    let tiny = Teacher::write(folder.path(), Architecture::OneLinearLayer)?;
    let demo = Teacher::write(folder.path(), Architecture::Demo)?;
    let (tiny_server, demo_server) = (tiny.serve().await?, demo.serve().await?);
    let trainer = Trainer::start(folder.path(), arguments).await?;

    writeln!(Messages, "recording soft targets");
    trainer
        .turn(SoftTargets::Record, Some(&tiny_server))
        .await?;
    let mut rounds = Vec::new();
    for number in 1..=arguments.turns {
        writeln!(Messages, "turn {number} of {}", arguments.turns);
        let recorded = SoftTargets::Recorded;
        // Longer than the training beside it.
        let beside = arguments.samples * (1 + arguments.epochs);
        let (supervised_beside, demo_forward_beside) =
            tokio::join!(trainer.turn(SoftTargets::None, None), demo.forward(beside));
        rounds.push(Round {
            supervised: trainer.turn(SoftTargets::None, None).await?.turn,
            recorded: trainer.turn(recorded, None).await?.turn,
            live: trainer.turn(SoftTargets::Live, Some(&tiny_server)).await?,
            demo_live: trainer.turn(SoftTargets::Live, Some(&demo_server)).await?,
            demo_forward: demo.forward(arguments.samples).await?,
            supervised_beside: supervised_beside?.turn,
            demo_forward_beside: demo_forward_beside?,
        });
    }
    print(&Figures::of(&rounds), arguments.json)
}
