//! The run that distils the student.

use std::path::Path;

use datasets::{Ground, Normalization};
use toml::{Table, Value};

use super::{DistillArguments, data::Data};
use crate::{CliError, run_config::RunConfigText, text_path::text_path};

/// Divides the learning rate for fine-tuning.
const FINE_TUNE_DIVISOR: f64 = 20.0;

/// The configuration of the run: `class_names` are the student's classes, in the order of the labels or, without
/// labels, of the teacher. `initial_weights` is an absolute path.
pub(super) fn run_config(
    arguments: &DistillArguments,
    data: &Data,
    class_names: &[String],
    teachers: &[String],
    initial_weights: Option<&Path>,
) -> Result<RunConfigText, CliError> {
    let mut config = RunConfigText::default();
    let (_, labelled) = data.training_samples();
    let mut settings: Vec<(&str, Value)> = vec![
        ("seed", integer(arguments.seed)),
        ("threads", integer(arguments.threads as u64)),
        ("data.path", text_path(&data.path)?.into()),
        (
            "data.format",
            data.format.as_deref().unwrap_or("auto").into(),
        ),
        ("data.class_names", strings(class_names)),
        (
            "data.validation_samples",
            integer(data.samples_to_hold_out(arguments.gate.needs_validation()) as u64),
        ),
        ("data.augmentation", augmentation(data)),
        (
            "network.input",
            data.input
                .iter()
                .map(|size| integer(*size as u64))
                .collect::<Vec<_>>()
                .into(),
        ),
        ("network.classes", integer(class_names.len() as u64)),
        ("network.preset", arguments.student.preset().into()),
        ("phases", phases(arguments, labelled)),
        ("teacher.endpoints", strings(teachers)),
    ];
    if arguments.ground != Ground::WHITE {
        settings.push(("data.ground", arguments.ground.to_string().into()));
    }
    if let Some(Normalization { mean, std }) = &data.normalization {
        settings.push(("data.normalization.mean", floats(mean)));
        settings.push(("data.normalization.std", floats(std)));
    }
    if arguments.student.has_sizes() {
        settings.push(("network.width", arguments.width.unwrap_or(1.0).into()));
        settings.push(("network.depth", arguments.depth.unwrap_or(1.0).into()));
    }
    if let Some(file) = initial_weights {
        settings.push(("initial_weights.path", text_path(file)?.into()));
    }
    if arguments.int8 {
        settings.push(("export.int8", Table::new().into()));
    }
    if let Some(endpoint) = &arguments.publish {
        settings.push(("publish.endpoint", endpoint.as_str().into()));
        settings.push(("publish.model", arguments.model.as_str().into()));
        if arguments.int8 {
            settings.push(("publish.precision", "int8".into()));
        }
        if let Some(file) = arguments.signing_key()? {
            settings.push(("publish.signing_key", text_path(&file)?.into()));
        }
        settings.extend(arguments.gate.settings()?);
    }
    for (key, value) in settings {
        // Holds: no key is below another key's value.
        config.set(key, value).expect("the keys name no table");
    }
    Ok(config)
}

fn phases(arguments: &DistillArguments, labelled: usize) -> Value {
    let sgd: Table =
        toml::toml! { kind = "sgd" momentum = 0.9 nesterov = true weight_decay = 1e-4 };
    let phase = |epochs: usize, loss: Table, learning_rate: f64, warm_up: f64| {
        let mut schedule: Table = toml::toml! { kind = "one_cycle" };
        schedule.insert("max_learning_rate".into(), learning_rate.into());
        schedule.insert("warm_up".into(), warm_up.into());
        let mut phase = Table::new();
        phase.insert("epochs".into(), integer(epochs as u64));
        phase.insert("batch_size".into(), integer(arguments.batch_size as u64));
        phase.insert("loss".into(), loss.into());
        phase.insert("optimizer".into(), sgd.clone().into());
        phase.insert("schedule".into(), schedule.into());
        phase
    };
    let mut distill: Table = toml::toml! { kind = "soft_cross_entropy" };
    distill.insert("temperature".into(), arguments.temperature.into());
    let mut phases = vec![phase(
        arguments.epochs.get(),
        distill,
        arguments.learning_rate,
        0.3,
    )];
    if labelled > 0 && arguments.fine_tune_epochs > 0 {
        let hard: Table = toml::toml! { kind = "cross_entropy" };
        let rate = arguments.learning_rate / FINE_TUNE_DIVISOR;
        let mut fine_tune = phase(arguments.fine_tune_epochs, hard, rate, 0.1);
        fine_tune.insert("name".into(), "fine_tune".into());
        phases.push(fine_tune);
    }
    phases.into()
}

/// Random parts of photographs; nothing for rows of numbers.
fn augmentation(data: &Data) -> Value {
    let mut table = Table::new();
    table.insert("pad".into(), Value::Integer(0));
    let is_image = data.input.len() == 3;
    table.insert("horizontal_flip".into(), is_image.into());
    if is_image {
        let crop: Table = toml::toml! { scale = [0.35, 1.0] };
        table.insert("random_resized_crop".into(), crop.into());
    }
    table.into()
}

fn integer(value: u64) -> Value {
    i64::try_from(value).unwrap_or(i64::MAX).into()
}

fn strings(values: &[String]) -> Value {
    values.to_vec().into()
}

fn floats(values: &[f32]) -> Value {
    // Through the shortest text, so that 0.1_f32 stays 0.1.
    let exact = values
        .iter()
        .map(|value| value.to_string().parse().unwrap_or(f64::from(*value)));
    exact.collect::<Vec<f64>>().into()
}
