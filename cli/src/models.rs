//! `retort models`: what an inference service stores, and which version serves.

use common::output::{OutputError, Results};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use clap::{Args, Subcommand};
use common::{
    manifest::ArtifactManifest, os_text, security::client::CredentialArguments, upload::upload,
};
use proto::publish::v1::{ActivateVersionRequest, DeleteVersionRequest, ModelVersion};
use tonic::Request;

use crate::{
    CliError,
    client::Remote,
    inference::{publisher, versions, with_deadline},
};

/// The service checks, loads and warms a model before it answers, for as long as an hour where its
/// configuration says so. HTTP/2's pings notice one that is gone.
const LOAD_DEADLINE: Duration = Duration::from_secs(3_700);

const EXAMPLES: &str = "\
Examples:
  retort models list
  retort models versions fashion-mnist
  retort models activate fashion-mnist 2
  retort models rollback fashion-mnist      back to the version before the active one
  retort models publish fashion-mnist runs/student/artifact
  retort models delete fashion-mnist 1 --admin 127.0.0.1:8003";

/// Lists the models of an inference service, chooses and deletes versions.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ModelsArguments {
    /// host:port of the inference service's admin port.
    #[arg(
        long,
        value_parser = os_text::argument(),
        env = "RETORT_ADMIN_ADDRESS",
        default_value = "127.0.0.1:8003",
        global = true
    )]
    admin: String,
    #[command(flatten)]
    credentials: CredentialArguments,
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// Every model with the version that serves.
    List,
    /// Every stored version of a model.
    Versions {
        /// As listed.
        model: String,
    },
    /// Serves a stored version.
    Activate {
        /// As listed.
        model: String,
        /// As listed.
        version: u64,
    },
    /// Serves the newest version that is older than the active one.
    Rollback {
        /// As listed.
        model: String,
    },
    /// Uploads a model and serves it: what a run does at its end, for example after that failed.
    /// What is stored already, file and manifest, is not stored again and changes nothing.
    Publish {
        /// Its name in the service.
        model: String,
        /// Folder with model.onnx and manifest.json.
        artifact: PathBuf,
    },
    /// Deletes a version that is not active.
    Delete {
        /// As listed.
        model: String,
        /// As listed.
        version: u64,
    },
}

/// `retort models`.
pub(crate) async fn execute(arguments: ModelsArguments) -> Result<(), CliError> {
    let admin = Remote::admin(&arguments.admin).with(&arguments.credentials)?;
    match arguments.command {
        ModelsCommand::List => {
            let stored = versions(&admin, "").await?;
            Ok(print_versions(
                stored.iter().filter(|version| version.active),
            )?)
        }
        ModelsCommand::Versions { model } => Ok(print_versions(&versions(&admin, &model).await?)?),
        ModelsCommand::Activate { model, version } => activate(&admin, &model, version).await,
        ModelsCommand::Rollback { model } => {
            let stored = versions(&admin, &model).await?;
            let version = version_before(&stored).ok_or_else(|| {
                CliError::Usage(format!(
                    "model `{model}` has no version older than the active one that could serve; see \
                     `retort models versions {model}`"
                ))
            })?;
            activate(&admin, &model, version).await
        }
        ModelsCommand::Publish { model, artifact } => publish(&admin, &model, &artifact).await,
        ModelsCommand::Delete { model, version } => {
            let mut client = publisher(&admin).await?;
            let model_name = model.clone();
            let request = with_deadline(DeleteVersionRequest {
                model_name,
                version,
            });
            client
                .delete_version(request)
                .await
                .map_err(admin.refused())?;
            writeln!(Results, "{model}: version {version} is deleted")?;
            Ok(())
        }
    }
}

async fn activate(admin: &Remote, model: &str, version: u64) -> Result<(), CliError> {
    let mut client = publisher(admin).await?;
    let model_name = model.to_owned();
    let mut request = Request::new(ActivateVersionRequest {
        model_name,
        version,
    });
    request.set_timeout(LOAD_DEADLINE);
    let response = client.activate_version(request).await;
    let previous = response
        .map_err(admin.refused())?
        .into_inner()
        .previous_version;
    writeln!(
        Results,
        "{model}: version {version} serves; before it served version {previous}"
    )?;
    Ok(())
}

async fn publish(admin: &Remote, model: &str, artifact: &Path) -> Result<(), CliError> {
    let read = |name: &str| {
        let path = artifact.join(name);
        fs::read(&path)
            .map(Bytes::from)
            .map_err(|error| CliError::File { path, error })
    };
    let (onnx, manifest_json) = (read("model.onnx")?, read("manifest.json")?);
    // What the service would say only after the upload.
    ArtifactManifest::from_json(&manifest_json)?;
    let messages = upload(model, onnx, manifest_json);
    let mut client = publisher(admin).await?;
    let mut request = Request::new(tokio_stream::iter(messages));
    request.set_timeout(LOAD_DEADLINE);
    let response = client.publish(request).await.map_err(admin.refused())?;
    let response = response.into_inner();
    let version = response.version;
    if response.already_published {
        writeln!(
            Results,
            "{model}: is in the store already, as version {version}"
        )?;
    } else {
        writeln!(Results, "{model}: version {version} serves")?;
    }
    for warning in &response.warnings {
        println!("{model}: warning: {warning}");
    }
    Ok(())
}

/// The newest version below the active one that can serve.
fn version_before(stored: &[ModelVersion]) -> Option<u64> {
    let active = stored.iter().find(|version| version.active)?.version;
    let whole = stored.iter().filter(|version| !version.damaged);
    let versions = whole.map(|version| version.version);
    versions.filter(|version| *version < active).max()
}

fn print_versions<'a>(
    versions: impl IntoIterator<Item = &'a ModelVersion>,
) -> Result<(), OutputError> {
    writeln!(
        Results,
        "{:<24} {:>7}  {:<8} {:>10}  SHA-256",
        "MODEL", "VERSION", "STATE", "BYTES"
    )?;
    for version in versions {
        let state = match (version.damaged, version.active) {
            (true, _) => "damaged",
            (false, true) => "active",
            (false, false) => "stored",
        };
        writeln!(
            Results,
            "{:<24} {:>7}  {:<8} {:>10}  {}",
            version.model_name, version.version, state, version.size, version.sha256
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_back_goes_to_the_next_older_version_that_is_stored() {
        let stored = |active: u64| {
            [1, 2, 5, 7].map(|version| ModelVersion {
                version,
                active: version == active,
                ..Default::default()
            })
        };
        for (active, expected) in [(7, Some(5)), (5, Some(2)), (1, None), (0, None)] {
            assert_eq!(version_before(&stored(active)), expected);
        }
        // It goes past a damaged version, and leaves one.
        let mut damaged = stored(7);
        for version in &mut damaged[2..] {
            version.damaged = true;
        }
        assert_eq!(version_before(&damaged), Some(2));
    }
}
