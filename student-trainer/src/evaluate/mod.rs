//! `student-trainer evaluate`: evaluates models on the same images of the test split, in f32.

mod model;
mod outputs;
mod report;
mod test_samples;

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use common::config::ConfigError;
use datasets::{DatasetError, SampleError, Source, Subset};
use networks::SpecError;
use onnx_runtime::SessionError;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use report::{Evaluation, LatencyMicroseconds, ModelEvaluation};

use crate::{
    config::RunConfig,
    engine::{self, TorchError},
    events::EventSink,
    run::ModelFolderError,
    soft_targets::{LiveTeacher, SoftTargetError},
};
use model::EvaluatedModel;
use outputs::{Outputs, TeacherLogits};

/// The models and images to evaluate.
#[derive(Debug, Clone, Args)]
pub struct EvaluateArguments {
    /// Folder of the IDX files.
    #[arg(long, required_unless_present = "config")]
    pub data: Option<PathBuf>,
    /// A run's configuration; its data is used instead of --data.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub config: Option<PathBuf>,
    /// Also evaluates the teacher of --config, under this name; of several named teachers, the one that has it.
    #[arg(long, value_name = "NAME", requires = "config")]
    pub live_teacher: Option<String>,
    /// A run's folder, or a folder with weights.safetensors and model.toml; may be repeated.
    #[arg(long = "model", value_name = "NAME=FOLDER", value_parser = NamedPath::parser())]
    pub models: Vec<NamedPath>,
    /// An exported model with its manifest.json beside it; may be repeated.
    #[arg(long = "onnx", value_name = "NAME=FILE", value_parser = NamedPath::parser())]
    pub onnx: Vec<NamedPath>,
    /// Name of the model that the others' agreement is measured against.
    #[arg(long, value_name = "NAME")]
    pub teacher: Option<String>,
    /// Number of test images: a fixed sample with every class in proportion [default: all].
    #[arg(long, value_name = "N")]
    pub test_samples: Option<usize>,
    /// JSON file to write.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}

/// `NAME=PATH`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPath {
    /// The model's name in the report.
    pub name: String,
    /// The model's file or folder.
    pub path: PathBuf,
}

/// Why models cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The data cannot be used; the text names the file.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// A sample cannot be read; the text names its file.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The run's configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configured data has nothing to evaluate on.
    #[error(
        "{} has no test and no validation samples; set data.validation_samples before the run",
        .0.display()
    )]
    NoTestSamples(PathBuf),
    /// The live teachers cannot be evaluated.
    #[error(transparent)]
    LiveTeacher(#[from] SoftTargetError),
    /// A model cannot be read; the text names the file.
    #[error(transparent)]
    ModelFolder(#[from] ModelFolderError),
    /// An exported model cannot be read.
    #[error("{}: {reason}", file.display())]
    Onnx {
        /// The file.
        file: PathBuf,
        /// The problem.
        reason: String,
    },
    /// No model was named.
    #[error("nothing to evaluate; give --model NAME=FOLDER or --onnx NAME=FILE")]
    NoModels,
    /// Two models have the same name.
    #[error("two models are called `{0}`")]
    DuplicateName(String),
    /// No model has the teacher's name.
    #[error("--teacher {0}: no model is called that")]
    UnknownTeacher(String),
    /// A model does not fit the data.
    #[error("model `{name}`: {problem}")]
    Mismatch {
        /// The model.
        name: String,
        /// The mismatch.
        problem: String,
    },
    /// A network's specification is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// libtorch failed.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// ONNX Runtime failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The report cannot be written; the text names the file.
    #[error(transparent)]
    Output(#[from] std::io::Error),
}

impl NamedPath {
    fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(|text| Self::parse(&text))
    }

    /// # Errors
    /// If `text` is not `NAME=PATH`. The path may contain any bytes.
    fn parse(text: &OsStr) -> Result<Self, String> {
        let bytes = text.as_bytes();
        let mut parts = bytes.splitn(2, |byte| *byte == b'=');
        let name = parts.next().map(str::from_utf8);
        match (name, parts.next()) {
            (Some(Ok(name)), Some(path)) if !name.is_empty() && !path.is_empty() => Ok(Self {
                name: name.to_owned(),
                path: OsStr::from_bytes(path).into(),
            }),
            _ => Err("give NAME=PATH".to_owned()),
        }
    }
}

/// Evaluates all models and writes the report to `arguments.output`.
///
/// # Errors
/// See [`EvaluateError`]. The report is written atomically.
///
/// Blocks: must be called from a thread outside tokio's.
pub fn evaluate(
    arguments: &EvaluateArguments,
    cancel: &CancellationToken,
    runtime: &Handle,
) -> Result<(), EvaluateError> {
    engine::set_threads(0);
    let mut models = load_models(arguments)?;
    let first = models.first().ok_or(EvaluateError::NoModels)?;
    let config = match &arguments.config {
        Some(file) => Some(RunConfig::load(file, &[])?),
        None => None,
    };
    let test = match (&config, &arguments.data) {
        (Some(config), _) => test_samples::of_config(config)?,
        (None, Some(folder)) => test_samples::of_idx(folder, &first.class_names)?,
        // clap requires one of both.
        (None, None) => return Err(EvaluateError::NoModels),
    };
    let test = match arguments.test_samples {
        Some(count) => test.sample(count)?,
        None => test,
    };
    check_fit(&models, &test)?;
    let classes = models[0].spec.classes;
    let live = match (&config, &arguments.live_teacher) {
        (Some(config), Some(name)) => {
            let notices = EventSink::none().notices();
            let called = Some(name.as_str());
            let teacher =
                LiveTeacher::connect(config, called, &test, None, &notices, cancel, runtime)?;
            let logits = teacher.logits(&test)?;
            Some((name, TeacherLogits { logits, classes }))
        }
        _ => None,
    };
    let named;
    let teacher = match (&arguments.teacher, &live) {
        (None, _) => None,
        (Some(name), Some((live, logits))) if *live == name => Some(logits),
        (Some(name), _) => {
            named = logits_of(name, &mut models, &test)?;
            Some(&named)
        }
    };
    let teachers_predictions = teacher.map(|teacher| teacher.outputs().predictions);
    let teachers_predictions = teachers_predictions.as_deref();
    let mut evaluation = Evaluation::new(&test);
    if let Some((name, logits)) = &live {
        let labels = &evaluation.labels;
        let evaluated = ModelEvaluation::of(logits.outputs(), labels, teachers_predictions);
        evaluation.models.insert((*name).clone(), evaluated);
    }
    for mut model in models {
        let is_teacher = arguments.teacher.as_ref() == Some(&model.name);
        let outputs = match teacher {
            Some(teacher) if is_teacher => teacher.outputs(),
            _ => {
                let mut outputs = Outputs::default();
                model.logits(&test, |logits| outputs.add(logits, classes, teacher))?;
                outputs
            }
        };
        let cost = networks::cost(&model.spec)?;
        let evaluated = ModelEvaluation {
            parameters: Some(cost.parameters),
            multiply_adds: Some(cost.multiply_adds),
            bytes: Some(model.bytes),
            latency_us: Some(model.latency(&test)?),
            ..ModelEvaluation::of(outputs, &evaluation.labels, teachers_predictions)
        };
        evaluation.models.insert(model.name, evaluated);
    }
    common::atomic_file::write(&arguments.output, &evaluation.to_json())?;
    Ok(())
}

/// The logits of the model that is called `name`.
fn logits_of(
    name: &str,
    models: &mut [EvaluatedModel],
    test: &Subset,
) -> Result<TeacherLogits, EvaluateError> {
    let model = models.iter_mut().find(|model| model.name == name);
    let model = model.ok_or_else(|| EvaluateError::UnknownTeacher(name.to_owned()))?;
    let mut logits = Vec::new();
    model.logits(test, |batch| logits.extend_from_slice(batch))?;
    let classes = model.spec.classes;
    Ok(TeacherLogits { logits, classes })
}

fn load_models(arguments: &EvaluateArguments) -> Result<Vec<EvaluatedModel>, EvaluateError> {
    let mut models = Vec::new();
    for named in &arguments.models {
        models.push(EvaluatedModel::load_folder(named)?);
    }
    for named in &arguments.onnx {
        models.push(EvaluatedModel::load_onnx(named)?);
    }
    for (position, model) in models.iter().enumerate() {
        if models[..position]
            .iter()
            .any(|other| other.name == model.name)
        {
            return Err(EvaluateError::DuplicateName(model.name.clone()));
        }
    }
    Ok(models)
}

/// Checks that all models have the same classes and take samples like those of `test`.
fn check_fit(models: &[EvaluatedModel], test: &Subset) -> Result<(), EvaluateError> {
    for model in models {
        let mismatch = |problem| EvaluateError::Mismatch {
            name: model.name.clone(),
            problem,
        };
        let first = &models[0];
        if model.class_names != first.class_names {
            return Err(mismatch(format!(
                "its classes differ from those of `{}`",
                first.name
            )));
        }
        if !datasets::fits(test.kind(), &model.spec.input.dimensions()) {
            return Err(mismatch(format!(
                "it takes samples of shape {}, but the data has {}",
                model.spec.input,
                test.kind().tensor("samples")
            )));
        }
    }
    Ok(())
}
