//! `retort distill`: from a teacher's model and a data set to a small student, on this machine.

use std::{num::NonZero, path::PathBuf};

use clap::{Args, ValueEnum};
use common::{output::Narration, shutdown::Signals};

use crate::{
    CliError,
    local::{OutputFolder, Owner, PROGRAMS, Processes},
};
use steps::Steps;

mod data;
mod error;
mod init;
mod plan;
mod steps;
mod summary;
mod teacher;

pub use error::DistillError;
pub use init::InitArguments;
pub(crate) use init::execute as init;

const EXAMPLES: &str = "\
Examples:
  retort distill --teacher resnet50.onnx --data photos/ --student cnn --out student/
  retort distill --teacher model.pt2 --data photos/ --student mobilenet_v2 --width 0.5 --size 96 --out student/
  retort distill --teacher teacher.onnx --teacher-set model.preprocessing.scale=unit \\
      --teacher-set 'model.preprocessing.mean=[0.485, 0.456, 0.406]' \\
      --teacher-set 'model.preprocessing.std=[0.229, 0.224, 0.225]' --data photos/ --out student/
  retort distill --teacher grpc://triton:8001/resnet50 --data photos/ --out student/

The data is a folder with one folder per class (with or without train/, val/ and test/), a folder of pictures
without labels, or any other format that docs/data.md lists. Without labels, the student only learns from the
teacher. The result is an ONNX model with its manifest in --out/artifact; `retort predict` and the inference
service take it.";

/// Distil a teacher into a small student on this machine.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DistillArguments {
    /// The teacher: an ONNX file, a .pt2 or TorchScript file, a run's artifact folder, or
    /// grpc://HOST:PORT/MODEL on an inference server.
    #[arg(long, value_name = "MODEL")]
    teacher: String,
    /// Sets a key of the teacher service's configuration; may be repeated. See configs/teacher-service.toml.
    #[arg(long = "teacher-set", value_name = "KEY.PATH=VALUE")]
    teacher_settings: Vec<String>,
    /// Folder or file of the data.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Format of the data [default: detected].
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Family of the student's network.
    #[arg(long, value_enum, default_value_t = Student::Cnn)]
    student: Student,
    /// Multiplier of the student's channels.
    #[arg(long, default_value_t = 1.0)]
    width: f64,
    /// Multiplier of the student's blocks per stage.
    #[arg(long, default_value_t = 1.0)]
    depth: f64,
    /// Height and width of the student's input, pixels.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Gives the student gray images.
    #[arg(long)]
    gray: bool,
    /// Epochs with soft targets.
    #[arg(long, default_value_t = NonZero::new(20).expect("is not 0"))]
    epochs: NonZero<usize>,
    /// Epochs of fine-tuning on the labels; 0 for none. Data without labels has none.
    #[arg(long, default_value_t = 3)]
    fine_tune_epochs: usize,
    /// Samples per step.
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Largest learning rate.
    #[arg(long, default_value_t = 0.1)]
    learning_rate: f64,
    /// Temperature of the soft targets.
    #[arg(long, default_value_t = 2.0)]
    temperature: f64,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Training threads. Another number gives other bits.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Number of teacher processes.
    #[arg(long, default_value_t = NonZero::new(1).expect("is not 0"))]
    teachers: NonZero<usize>,
    /// host:port of an inference service's admin port, which the student is published to.
    #[arg(long, value_name = "HOST:PORT")]
    publish: Option<String>,
    /// Name of the published model.
    #[arg(long, default_value = "student")]
    model: String,
    /// Folder of the result. Its content is replaced if `retort distill` made it.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

impl DistillArguments {
    /// The arguments of `teacher-service serve` that describe the teacher's model.
    fn teacher_model(&self) -> Vec<String> {
        let mut arguments = vec!["--model".to_owned(), self.teacher.clone()];
        let settings = self.teacher_settings.iter();
        arguments.extend(settings.map(|setting| format!("--set={setting}")));
        arguments
    }
}

/// Families of student networks; docs/networks.md describes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Student {
    /// Plain convolutions.
    Cnn,
    /// A residual network.
    Resnet,
    /// Inverted residual blocks (MobileNetV2).
    MobilenetV2,
    /// Inverted residual blocks (EfficientNet-Lite).
    EfficientnetLite,
    /// Fully connected layers, for rows of numbers.
    Mlp,
}

impl Student {
    /// The preset in a configuration.
    fn preset(self) -> String {
        // Holds: no variant is skipped.
        let value = self.to_possible_value().expect("every family has a name");
        value.get_name().to_owned()
    }
}

/// `retort distill`.
pub(crate) async fn execute(arguments: DistillArguments) -> Result<(), CliError> {
    let mut signals = Signals::listen().map_err(CliError::Signals)?;
    // The data is checked before anything is replaced or started.
    let data = data::Data::open(&arguments)?;
    let folder = OutputFolder::prepare(&arguments.out, Owner::Distill)?;
    let (processes, mut deaths) = Processes::new(folder.logs())?;
    processes.check(&PROGRAMS)?;

    let mut steps = Steps::new(&arguments, data, &folder, processes);
    let outcome = tokio::select! {
        outcome = steps.all() => outcome,
        death = deaths.next() => Err(death.into()),
        signal = signals.next() => Err(CliError::Stopped(signal)),
    };
    let doing = steps.doing;
    let mut processes = steps.into_processes();
    let outcome = match outcome {
        Ok(()) => Ok(()),
        Err(error) => {
            let error = deaths.root_cause(error).await;
            writeln!(
                Narration,
                "\nDistilling ended while {doing}; the logs are in {}.",
                folder.logs().display()
            );
            Err(error)
        }
    };
    let hurry = async {
        signals.next().await;
    };
    processes.stop(hurry).await;
    outcome
}
