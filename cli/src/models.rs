//! `retort models`: what an inference service stores, and which version serves.

mod deletion;

use common::output::{Messages, OutputError, Results};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use artifacts::manifest::ArtifactManifest;
use bytes::Bytes;
use clap::{Args, Subcommand};
use common::os_text;
use proto::publish::v1::{ActivateVersionRequest, ModelVersion};
use server::{
    security::client::CredentialArguments,
    upload::{IfStored, upload},
};
use tonic::Request;

use crate::{
    CliError,
    client::Remote,
    inference::{publisher, versions},
};

/// The service checks, loads and warms a model before it answers, for as long as an hour where its
/// configuration says so. HTTP/2's pings notice one that is gone.
const LOAD_DEADLINE: Duration = Duration::from_secs(3_700);

/// The reason of versions that nothing asks to load.
const NOT_LOADED: &str = "not loaded";

const EXAMPLES: &str = "\
Examples:
  retort models list
  retort models versions fashion-mnist
  retort models activate fashion-mnist 2
  retort models rollback fashion-mnist      back to the version before the active one
  retort models publish fashion-mnist runs/student/artifact
  retort models delete fashion-mnist 1 --admin 127.0.0.1:8003
  retort models delete fashion-minst --all  the model with all its versions; asks first";

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
    /// Every model with the version that serves, or should.
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
    /// What is stored already, file and manifest, is not stored again, but activated.
    Publish {
        /// Its name in the service.
        model: String,
        /// Folder with model.onnx and manifest.json.
        artifact: PathBuf,
    },
    /// Deletes a version that is not active, or a model with all its versions.
    Delete(deletion::Deletion),
}

/// `retort models`.
pub(crate) async fn execute(arguments: ModelsArguments) -> Result<(), CliError> {
    let admin = Remote::admin(&arguments.admin).with(&arguments.credentials)?;
    match arguments.command {
        ModelsCommand::List => {
            let stored = versions(&admin, "").await?;
            Ok(print_versions(one_a_model(&stored))?)
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
        ModelsCommand::Delete(deletion) => deletion.execute(&admin).await,
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
    let messages = upload(model, onnx, manifest_json, IfStored::Activate);
    let mut client = publisher(admin).await?;
    let mut request = Request::new(tokio_stream::iter(messages));
    request.set_timeout(LOAD_DEADLINE);
    let response = client.publish(request).await.map_err(admin.refused())?;
    let response = response.into_inner();
    let version = response.version;
    if response.already_published {
        writeln!(
            Results,
            "{model}: version {version} serves; it was stored already"
        )?;
    } else {
        writeln!(Results, "{model}: version {version} serves")?;
    }
    for warning in &response.warnings {
        writeln!(Messages, "{model}: warning: {warning}");
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

/// Of each model the active version, or the newest one where none is active.
fn one_a_model(stored: &[ModelVersion]) -> impl Iterator<Item = &ModelVersion> {
    let models = stored.chunk_by(|one, next| one.model_name == next.model_name);
    models.filter_map(|versions| {
        let active = versions.iter().find(|version| version.active);
        active.or(versions.last())
    })
}

fn print_versions<'a>(
    versions: impl IntoIterator<Item = &'a ModelVersion>,
) -> Result<(), OutputError> {
    writeln!(
        Results,
        "{:<24} {:>7}  {:<11} {:>10}  {:<64}  REASON",
        "MODEL", "VERSION", "STATE", "BYTES", "SHA-256"
    )?;
    for version in versions {
        let line = format!(
            "{:<24} {:>7}  {:<11} {:>10}  {:<64}  {}",
            version.model_name,
            version.version,
            state(version),
            version.size,
            version.sha256,
            reason(version),
        );
        writeln!(Results, "{}", line.trim_end())?;
    }
    Ok(())
}

/// In one word. A service that does not say what its versions do leaves `state` empty.
fn state(version: &ModelVersion) -> &'static str {
    match (version.active, version.state.as_str()) {
        _ if version.damaged => "damaged",
        (true, "READY" | "") => "active",
        (false, "READY") => "ready",
        (_, "LOADING") => "loading",
        (true, _) if !has_failed(version) => "unloaded",
        (false, _) if !has_failed(version) => "stored",
        _ => "unavailable",
    }
}

/// Why the version does not answer although it should.
fn reason(version: &ModelVersion) -> &str {
    if has_failed(version) {
        &version.reason
    } else {
        ""
    }
}

/// Whether a version is unavailable for another reason than that nothing asks for it.
fn has_failed(version: &ModelVersion) -> bool {
    version.state == "UNAVAILABLE" && version.reason != NOT_LOADED
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

    #[test]
    fn a_version_is_called_by_what_it_does() {
        for (active, damaged, its_state, its_reason, expected, shown) in [
            (true, false, "READY", "", "active", ""),
            (false, false, "READY", "", "ready", ""),
            (true, false, "LOADING", "", "loading", ""),
            (true, false, "UNAVAILABLE", "disk", "unavailable", "disk"),
            (false, false, "UNAVAILABLE", "disk", "unavailable", "disk"),
            (true, false, "UNAVAILABLE", "not loaded", "unloaded", ""),
            (false, false, "UNAVAILABLE", "not loaded", "stored", ""),
            (false, true, "UNAVAILABLE", "not loaded", "damaged", ""),
            // Of a service that does not say it.
            (true, false, "", "", "active", ""),
            (false, false, "", "", "stored", ""),
        ] {
            let version = ModelVersion {
                active,
                damaged,
                state: its_state.to_owned(),
                reason: its_reason.to_owned(),
                ..ModelVersion::default()
            };
            assert_eq!((state(&version), reason(&version)), (expected, shown));
        }
    }

    #[test]
    fn every_model_is_listed_once() {
        let version = |model_name: &str, version, active| ModelVersion {
            model_name: model_name.to_owned(),
            version,
            active,
            ..ModelVersion::default()
        };
        let stored = [
            version("a", 1, false),
            version("a", 2, true),
            version("a", 3, false),
            version("b", 4, false),
            version("b", 5, false),
        ];
        let listed: Vec<_> = one_a_model(&stored).map(|one| one.version).collect();
        assert_eq!(listed, [2, 5]);
    }
}
