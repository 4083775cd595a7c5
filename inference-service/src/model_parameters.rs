//! Parameters in the metadata of a model: what clients need to send samples and to name their classes.

use serde_json::{Value, json};

use crate::loaded_version::LoadedVersion;

/// Largest JSON of the class names in bytes, half of the default message limit of gRPC clients.
pub(crate) const MAX_CLASS_NAMES_BYTES: usize = 2 << 20;

/// The parameters of `version`, by name. A model of rows has no preprocessing. The class names are left out if
/// their JSON has more than `max_class_names_bytes`.
pub(crate) fn of(
    version: &LoadedVersion,
    max_class_names_bytes: usize,
) -> Vec<(&'static str, Value)> {
    let manifest = &version.manifest;
    let preprocessing = manifest.preprocessing.as_ref();
    let mut parameters: Vec<_> = preprocessing
        .map(|preprocessing| ("preprocessing", json!(preprocessing)))
        .into_iter()
        .collect();
    let class_names = json!(manifest.class_names);
    if class_names.to_string().len() <= max_class_names_bytes {
        parameters.push(("class_names", class_names));
    }
    parameters
}
