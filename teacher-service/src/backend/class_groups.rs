//! A backend whose classes are groups of another backend's classes.

use common::digest::Sha256;

use super::{Backend, BackendError, Description, ModelFacts, Readiness};
use crate::{batch::Batch, model::class_map::ClassGroups};

/// Answers with one logit per group of `backend`'s classes.
pub(super) struct GroupedClasses {
    backend: Box<dyn Backend>,
    groups: ClassGroups,
    description: Description,
}

impl GroupedClasses {
    pub(super) fn new(backend: Box<dyn Backend>, groups: ClassGroups) -> Self {
        let mut description = backend.description().clone();
        // Holds: the groups are lists of numbers.
        let members = serde_json::to_string(&groups).expect("it can be written as JSON");
        let identity = format!("{}\n{members}", description.identity.model_id);
        description.identity.model_id = Sha256::of(identity.as_bytes()).to_string();
        description.class_names.clone_from(&groups.names);
        Self {
            backend,
            groups,
            description,
        }
    }
}

impl Backend for GroupedClasses {
    fn description(&self) -> &Description {
        &self.description
    }

    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>, BackendError> {
        let logits = self.backend.logits(batch)?;
        let classes = self.backend.description().class_names.len();
        Ok(self.groups.apply(&logits, classes))
    }

    fn facts(&self) -> ModelFacts {
        self.backend.facts()
    }

    fn readiness(&self) -> Option<Readiness> {
        self.backend.readiness()
    }
}
