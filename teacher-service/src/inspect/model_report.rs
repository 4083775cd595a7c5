//! Describes a model: also one that the service would refuse.

use serde::Serialize;
use tensors::{DataType, Signature, TensorSpec};

use super::{
    completion::{self, Assumption, KnownClasses},
    setting::Setting,
    subject::{Engine, Subject},
    variants::has_open_layout,
};
use crate::{
    backend::{
        self, CardedModel, Classifier, LoadError, ModelFacts, OpenedModel, choose_output,
        class_count, own_card, probe_batch, read_files,
    },
    config::ComputeConfig,
    model::{
        ModelConfig,
        card::{Card, CardFile, SampleCard},
        format::ModelFormat,
        output_values::{OutputValues, ValueKind},
    },
};

/// What a model is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelReport {
    /// The model.
    pub path: String,
    /// How it is stored.
    pub format: ModelFormat,
    /// What its file says about itself.
    pub facts: ModelFacts,
    /// Inputs and outputs; `None` if the model cannot be loaded.
    pub signature: Option<Signature>,
    /// The output with one value per class.
    pub output: Option<String>,
    /// The values of this output for noise.
    pub values: Option<OutputValues>,
    /// How samples become its input, with what was assumed.
    pub card: Option<Card>,
    /// For messages: how samples become the input of a model without a card.
    pub preprocessing: Option<String>,
    /// Files beside the model that describe it.
    pub card_files: Vec<String>,
    /// In the order of the output.
    pub class_names: Vec<String>,
    /// What nothing says about the model.
    pub assumed: Vec<Assumption>,
    /// Why the service would refuse the model as it is configured.
    pub problems: Vec<String>,
    /// What else a user should know.
    pub notes: Vec<String>,
}

/// The domains of operators that ONNX Runtime has.
const RUNTIME_DOMAINS: [&str; 4] = [
    "",
    "ai.onnx.ml",
    "ai.onnx.preview.training",
    "com.microsoft",
];

/// Opens and describes the configured model. `data_classes` are the names of the data's classes, if there are data.
/// The subject is absent if the model cannot compute.
///
/// # Errors
/// [`LoadError`] if there is nothing to describe.
pub(super) fn describe(
    model: &ModelConfig,
    compute: &ComputeConfig,
    data_classes: &[String],
) -> Result<(ModelReport, Option<Subject>), LoadError> {
    let mut report = ModelReport {
        path: model.path.display().to_string(),
        format: model.format.resolve(&model.path)?,
        facts: ModelFacts::default(),
        signature: None,
        output: None,
        values: None,
        card: None,
        preprocessing: None,
        card_files: Vec::new(),
        class_names: Vec::new(),
        assumed: Vec::new(),
        problems: Vec::new(),
        notes: Vec::new(),
    };
    let engine = match backend::open_model(model, compute) {
        Ok(OpenedModel::Network(network)) => {
            let description = network.description();
            report.facts = network.facts();
            report.signature = Some(Signature {
                inputs: vec![description.input.clone()],
                outputs: vec![description.output()],
            });
            report.preprocessing = Some(description.preprocessing.clone());
            report.class_names.clone_from(&description.class_names);
            Some(Engine::Network(network))
        }
        Ok(OpenedModel::Classifier(classifier)) => {
            describe_classifier(&mut report, classifier, model, data_classes)?
        }
        Err(error) => {
            describe_unloadable(&mut report, error)?;
            None
        }
    };
    add_notes(&mut report);
    let Some(engine) = engine else {
        return Ok((report, None));
    };
    let mut subject = Subject {
        engine,
        groups: None,
        class_names: report.class_names.clone(),
    };
    if !model.classes.is_empty() {
        match model.classes.resolve(&report.class_names) {
            Ok(groups) => {
                subject.class_names.clone_from(&groups.names);
                subject.groups = Some(groups);
            }
            Err(error) => report.problems.push(error.to_string()),
        }
    }
    Ok((report, Some(subject)))
}

/// Describes a model that has or needs a card.
fn describe_classifier(
    report: &mut ModelReport,
    classifier: Box<dyn Classifier>,
    model: &ModelConfig,
    data_classes: &[String],
) -> Result<Option<Engine>, LoadError> {
    let signature = classifier.signature().clone();
    report.facts = classifier.facts();
    report.signature = Some(signature.clone());
    let [input] = &signature.inputs[..] else {
        let error = LoadError::Inputs {
            path: model.path.clone(),
            signature: signature.to_string(),
        };
        report.problems.push(error.to_string());
        return Ok(None);
    };
    let output = match choose_output(&signature, model) {
        Ok(output) => output,
        Err(error) => {
            report.problems.push(error.to_string());
            return Ok(None);
        }
    };
    report.output = Some(output.name.clone());
    let files = read_files(model)?;
    let paths = files.iter().map(|file| file.path.display().to_string());
    report.card_files = paths.collect();
    report
        .notes
        .extend(files.iter().filter_map(CardFile::crop_note));
    let classes = KnownClasses {
        count: class_count(output),
        of_data: data_classes,
    };
    let completed = match completion::complete(
        input,
        classes,
        own_card(model, class_count(output), &files)?,
        files,
    ) {
        Ok(completed) => completed,
        Err(error) => {
            report.problems.push(error.to_string());
            return Ok(None);
        }
    };
    report
        .problems
        .extend(completed.wrong.iter().map(ToString::to_string));
    report.assumed = completed.assumed;
    let mut carded = CardedModel {
        output: output.name.clone(),
        classifier,
        card: completed.card,
    };
    let computes = find_layout(report, &mut carded, data_classes);
    report.class_names.clone_from(&carded.card.class_names);
    report.card = Some(carded.card.clone());
    if let Err(problem) = &computes {
        report.problems.push(problem.clone());
    }
    Ok(computes.is_ok().then_some(Engine::Carded(carded)))
}

/// Tries the model out, also in the other layout if both fit the dimensions of its input.
fn find_layout(
    report: &mut ModelReport,
    model: &mut CardedModel<Box<dyn Classifier>>,
    data_classes: &[String],
) -> Result<(), String> {
    let Err(problem) = try_out(report, model, data_classes) else {
        return Ok(());
    };
    let is_open = model
        .classifier
        .signature()
        .inputs
        .first()
        .is_some_and(has_open_layout);
    let SampleCard::Images(images) = &mut model.card.samples else {
        return Err(problem);
    };
    if !is_open {
        return Err(problem);
    }
    images.layout = images.layout.other();
    let setting = Setting::word("layout", images.layout);
    if try_out(report, model, data_classes).is_err() {
        return Err(problem);
    }
    if !replace(report, setting.clone()) {
        report
            .problems
            .push(format!("{problem}; with {setting} it can"));
    }
    Ok(())
}

/// Computes a batch of noise, and replaces what was assumed about the output by what it shows.
///
/// # Errors
/// Why the model does not compute.
fn try_out(
    report: &mut ModelReport,
    model: &mut CardedModel<Box<dyn Classifier>>,
    data_classes: &[String],
) -> Result<(), String> {
    let batch = probe_batch(&model.card.input());
    let values = model.values(&batch);
    let values = values.map_err(|error| format!("the model cannot compute a batch: {error}"))?;
    let classes = values.len() / batch.samples;
    if classes != model.card.class_names.len() && classes >= 2 {
        let names = completion::assumed_names(classes, data_classes);
        if replace(report, Setting::names(&names)) {
            model.card.class_names = names;
        }
    }
    let names = model.card.class_names.len();
    if names * batch.samples != values.len() {
        return Err(format!(
            "`{}` has {} values for {} samples, which do not fit {names} classes",
            model.output,
            values.len(),
            batch.samples
        ));
    }
    let found = OutputValues::of(&values, names);
    report.values = Some(found);
    if replace(report, Setting::word("output", found.output())) {
        model.card.output = found.output();
    } else if let Err(contradiction) = found.check(model.card.output) {
        report
            .problems
            .push(format!("{contradiction} in [model.preprocessing]"));
    }
    Ok(())
}

/// Replaces what was assumed for a key; `false` if nothing was.
fn replace(report: &mut ModelReport, setting: Setting) -> bool {
    let mut assumed = report.assumed.iter_mut();
    let known = assumed.find(|assumed| assumed.key == setting.key);
    known.map(|known| known.assumed = setting).is_some()
}

/// Describes an ONNX file that ONNX Runtime refuses, from its bytes.
///
/// # Errors
/// `error`, if the model is no such file.
#[cfg(feature = "onnx")]
fn describe_unloadable(report: &mut ModelReport, error: LoadError) -> Result<(), LoadError> {
    use onnx_runtime::{ModelSummary, OnnxModelError};

    let LoadError::Onnx(OnnxModelError::Load { .. } | OnnxModelError::Input { .. }) = &error else {
        return Err(error);
    };
    let summary = std::fs::read(&report.path)
        .ok()
        .and_then(|onnx| ModelSummary::read(&onnx).ok());
    // Every file with a graph has operators.
    let Some(summary) = summary.filter(|summary| !summary.operators.is_empty()) else {
        return Err(error);
    };
    report.facts = ModelFacts::from(&summary);
    report.problems.push(error.to_string());
    let foreign = summary.operators.keys().filter(|operator| {
        let domain = operator.rsplit_once('.').map_or("", |(domain, _)| domain);
        !RUNTIME_DOMAINS.contains(&domain)
    });
    let foreign: Vec<_> = foreign.map(String::as_str).collect();
    if !foreign.is_empty() {
        report.problems.push(format!(
            "operators that ONNX Runtime does not have: {}",
            foreign.join(", ")
        ));
    }
    Ok(())
}

#[cfg(not(feature = "onnx"))]
fn describe_unloadable(_report: &mut ModelReport, error: LoadError) -> Result<(), LoadError> {
    Err(error)
}

fn add_notes(report: &mut ModelReport) {
    if let Some(signature) = &report.signature
        && let Some(note) = sequence_note(&signature.inputs, report.card.as_ref())
    {
        report.notes.push(note);
    }
    if report
        .values
        .is_some_and(|values| values.kind == ValueKind::ZeroToOne)
    {
        let note = "the output's values are from 0 to 1 and do not add up to 1, as after a sigmoid: if the classes do \
                    not exclude each other, their softmax is no good soft target";
        report.notes.push(note.to_owned());
    }
    if !report.facts.unusable_outputs.is_empty() {
        report.notes.push(format!(
            "outputs that are no tensors cannot be used: {}; scikit-learn's probabilities are a tensor if exported \
             with options={{\"zipmap\": False}}",
            report.facts.unusable_outputs.join(", ")
        ));
    }
    if !report.facts.unpublishable.is_empty() {
        report.notes.push(format!(
            "it can teach, but not be published to the inference service, whose models may not have the operators {}",
            report.facts.unpublishable.join(", ")
        ));
    }
}

/// What cannot be distilled yet.
fn sequence_note(inputs: &[TensorSpec], card: Option<&Card>) -> Option<String> {
    let takes = |what: &str| {
        let shown: Vec<_> = inputs.iter().map(ToString::to_string).collect();
        Some(format!(
            "it takes {what} ({}): distilling from such inputs needs a student for sequences, which Retort does not \
             have yet; its students take images or rows of numbers",
            shown.join(", ")
        ))
    };
    let is_whole = |input: &TensorSpec| {
        use DataType::{Int8, Int16, Int32, Int64, Uint16, Uint32, Uint64};
        matches!(
            input.data_type,
            Int8 | Int16 | Int32 | Int64 | Uint16 | Uint32 | Uint64
        )
    };
    let is_image = matches!(
        card,
        Some(Card {
            samples: SampleCard::Images(_),
            ..
        })
    );
    match inputs {
        [input] if is_whole(input) && !is_image => {
            takes("whole numbers, such as the bytes or tokens of a sequence")
        }
        [input] if input.dimensions.rank() > 2 && card.is_some() && !is_image => {
            takes("samples that are no images and no rows")
        }
        [_, _, ..] if inputs.iter().any(is_whole) => takes("several inputs of tokens"),
        _ => None,
    }
}
