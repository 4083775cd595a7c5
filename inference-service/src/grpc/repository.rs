//! The model repository extension: which versions there are, and which to load.

use std::{collections::BTreeMap, sync::Arc};

use artifacts::model_store::{ModelName, parse_version};
use proto::inference::{
    ModelRepositoryParameter, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
    model_repository_parameter::ParameterChoice, repository_index_response::ModelIndex,
};
use tonic::Status;

use crate::{
    catalog::{ServedModel, VersionState, shorten},
    error::{InferenceError, PublishError},
    inference::invalid,
};

/// The parameter of a load that names a version.
const VERSION: &str = "version";

/// Triton's parameters of a load that bring a configuration and files.
const CONFIG: &str = "config";
const FILE_PREFIX: &str = "file:";

/// Triton's parameter of an unload.
const UNLOAD_DEPENDENTS: &str = "unload_dependents";

/// Every stored version, or with `ready` every version that answers.
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

/// Whether only versions that answer are asked for.
pub(super) fn wanted_index(request: &RepositoryIndexRequest) -> Result<bool, InferenceError> {
    check_repository(&request.repository_name)?;
    Ok(request.ready)
}

/// The model to load, and the version where the request names one.
pub(super) fn wanted(
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
pub(super) fn unwanted(request: &RepositoryModelUnloadRequest) -> Result<ModelName, Status> {
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
    let problem = "there is one repository, which has no name; leave it out";
    Err(invalid("repository_name", problem))
}

/// Why a load does not take a parameter.
fn load_problem(name: &str) -> &'static str {
    if name == CONFIG {
        "a load does not change a model's configuration; set it in [models.NAME] of the service's \
         own and start it again"
    } else if name.starts_with(FILE_PREFIX) {
        "a load takes no files; publish the model (`retort models publish`)"
    } else {
        "unknown; a load takes `version` only"
    }
}

/// No model depends on another, so that both values of `unload_dependents` mean the same.
fn check_unload(name: &str, parameter: &ModelRepositoryParameter) -> Result<(), InferenceError> {
    if name != UNLOAD_DEPENDENTS {
        let problem = "unknown; an unload takes `unload_dependents` only";
        return Err(refused(name, problem));
    }
    match parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(_)) => Ok(()),
        _ => Err(refused(name, "expected true or false")),
    }
}

fn read_version(parameter: Option<&ParameterChoice>) -> Result<u64, InferenceError> {
    let version = match parameter {
        Some(ParameterChoice::Int64Param(version)) => u64::try_from(*version).ok(),
        Some(ParameterChoice::StringParam(version)) => parse_version(version),
        _ => None,
    };
    let version = version.filter(|version| *version > 0);
    version.ok_or_else(|| refused(VERSION, "expected the number of a version"))
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
    fn a_load_takes_a_version_and_refuses_what_it_would_not_do() {
        let load = |name, choice| {
            wanted(&RepositoryModelLoadRequest {
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
    fn an_unload_takes_unload_dependents_only() {
        let unload = |name, choice| {
            unwanted(&RepositoryModelUnloadRequest {
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
    fn there_is_no_other_repository() {
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
            wanted_index(&index).map(drop).map_err(Status::from),
            wanted(&load).map(drop),
            unwanted(&unload).map(drop),
        ] {
            let status = refused.unwrap_err();
            assert!(
                status.message().starts_with("repository_name: "),
                "{status}"
            );
        }
    }
}
