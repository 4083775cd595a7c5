//! The model repository extension: lists versions, and parses requests to load and unload models.

use std::{collections::BTreeMap, sync::Arc};

use artifacts::model_store::{ModelName, parse_version};
use proto::inference::{
    ModelRepositoryParameter, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
    model_repository_parameter::ParameterChoice, repository_index_response::ModelIndex,
};
use tonic::Status;

use crate::{
    catalog::{ServedModel, VersionState},
    error::{InferenceError, PublishError},
    inference::invalid,
    names::shorten,
};

/// The parameter of a load request that selects a version.
const VERSION: &str = "version";

/// Triton's parameters of a load request with a configuration and files.
const CONFIG: &str = "config";
const FILE_PREFIX: &str = "file:";

/// Triton's parameter of an unload request.
const UNLOAD_DEPENDENTS: &str = "unload_dependents";

/// Lists every stored version, or with `ready` every version that answers.
pub(crate) fn index(
    models: &BTreeMap<ModelName, Arc<ServedModel>>,
    ready: bool,
) -> RepositoryIndexResponse {
    let mut index = Vec::new();
    for (name, served) in models {
        for version in served.stored.keys() {
            let state = served.state(*version);
            if ready && state != VersionState::Ready {
                continue;
            }
            index.push(ModelIndex {
                name: name.to_string(),
                version: version.to_string(),
                state: state.name().to_owned(),
                reason: state.reason(),
            });
        }
    }
    RepositoryIndexResponse { models: index }
}

/// Whether the request selects only versions that answer.
pub(super) fn index_filter(request: &RepositoryIndexRequest) -> Result<bool, InferenceError> {
    check_repository(&request.repository_name)?;
    Ok(request.ready)
}

/// The model to load, and its version if the request names one.
pub(super) fn model_to_load(
    request: &RepositoryModelLoadRequest,
) -> Result<(ModelName, Option<u64>), Status> {
    check_repository(&request.repository_name)?;
    let mut version = None;
    for (name, parameter) in &request.parameters {
        if name != VERSION {
            return Err(refused(name, load_problem(name)).into());
        }
        version = Some(read_version(parameter.parameter_choice.as_ref())?);
    }
    Ok((model_name(&request.model_name)?, version))
}

/// The model to unload.
pub(super) fn model_to_unload(request: &RepositoryModelUnloadRequest) -> Result<ModelName, Status> {
    check_repository(&request.repository_name)?;
    for (name, parameter) in &request.parameters {
        check_unload(name, parameter)?;
    }
    Ok(model_name(&request.model_name)?)
}

fn model_name(name: &str) -> Result<ModelName, PublishError> {
    Ok(ModelName::new(name)?)
}

fn check_repository(name: &str) -> Result<(), InferenceError> {
    if name.is_empty() {
        return Ok(());
    }
    let problem = "the service has one repository without a name; leave this field empty";
    Err(invalid("repository_name", problem))
}

/// Why a load request rejects a parameter.
fn load_problem(name: &str) -> &'static str {
    if name == CONFIG {
        "a load cannot change a model's configuration; set it in [models.NAME] of the service's \
         configuration and restart the service"
    } else if name.starts_with(FILE_PREFIX) {
        "a load does not accept files; publish the model (`retort models publish`)"
    } else {
        "unknown parameter; a load accepts only `version`"
    }
}

/// Models do not depend on each other, so both values of `unload_dependents` have the same effect.
fn check_unload(name: &str, parameter: &ModelRepositoryParameter) -> Result<(), InferenceError> {
    if name != UNLOAD_DEPENDENTS {
        let problem = "unknown parameter; an unload accepts only `unload_dependents`";
        return Err(refused(name, problem));
    }
    match parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(_)) => Ok(()),
        _ => Err(refused(name, "must be true or false")),
    }
}

fn read_version(parameter: Option<&ParameterChoice>) -> Result<u64, InferenceError> {
    let version = match parameter {
        Some(ParameterChoice::Int64Param(version)) => u64::try_from(*version).ok(),
        Some(ParameterChoice::StringParam(version)) => parse_version(version),
        _ => None,
    };
    let version = version.filter(|version| *version > 0);
    version.ok_or_else(|| refused(VERSION, "must be a version number"))
}

fn refused(parameter: &str, problem: &str) -> InferenceError {
    invalid(format!("parameters.{}", shorten(parameter)), problem)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn parameters<const N: usize>(
        parameters: [(&str, ParameterChoice); N],
    ) -> std::collections::HashMap<String, ModelRepositoryParameter> {
        let parameters = parameters.map(|(name, choice)| {
            let parameter_choice = Some(choice);
            (
                name.to_owned(),
                ModelRepositoryParameter { parameter_choice },
            )
        });
        parameters.into()
    }

    fn text(text: &str) -> ParameterChoice {
        ParameterChoice::StringParam(text.to_owned())
    }

    #[test]
    fn a_load_accepts_only_a_version() {
        let load = |name, choice| {
            model_to_load(&RepositoryModelLoadRequest {
                model_name: "m".to_owned(),
                parameters: parameters([(name, choice)]),
                ..RepositoryModelLoadRequest::default()
            })
        };
        for good in [ParameterChoice::Int64Param(2), text("2")] {
            let (model, version) = load("version", good).unwrap();
            assert_eq!((model.as_str(), version), ("m", Some(2)));
        }
        for (name, choice) in [
            ("version", ParameterChoice::Int64Param(0)),
            ("version", text("02")),
            ("version", ParameterChoice::BoolParam(true)),
            ("config", text("{}")),
            (
                "file:1/model.onnx",
                ParameterChoice::BytesParam("onnx".into()),
            ),
            ("Version", ParameterChoice::Int64Param(2)),
        ] {
            let status = load(name, choice).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            let begins = format!("parameters.{name}: ");
            assert!(status.message().starts_with(&begins), "{status}");
        }
    }

    #[test]
    fn an_unload_accepts_only_unload_dependents() {
        let unload = |name, choice| {
            model_to_unload(&RepositoryModelUnloadRequest {
                model_name: "m".to_owned(),
                parameters: parameters([(name, choice)]),
                ..RepositoryModelUnloadRequest::default()
            })
        };
        for dependents in [false, true] {
            let choice = ParameterChoice::BoolParam(dependents);
            assert_eq!(unload("unload_dependents", choice).unwrap().as_str(), "m");
        }
        for (name, choice) in [
            ("unload_dependents", text("yes")),
            ("version", ParameterChoice::Int64Param(1)),
        ] {
            let status = unload(name, choice).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            assert!(status.message().contains(name), "{status}");
        }
    }

    #[test]
    fn other_repositories_are_rejected() {
        let repository_name = "other".to_owned();
        let index = RepositoryIndexRequest {
            repository_name: repository_name.clone(),
            ready: true,
        };
        let load = RepositoryModelLoadRequest {
            repository_name: repository_name.clone(),
            model_name: "m".to_owned(),
            ..RepositoryModelLoadRequest::default()
        };
        let unload = RepositoryModelUnloadRequest {
            repository_name,
            model_name: "m".to_owned(),
            ..RepositoryModelUnloadRequest::default()
        };
        for refused in [
            index_filter(&index).map(drop).map_err(Status::from),
            model_to_load(&load).map(drop),
            model_to_unload(&unload).map(drop),
        ] {
            let status = refused.unwrap_err();
            assert!(
                status.message().starts_with("repository_name: "),
                "{status}"
            );
        }
    }
}
