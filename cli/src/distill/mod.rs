//! `retort distill`: from a teacher's model and a data set to a small student, on this machine.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
};

use clap::Args;
use common::{output::Narration, shutdown::Signals};
use datasets::Ground;

use crate::{
    CliError,
    local::{OutputFolder, Owner, PROGRAMS, Processes},
    text_path::text_path,
};
use gate::GateArguments;
use steps::Steps;
use student::Student;

mod data;
mod error;
mod gate;
mod init;
mod plan;
mod steps;
mod student;
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
  retort distill --teacher weights.safetensors --teacher-config configs/pets/teacher.toml --data photos/ --out student/
  retort distill --teacher grpc://triton:8001/resnet50 --data photos/ --out student/
  retort distill --teacher boosting.onnx --teacher-set model.preprocessing.output=probabilities \\
      --teacher-set model.preprocessing.class_names_file=classes.txt --data table.csv --student mlp --out student/
  retort distill --teacher resnet50.onnx --data photos/ --publish 127.0.0.1:8003 --model photos --min-accuracy 0.9 \
      --max-latency-us 500 --out student/      publishes only what is good and fast enough
  retort distill --teacher resnet50.safetensors --teacher-set model.network.preset=resnet50 --data photos/ \
      --student resnet18 --student-init resnet18.safetensors --learning-rate 0.01 --size 224 --out student/

The data is a folder with one folder per class (with or without train/, val/ and test/), a folder of pictures
without labels, a table of numbers (.csv), or any other format that docs/data.md lists. Without labels, the student
only learns from the teacher. The result is an ONNX model with its manifest in --out/run/artifact; `retort predict`
and the inference service take it. The exit code is 3 if the student is complete and was not published, because it misses
a bound.";

/// Distil a teacher into a small student on this machine.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DistillArguments {
    /// The teacher: an ONNX, .pt2, TorchScript or safetensors file, a run's artifact folder, or
    /// grpc://HOST:PORT/MODEL on an inference server.
    #[arg(long, value_name = "MODEL")]
    teacher: String,
    /// File with the teacher service's configuration; --teacher and --teacher-set win over it.
    #[arg(long, value_name = "FILE")]
    teacher_config: Option<PathBuf>,
    /// Sets a key of the teacher service's configuration; may be repeated. See configs/teacher-service.toml.
    #[arg(long = "teacher-set", value_name = "KEY.PATH=VALUE")]
    teacher_settings: Vec<String>,
    /// Folder or file of the data.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Format of the data [default: detected].
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Color that shows through transparent pixels of pictures, in training and in the served model: white, black,
    /// gray or '#rrggbb'.
    #[arg(long, value_name = "COLOR", default_value_t = Ground::WHITE)]
    ground: Ground,
    /// Family of the student's network.
    #[arg(long, value_enum, default_value_t = Student::Cnn)]
    student: Student,
    /// Multiplier of the student's channels, in families that are not published networks [default: 1].
    #[arg(long)]
    width: Option<f64>,
    /// Multiplier of the student's blocks per stage, likewise [default: 1].
    #[arg(long)]
    depth: Option<f64>,
    /// Safetensors file with the student's first weights: published ones, or those of an artifact; they need a
    /// smaller learning rate than random ones. Small sets of pictures need them.
    #[arg(long, value_name = "FILE")]
    student_init: Option<PathBuf>,
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
    /// Also writes the student in int8 (docs/int8.md), and publishes that file.
    #[arg(long)]
    int8: bool,
    /// File with the private key (PEM) that signs the student; see docs/security.md.
    #[arg(long, value_name = "FILE", requires = "publish")]
    signing_key: Option<PathBuf>,
    #[command(flatten)]
    gate: GateArguments,
    /// Folder of the result. Its content is replaced if `retort distill` made it.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

impl DistillArguments {
    /// Checks what clap does not.
    fn check(&self) -> Result<(), CliError> {
        if !self.student.has_sizes() && (self.width.is_some() || self.depth.is_some()) {
            let student = self.student.preset();
            return Err(DistillError::Sizes { student }.into());
        }
        self.gate.baseline()?;
        let files = self.student_init.iter().chain(&self.teacher_config);
        for file in files.chain(&self.signing_key) {
            std::fs::File::open(file).map_err(CliError::file(file))?;
        }
        Ok(())
    }

    /// The arguments of `teacher-service serve` that describe the teacher's model.
    fn teacher_model(&self) -> Result<Vec<String>, CliError> {
        let mut arguments = vec!["--model".to_owned(), self.teacher.clone()];
        if let Some(file) = &self.teacher_config {
            arguments.push(format!("--config={}", text_path(file)?));
        }
        let settings = self.teacher_settings.iter();
        arguments.extend(settings.map(|setting| format!("--set={setting}")));
        Ok(arguments)
    }

    /// The absolute path of the student's initial weights.
    fn initial_weights(&self) -> Result<Option<PathBuf>, CliError> {
        absolute(self.student_init.as_deref())
    }

    /// The absolute path of the key that signs the student.
    fn signing_key(&self) -> Result<Option<PathBuf>, CliError> {
        absolute(self.signing_key.as_deref())
    }
}

fn absolute(file: Option<&Path>) -> Result<Option<PathBuf>, CliError> {
    let absolute = |file: &Path| file.canonicalize().map_err(CliError::file(file));
    file.map(absolute).transpose()
}

/// `retort distill`.
pub(crate) async fn execute(arguments: DistillArguments) -> Result<(), CliError> {
    let mut signals = Signals::listen().map_err(CliError::Signals)?;
    arguments.check()?;
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
        // The distillation is complete.
        Ok(()) | Err(CliError::Withheld { .. }) => outcome,
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
