//! The teachers of a phase, from a run's configuration and manifest.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, de::IgnoredAny};
use soft_targets::consumption::named_teachers;

/// The tables of a run's `config.toml` that combine teachers under a name.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CombinedTeachers {
    #[serde(default)]
    ensembles: BTreeMap<String, Ensemble>,
    #[serde(default)]
    routes: BTreeMap<String, Route>,
}

#[derive(Debug, Deserialize)]
struct Ensemble {
    teachers: BTreeMap<String, IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Route {
    teachers: BTreeMap<String, IgnoredAny>,
    default: String,
}

/// The teachers of a phase, with their model ids.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PhaseTeachers<'m> {
    /// The one of `[teacher]`.
    Single(&'m str),
    /// Named ones.
    Named(BTreeMap<&'m str, &'m str>),
}

impl CombinedTeachers {
    /// The teachers that `name` stands for: those of an ensemble or a route, or itself.
    pub(super) fn members<'n>(&'n self, name: &'n str) -> BTreeSet<&'n str> {
        if let Some(Ensemble { teachers }) = self.ensembles.get(name) {
            return teachers.keys().map(String::as_str).collect();
        }
        if let Some(Route { teachers, default }) = self.routes.get(name) {
            let listed = teachers.keys().map(String::as_str);
            return listed.chain([default.as_str()]).collect();
        }
        BTreeSet::from([name])
    }
}

impl PhaseTeachers<'_> {
    /// Their part of the record of a step.
    pub(super) fn record(&self) -> String {
        match self {
            Self::Single(model_id) => (*model_id).to_owned(),
            Self::Named(model_ids) => named_teachers(model_ids),
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Single(model_id) => format!("model {}…", shortened(model_id)),
            Self::Named(model_ids) => {
                let models = model_ids.iter();
                let models = models.map(|(name, id)| format!("{name} (model {}…)", shortened(id)));
                models.collect::<Vec<_>>().join(" and ")
            }
        }
    }
}

/// Enough to recognize an id.
fn shortened(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
