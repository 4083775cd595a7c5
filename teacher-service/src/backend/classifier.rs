//! Classifiers in the formats of other programs, and the backend that all of them share.

use std::path::Path;

use artifacts::manifest::TeacherIdentity;
use common::digest::Sha256;
use serde::Serialize;
use tensors::{Signature, TensorSpec};
use tracing::{info, warn};

use super::{Backend, BackendError, Description, LoadError, ModelFacts, Readiness, probe};
use crate::{
    batch::{Batch, Input},
    model::{
        ModelConfig,
        card::{Card, CardConfig, CardFile, SampleCard},
        card_files,
        output_values::OutputValues,
    },
};

/// A model that maps one tensor to the values of classes. One implementation per format; the card says
/// what the values of the tensors mean.
pub trait Classifier {
    /// Inputs and outputs. A first dimension without a fixed size is the batch.
    fn signature(&self) -> &Signature;

    /// The digest of everything that decides the outputs, for example the bytes of all files. `probe` are
    /// the outputs of a fixed batch, for models whose weights are not known.
    fn digest(&self, probe: &[f32]) -> Sha256;

    /// For messages: what besides the model affects the bits of its outputs.
    fn numerics(&self) -> String;

    /// Computes the output `output` of `samples` samples of shape `sample`, row-major.
    ///
    /// # Errors
    /// If the computation fails; a later batch may succeed.
    fn run(
        &mut self,
        output: &str,
        input: &Input,
        sample: &[usize],
        samples: usize,
    ) -> Result<Vec<f32>, BackendError>;

    /// What the model's file says about itself.
    fn facts(&self) -> ModelFacts {
        ModelFacts::default()
    }

    /// Changes of the model's readiness; `None` for a model in this process, which is always ready.
    fn readiness(&self) -> Option<Readiness> {
        None
    }
}

/// A teacher that computes with a [`Classifier`] as a card says.
pub struct CardedClassifier<C> {
    model: CardedModel<C>,
    description: Description,
}

/// A classifier and what the values of its tensors mean.
pub(crate) struct CardedModel<C> {
    pub(crate) classifier: C,
    pub(crate) card: Card,
    /// Name of the output with the classes.
    pub(crate) output: String,
}

/// What a model id covers. A new version of the encoding gets a new number.
#[derive(Serialize)]
struct ModelIdentity<'i> {
    version: u32,
    model: Sha256,
    output: &'i str,
    card: &'i Card,
}

impl<C: Classifier> CardedClassifier<C> {
    /// Completes the card of `classifier` from `config` and the files beside the model.
    ///
    /// # Errors
    /// [`LoadError::Card`], [`LoadError::Output`] and [`LoadError::Probe`].
    pub fn new(classifier: C, config: &ModelConfig) -> Result<Self, LoadError> {
        let signature = classifier.signature().clone();
        let [input] = &signature.inputs[..] else {
            return Err(LoadError::Inputs {
                path: config.path.clone(),
                signature: signature.to_string(),
            });
        };
        let output = choose_output(&signature, config)?;
        let classes = class_count(output);
        let files = read_files(config)?;
        for note in files.iter().filter_map(CardFile::crop_note) {
            warn!("{note}");
        }
        let own = own_card(config, classes, &files)?;
        let card = Card::resolve(input, classes, &own, &files);
        let card = card.map_err(|source| LoadError::Card {
            path: config.path.clone(),
            source,
        })?;
        info!(model = %signature, output = output.name, "the model's interface");
        let mut model = CardedModel {
            output: output.name.clone(),
            classifier,
            card,
        };
        let input = model.card.input();
        let probe = model.outputs(&probe::batch(&input));
        let probe = probe.map_err(|source| LoadError::Probe {
            path: config.path.clone(),
            source,
        })?;
        let values = OutputValues::of(&probe, model.card.class_names.len());
        let fits = values.check(model.card.output);
        fits.map_err(|source| LoadError::Kind {
            path: config.path.clone(),
            source,
        })?;
        let description = Description {
            identity: TeacherIdentity {
                model_id: model.id(&probe).to_string(),
                numerics: model.classifier.numerics(),
                probe_sha256: probe::digest(&probe),
            },
            input,
            interpolation: model.card.interpolation(),
            preprocessing: model.card.describe(),
            class_names: model.card.class_names.clone(),
        };
        Ok(Self { model, description })
    }
}

impl<C: Classifier> CardedModel<C> {
    fn id(&self, probe: &[f32]) -> Sha256 {
        let identity = ModelIdentity {
            version: 1,
            model: self.classifier.digest(probe),
            output: &self.output,
            card: &self.card,
        };
        // Holds: all keys are text.
        let identity = serde_json::to_vec(&identity).expect("it can be written as JSON");
        Sha256::of(&identity)
    }

    /// The model's outputs for a batch, before they become logits: one value per class and sample.
    pub(crate) fn outputs(&mut self, batch: &Batch) -> Result<Vec<f32>, BackendError> {
        let outputs = self.values(batch)?;
        let (classes, samples) = (self.card.class_names.len(), batch.samples);
        if outputs.len() != classes * samples {
            let (output, found) = (&self.output, outputs.len());
            return Err(BackendError(format!(
                "`{output}` has {found} values for {samples} samples, expected {classes} each"
            )));
        }
        Ok(outputs)
    }

    /// The values of the model's output for a batch, whatever their number.
    pub(crate) fn values(&mut self, batch: &Batch) -> Result<Vec<f32>, BackendError> {
        let (input, sample) = match (&self.card.samples, &batch.input) {
            (SampleCard::Images(images), Input::U8(pixels)) => {
                let shape = images.model_shape().to_vec();
                (images.prepare(pixels, batch.samples), shape)
            }
            (SampleCard::Values(shape), input) => (input.clone(), shape.clone()),
            (SampleCard::Images(_), Input::F32(_)) => {
                return Err(BackendError("the teacher takes u8 pixels".to_owned()));
            }
        };
        self.classifier
            .run(&self.output, &input, &sample, batch.samples)
    }
}

impl<C: Classifier> Backend for CardedClassifier<C> {
    fn description(&self) -> &Description {
        &self.description
    }

    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>, BackendError> {
        let mut outputs = self.model.outputs(batch)?;
        self.model.card.output.make_logits(&mut outputs);
        Ok(outputs)
    }

    fn facts(&self) -> ModelFacts {
        self.model.classifier.facts()
    }

    fn readiness(&self) -> Option<Readiness> {
        self.model.classifier.readiness()
    }
}

impl<C: Classifier + ?Sized> Classifier for Box<C> {
    fn signature(&self) -> &Signature {
        (**self).signature()
    }

    fn digest(&self, probe: &[f32]) -> Sha256 {
        (**self).digest(probe)
    }

    fn numerics(&self) -> String {
        (**self).numerics()
    }

    fn run(
        &mut self,
        output: &str,
        input: &Input,
        sample: &[usize],
        samples: usize,
    ) -> Result<Vec<f32>, BackendError> {
        (**self).run(output, input, sample, samples)
    }

    fn facts(&self) -> ModelFacts {
        (**self).facts()
    }

    fn readiness(&self) -> Option<Readiness> {
        (**self).readiness()
    }
}

/// The configured output, or the only one with a row of floating-point values per sample.
pub(crate) fn choose_output<'s>(
    signature: &'s Signature,
    config: &ModelConfig,
) -> Result<&'s TensorSpec, LoadError> {
    let refused = |problem: String| LoadError::Output {
        path: config.path.clone(),
        problem,
        signature: signature.to_string(),
    };
    if let Some(name) = &config.output {
        return signature
            .output(name)
            .ok_or_else(|| refused(format!("the model has no output `{name}`")));
    }
    let has_rows = |output: &&TensorSpec| {
        use tensors::DataType::{Fp16, Fp32, Fp64};
        matches!(output.data_type, Fp16 | Fp32 | Fp64) && output.dimensions.rank() >= 2
    };
    let mut candidates = signature.outputs.iter().filter(has_rows);
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(refused("no output has floating-point rows".to_owned())),
        _ => Err(refused("several outputs could hold the classes".to_owned())),
    }
}

/// Values per sample, if the model says.
pub(crate) fn class_count(output: &TensorSpec) -> Option<usize> {
    let sizes = output.dimensions.0.iter().skip(1);
    sizes
        .map(|dimension| dimension.fixed())
        .try_fold(1_usize, |product, size| product.checked_mul(size?))
}

/// `[model.preprocessing]`, with the names from its file. Classes that nothing names are called by their
/// positions if groups replace them.
pub(crate) fn own_card(
    config: &ModelConfig,
    classes: Option<usize>,
    files: &[CardFile],
) -> Result<CardConfig, LoadError> {
    let mut card = config.preprocessing.clone();
    if let Some(file) = &card.class_names_file {
        card.class_names = Some(card_files::read_class_names(file)?);
    }
    let are_named =
        card.class_names.is_some() || files.iter().any(|file| file.card.class_names.is_some());
    if let (Some(classes), false, false) = (classes, are_named, config.classes.is_empty()) {
        card.class_names = Some((0..classes).map(|position| position.to_string()).collect());
    }
    Ok(card)
}

/// The files beside the model that describe its preprocessing.
pub(crate) fn read_files(config: &ModelConfig) -> Result<Vec<CardFile>, LoadError> {
    let path: &Path = &config.path;
    if path.is_file() {
        Ok(card_files::read_beside(path)?)
    } else {
        Ok(Vec::new())
    }
}
