//! A model that is inspected with several cards.

use datasets::{Interpolation, SampleKind};
use tensors::TensorSpec;

use crate::{
    backend::{Backend, BackendError, CardedModel, Classifier},
    batch::Batch,
    model::{
        card::{Card, ImageCard, OutputKind, SampleCard},
        class_map::ClassGroups,
    },
};

use super::metrics::Logits;

/// A model that computes.
pub(super) struct Subject {
    pub(super) engine: Engine,
    /// The groups that its classes make up.
    pub(super) groups: Option<ClassGroups>,
    /// Names of the classes: of the groups, if there are any.
    pub(super) class_names: Vec<String>,
}

/// What computes.
pub(super) enum Engine {
    /// A network of Retort's own, whose preprocessing is fixed.
    Network(Box<dyn Backend>),
    /// A model with a card.
    Carded(CardedModel<Box<dyn Classifier>>),
}

impl Subject {
    /// The card; `None` if the model knows its own preprocessing.
    pub(super) fn card(&self) -> Option<&Card> {
        match &self.engine {
            Engine::Network(_) => None,
            Engine::Carded(model) => Some(&model.card),
        }
    }

    /// How the model takes images, if it has a card for them.
    pub(super) fn image_card(&self) -> Option<&ImageCard> {
        match &self.card()?.samples {
            SampleCard::Images(images) => Some(images),
            SampleCard::Values(_) => None,
        }
    }

    /// Replaces the part of the card about images.
    pub(super) fn set_image_card(&mut self, images: ImageCard) {
        if let Engine::Carded(model) = &mut self.engine {
            model.card.samples = SampleCard::Images(images);
        }
    }

    /// Replaces the kind of the output.
    pub(super) fn set_output(&mut self, output: OutputKind) {
        if let Engine::Carded(model) = &mut self.engine {
            model.card.output = output;
        }
    }

    /// The input in the model's own words, if it has a card.
    pub(super) fn own_input(&self) -> Option<&TensorSpec> {
        match &self.engine {
            Engine::Network(_) => None,
            Engine::Carded(model) => model.classifier.signature().inputs.first(),
        }
    }

    /// What one batch must be.
    pub(super) fn input(&self) -> TensorSpec {
        match &self.engine {
            Engine::Network(network) => network.description().input.clone(),
            Engine::Carded(model) => model.card.input(),
        }
    }

    /// The shape of one sample of the input for samples of `kind`, if they fit. Rows fit a model that takes as many
    /// values.
    pub(super) fn sample_shape(&self, kind: SampleKind) -> Option<Vec<usize>> {
        let shape = self.input().dimensions.sample_shape()?;
        let shape = match kind {
            SampleKind::Image { .. } => shape,
            SampleKind::Row { .. } => vec![shape.iter().product()],
        };
        datasets::fits(kind, &shape).then_some(shape)
    }

    /// How images are resized for the model.
    pub(super) fn interpolation(&self) -> Interpolation {
        match &self.engine {
            Engine::Network(network) => network.description().interpolation,
            Engine::Carded(model) => model.card.interpolation(),
        }
    }

    /// The model's outputs for a batch, as they are.
    pub(super) fn outputs(&mut self, batch: &Batch) -> Result<Vec<f32>, BackendError> {
        match &mut self.engine {
            Engine::Network(network) => network.logits(batch),
            Engine::Carded(model) => model.outputs(batch),
        }
    }

    /// The logits of the classes, from the model's outputs.
    pub(super) fn logits(&self, mut outputs: Vec<f32>) -> Logits {
        let classes = match &self.engine {
            Engine::Network(network) => network.description().class_names.len(),
            Engine::Carded(model) => {
                model.card.output.make_logits(&mut outputs);
                model.card.class_names.len()
            }
        };
        match &self.groups {
            Some(groups) => Logits::new(groups.apply(&outputs, classes), groups.names.len()),
            None => Logits::new(outputs, classes),
        }
    }
}
