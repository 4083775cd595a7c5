//! The model repository extension: which versions there are, and which to load.

use std::{collections::BTreeMap, sync::Arc};

use common::model_store::{ModelName, parse_version};
use proto::inference::{
    RepositoryIndexResponse, RepositoryModelLoadRequest,
    model_repository_parameter::ParameterChoice, repository_index_response::ModelIndex,
};

use crate::{
    catalog::ServedModel,
    error::{InferenceError, PublishError},
    inference::invalid,
};

/// The parameter of a load that names a version.
const VERSION: &str = "version";

/// Every stored version, or with `ready` every version that answers.
pub(crate) fn index(
    models: &BTreeMap<ModelName, Arc<ServedModel>>,
    ready: bool,
) -> RepositoryIndexResponse {
    let mut index = Vec::new();
    for (name, served) in models {
        for (version, failure) in &served.stored {
            let is_ready = served.loaded.contains_key(version);
            if ready && !is_ready {
                continue;
            }
            let (state, reason) = match (is_ready, failure) {
                (true, _) => ("READY", ""),
                (false, Some(failure)) => ("UNAVAILABLE", failure.as_str()),
                (false, None) => ("UNAVAILABLE", "not loaded"),
            };
            index.push(ModelIndex {
                name: name.to_string(),
                version: version.to_string(),
                state: state.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }
    RepositoryIndexResponse { models: index }
}

/// The model to load, and the version where the request names one.
pub(super) fn wanted(
    request: &RepositoryModelLoadRequest,
) -> Result<(ModelName, Option<u64>), tonic::Status> {
    let model = model_name(&request.model_name)?;
    let version = request
        .parameters
        .get(VERSION)
        .map(|parameter| read_version(parameter.parameter_choice.as_ref()))
        .transpose()?;
    Ok((model, version))
}

pub(super) fn model_name(name: &str) -> Result<ModelName, PublishError> {
    Ok(ModelName::new(name)?)
}

fn read_version(parameter: Option<&ParameterChoice>) -> Result<u64, InferenceError> {
    let version = match parameter {
        Some(ParameterChoice::Int64Param(version)) => u64::try_from(*version).ok(),
        Some(ParameterChoice::StringParam(version)) => parse_version(version),
        _ => None,
    };
    let problem = "expected the number of a version";
    version.ok_or_else(|| invalid("parameters.version", problem))
}
