//! `retort`: the demo, training runs, predictions and models from the command line.
//!
//! This crate is a client of the services' gRPC interfaces and does not link libtorch. [`demo`] starts the services
//! as child processes; `student` loads ONNX Runtime to measure networks.

use clap::{Parser, Subcommand};
use traces::Span;

mod bench;
mod class_list;
mod client;
mod command_line;
mod comparison;
mod data;
mod data_set;
pub mod demo;
pub mod distill;
mod drawing;
mod duration;
mod error;
mod image_files;
mod inference;
mod local;
mod models;
mod page;
mod predict;
mod prediction;
mod record;
mod report;
mod run_config;
mod run_folder;
mod runs;
mod serve;
mod student;
mod sweep;
mod table_files;
mod targets;
mod teacher;
mod text_path;
mod text_table;
mod tokens;

pub use error::{CliError, EXIT_USAGE};
pub use text_path::NotText;

const EXAMPLES: &str = "\
Examples:
  retort demo                          teach, distil, serve and measure, all on this machine
  retort distill --teacher big.onnx --data photos/ --out student/
                                       a small student of your teacher, on this machine
  retort teacher inspect big.onnx --data photos/
                                       what a model is, how well it fits, what looks wrong
  retort data inspect photos/          counts, sizes, duplicates and files that cannot be used
  retort student suggest --data photos/ --max-params 100k
  retort serve student/                serve that student, and print how to call it
  retort init                          the same as files, for services on other machines
  retort run configs/run.toml          submit a training run and watch it
  retort runs list                     the trainer's runs and their states
  retort runs compare runs/a runs/b    results and differing settings of runs on this machine
  retort sweep configs/run.toml --over loss.temperature=2,4 --seeds 3
  retort report runs/student           a page about a run: classes, calibration, mistakes
  retort predict --model fashion-mnist --index 0,1,2
  retort predict --model fashion-mnist shoe.png
  retort predict --model tumours patients.csv
  retort models list                   the models that the inference service serves
  retort bench stream                  measure the rate of soft targets; starts retort-bench
  retort tokens create --name ci --scope publish
  retort record configs/run.toml       record a teacher's soft targets ahead of a run
  retort targets list targets          list recorded soft targets

Exit codes: 0 done, 1 failed, 3 a run is complete and [publish.gate] withheld its model, 64 wrong usage or
configuration, 130 stopped by Ctrl-C, 141 standard output was closed.";

/// Knowledge distillation as a service: train a teacher, distil a student, serve it.
#[derive(Debug, Parser)]
#[command(name = "retort", version, about, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArguments),
    Distill(distill::DistillArguments),
    Init(distill::InitArguments),
    Serve(serve::ServeArguments),
    Student(student::StudentArguments),
    Run(runs::RunArguments),
    Runs(runs::RunsArguments),
    Predict(predict::PredictArguments),
    Models(models::ModelsArguments),
    Bench(bench::BenchArguments),
    Tokens(tokens::TokensArguments),
    Record(record::RecordArguments),
    Targets(targets::TargetsArguments),
    Teacher(teacher::TeacherArguments),
    Data(data::DataArguments),
    Report(report::ReportArguments),
    Sweep(sweep::SweepArguments),
}

/// Executes the command.
///
/// # Errors
/// The message is one line; [`CliError::exit_code`] is the process's exit code.
pub async fn execute(cli: Cli) -> Result<(), CliError> {
    let Some(name) = cli.command.traced() else {
        return cli.command.execute().await;
    };
    let span = Span::begin(name);
    let done = span.around(cli.command.execute()).await;
    if let Err(error) = &done {
        span.fail(error);
    }
    done
}

impl Command {
    /// The name of the command's span, if the command calls services.
    fn traced(&self) -> Option<&'static str> {
        match self {
            Self::Demo(_) => Some("retort demo"),
            Self::Distill(_) => Some("retort distill"),
            Self::Run(_) => Some("retort run"),
            Self::Runs(_) => Some("retort runs"),
            Self::Predict(_) => Some("retort predict"),
            Self::Models(_) => Some("retort models"),
            Self::Sweep(_) => Some("retort sweep"),
            Self::Init(_)
            | Self::Serve(_)
            | Self::Student(_)
            | Self::Bench(_)
            | Self::Tokens(_)
            | Self::Record(_)
            | Self::Targets(_)
            | Self::Teacher(_)
            | Self::Data(_)
            | Self::Report(_) => None,
        }
    }

    async fn execute(self) -> Result<(), CliError> {
        match self {
            Self::Demo(arguments) => demo::execute(arguments).await,
            Self::Distill(arguments) => distill::execute(arguments).await,
            Self::Init(arguments) => distill::init(arguments).await,
            Self::Serve(arguments) => serve::execute(arguments).await,
            Self::Student(arguments) => student::execute(arguments),
            Self::Run(arguments) => runs::run(arguments).await,
            Self::Runs(arguments) => runs::execute(arguments).await,
            Self::Predict(arguments) => predict::execute(arguments).await,
            Self::Models(arguments) => models::execute(arguments).await,
            Self::Bench(arguments) => bench::execute(arguments),
            Self::Tokens(arguments) => tokens::execute(arguments),
            Self::Record(arguments) => record::execute(&arguments),
            Self::Targets(arguments) => targets::execute(arguments),
            Self::Teacher(arguments) => teacher::execute(arguments),
            Self::Data(arguments) => data::execute(arguments),
            Self::Report(arguments) => report::execute(&arguments),
            Self::Sweep(arguments) => sweep::execute(arguments).await,
        }
    }
}
