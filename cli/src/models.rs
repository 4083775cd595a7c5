//! `retort models`: the models of an inference service and their versions.

mod deletion;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use artifacts::manifest::ArtifactManifest;
use bytes::Bytes;
use clap::{Args, Subcommand};
use common::{
    os_text,
    output::{Messages, OutputError, Results},
};
use model_signing::{SIGNATURE_FILE, SigningKey};
use proto::publish::v1::{
    ActivateVersionRequest, ModelVersion, PublishRequest, PublishResponse, Trial, TrialState,
};
use server::{
    security::client::CredentialArguments,
    upload::{self, IfStored, LOAD_DEADLINE, ModelUpload},
};
use tonic::Request;

use crate::{
    CliError,
    client::Remote,
    inference::{publisher, versions},
};

/// The service's reason for a version that no configuration asks to load.
const NOT_LOADED: &str = "not loaded";

const EXAMPLES: &str = "\
Examples:
  retort models list
  retort models versions fashion-mnist
  retort models activate fashion-mnist 2
  retort models rollback fashion-mnist      back to the version before the active one
  retort models publish fashion-mnist runs/student/artifact --signing-key key.pem
  retort models publish fashion-mnist runs/student/artifact --canary 10%
  retort models delete fashion-mnist 1 --admin 127.0.0.1:8003
  retort models delete fashion-minst --all  the model with all its versions; asks first";

/// List the models of an inference service, publish, activate and delete versions.
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
    /// List every model with its active version, and the canary beside it.
    List,
    /// List every stored version of a model.
    Versions {
        /// The model's name.
        model: String,
    },
    /// Make a stored version the active one.
    Activate {
        /// The model's name.
        model: String,
        /// The version's number.
        version: u64,
    },
    /// Activate the newest version that is older than the active one.
    Rollback {
        /// The model's name.
        model: String,
    },
    /// Upload a model and activate it, as a run does at its end, for example after the run's upload
    /// failed. A version that is stored already is only activated.
    Publish {
        /// The model's name in the service.
        model: String,
        /// Folder with model.onnx, manifest.json and, if the model is signed, model.sig.
        artifact: PathBuf,
        /// Share of the requests that the version answers on trial, beside the version that serves: 10% or 0.1, at
        /// most 50%. The service promotes it or rolls it back by its rule ([canary] of its configuration). 0%: it
        /// serves at once. By default, the service decides (canary.share).
        #[arg(long, value_name = "SHARE", value_parser = share)]
        canary: Option<f64>,
        /// File with a private key (PEM): signs the files of the folder first, and writes model.sig there.
        #[arg(long, value_name = "FILE")]
        signing_key: Option<PathBuf>,
    },
    /// Delete a version that is not active, or a model with all its versions.
    Delete(deletion::Deletion),
}

/// `retort models`.
pub(crate) async fn execute(arguments: ModelsArguments) -> Result<(), CliError> {
    let admin = Remote::admin(&arguments.admin).with(&arguments.credentials)?;
    match arguments.command {
        ModelsCommand::List => {
            let stored = versions(&admin, "").await?;
            Ok(print_versions(serving(&stored))?)
        }
        ModelsCommand::Versions { model } => Ok(print_versions(&versions(&admin, &model).await?)?),
        ModelsCommand::Activate { model, version } => activate(&admin, &model, version).await,
        ModelsCommand::Rollback { model } => {
            let stored = versions(&admin, &model).await?;
            let version = version_before(&stored).ok_or_else(|| {
                CliError::Usage(format!(
                    "model `{model}` has no usable version older than the active one; see \
                     `retort models versions {model}`"
                ))
            })?;
            activate(&admin, &model, version).await
        }
        ModelsCommand::Publish {
            model,
            artifact,
            canary,
            signing_key,
        } => {
            if let Some(file) = signing_key {
                model_signing::sign_folder(&artifact, &SigningKey::read(&file)?)?;
            }
            publish(&admin, &model, &artifact, canary).await
        }
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

async fn publish(
    admin: &Remote,
    model: &str,
    artifact: &Path,
    canary: Option<f64>,
) -> Result<(), CliError> {
    let files = read_artifact(artifact)?;
    let response = match canary {
        None => send(admin, upload::upload(model, files, IfStored::Activate)).await?,
        Some(share) => send(admin, upload::upload_canary(model, files, share)).await?,
    };
    let version = response.version;
    if response.canary {
        writeln!(
            Results,
            "{model}: version {version} is a canary; version {} serves",
            response.active_version
        )?;
    } else if response.already_published {
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

/// Uploads the model.onnx, the manifest.json and the signature, if there is one, in the folder `artifact`.
pub(crate) async fn upload_artifact(
    admin: &Remote,
    model: &str,
    artifact: &Path,
    if_stored: IfStored,
) -> Result<PublishResponse, CliError> {
    let files = read_artifact(artifact)?;
    send(admin, upload::upload(model, files, if_stored)).await
}

/// The model.onnx, the manifest.json and the signature, if there is one, in the folder `artifact`.
fn read_artifact(artifact: &Path) -> Result<ModelUpload, CliError> {
    let read = |name: &str| {
        let path = artifact.join(name);
        fs::read(&path)
            .map(Bytes::from)
            .map_err(|error| CliError::File { path, error })
    };
    let files = ModelUpload {
        onnx: read("model.onnx")?,
        manifest_json: read("manifest.json")?,
        signature: match read(SIGNATURE_FILE) {
            Err(CliError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                Bytes::new()
            }
            signature => signature?,
        },
    };
    // The service would reject it only after the upload.
    ArtifactManifest::from_json(&files.manifest_json)?;
    Ok(files)
}

async fn send(
    admin: &Remote,
    messages: impl Iterator<Item = PublishRequest> + Send + 'static,
) -> Result<PublishResponse, CliError> {
    let mut client = publisher(admin).await?;
    let published = upload::publish(&mut client, messages).await;
    published.map_err(admin.refused())
}

/// A share of the requests: `10%` or `0.1`.
fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let share = number
        .trim()
        .parse::<f64>()
        .ok()
        .map(|number| number / unit);
    let share = share.filter(|share| (0.0..=0.5).contains(share));
    share.ok_or_else(|| "expected a share from 0% to 50%, such as 10% or 0.1".to_owned())
}

/// The newest usable version below the active one.
fn version_before(stored: &[ModelVersion]) -> Option<u64> {
    let active = stored.iter().find(|version| version.active)?.version;
    let usable = stored.iter().filter(|version| !version.damaged);
    let versions = usable.map(|version| version.version);
    versions.filter(|version| *version < active).max()
}

/// The active version of each model, or the newest one if no version is active, and the canary on trial beside it.
fn serving(stored: &[ModelVersion]) -> impl Iterator<Item = &ModelVersion> {
    let models = stored.chunk_by(|one, next| one.model_name == next.model_name);
    models.flat_map(|versions| {
        let active = versions.iter().find(|version| version.active);
        let canary = versions.iter().filter(|version| is_on_trial(version));
        let first = active.or(versions.last());
        let canary =
            canary.filter(move |canary| first.is_none_or(|first| first.version != canary.version));
        first.into_iter().chain(canary)
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

/// The state in one word. An older service leaves `state` empty.
fn state(version: &ModelVersion) -> &'static str {
    match (version.active, version.state.as_str()) {
        _ if version.damaged => "damaged",
        (true, "READY" | "") => "active",
        (false, _) if is_on_trial(version) => "canary",
        (false, "READY") => "ready",
        (_, "LOADING") => "loading",
        (true, _) if !has_failed(version) => "unloaded",
        (false, _) if !has_failed(version) => "stored",
        _ => "unavailable",
    }
}

/// Why the version is unavailable although it should answer, or how its trial as a canary goes or went.
fn reason(version: &ModelVersion) -> String {
    if has_failed(version) {
        return version.reason.clone();
    }
    version.trial.as_ref().map(described).unwrap_or_default()
}

/// Whether the version answers a share of the requests. The service notes the end of a trial a little later than it
/// unloads the canary.
fn is_on_trial(version: &ModelVersion) -> bool {
    let trial = version.trial.as_ref();
    version.state == "READY" && trial.is_some_and(|trial| trial.state() == TrialState::Running)
}

fn described(trial: &Trial) -> String {
    let reason = &trial.reason;
    match trial.state() {
        TrialState::Unspecified => String::new(),
        TrialState::Running => format!(
            "{}% of the requests: answered {}, agreed for {} of {} compared samples",
            // Without the digits that a share such as 0.07 gets from binary numbers.
            (trial.share * 1e6).round() / 1e4,
            trial.canary_requests,
            trial.agreeing_samples,
            trial.compared_samples,
        ),
        TrialState::Promoted => format!("promoted: {reason}"),
        TrialState::RolledBack => format!("rolled back: {reason}"),
        TrialState::Withdrawn => format!("withdrawn: {reason}"),
    }
}

/// Whether a version should be loaded and is not.
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
        // A roll-back skips damaged versions, and is possible from one.
        let mut damaged = stored(7);
        for version in &mut damaged[2..] {
            version.damaged = true;
        }
        assert_eq!(version_before(&damaged), Some(2));
    }

    #[test]
    fn every_state_has_one_word() {
        for (active, damaged, reported_state, reported_reason, expected, shown) in [
            (true, false, "READY", "", "active", ""),
            (false, false, "READY", "", "ready", ""),
            (true, false, "LOADING", "", "loading", ""),
            (true, false, "UNAVAILABLE", "disk", "unavailable", "disk"),
            (false, false, "UNAVAILABLE", "disk", "unavailable", "disk"),
            (true, false, "UNAVAILABLE", "not loaded", "unloaded", ""),
            (false, false, "UNAVAILABLE", "not loaded", "stored", ""),
            (false, true, "UNAVAILABLE", "not loaded", "damaged", ""),
            // An older service.
            (true, false, "", "", "active", ""),
            (false, false, "", "", "stored", ""),
        ] {
            let version = ModelVersion {
                active,
                damaged,
                state: reported_state.to_owned(),
                reason: reported_reason.to_owned(),
                ..ModelVersion::default()
            };
            assert_eq!(state(&version), expected);
            assert_eq!(reason(&version), shown);
        }
    }

    #[test]
    fn a_trial_is_shown_while_it_runs_and_after_its_end() {
        for (trial_state, expected, shown) in [
            (
                TrialState::Running,
                "canary",
                "7% of the requests: answered 9, agreed for 3 of 4 compared samples",
            ),
            (TrialState::RolledBack, "ready", "rolled back: slow"),
            (TrialState::Withdrawn, "ready", "withdrawn: slow"),
            (TrialState::Promoted, "ready", "promoted: slow"),
        ] {
            let trial = Trial {
                state: trial_state.into(),
                share: 0.07,
                canary_requests: 9,
                compared_samples: 4,
                agreeing_samples: 3,
                reason: "slow".to_owned(),
                ..Trial::default()
            };
            let version = ModelVersion {
                state: "READY".to_owned(),
                trial: Some(trial),
                ..ModelVersion::default()
            };
            assert_eq!(state(&version), expected);
            assert_eq!(reason(&version), shown);
        }
    }

    #[test]
    fn a_share_is_a_percentage_or_a_fraction_up_to_a_half() {
        for (text, expected) in [("10%", 0.1), ("0.25", 0.25), ("50%", 0.5), ("0%", 0.0)] {
            assert_eq!(share(text), Ok(expected), "{text}");
        }
        for text in ["", "%", "51%", "-1%", "10", "nan", "1/2"] {
            assert!(share(text).is_err(), "{text}");
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
        let listed: Vec<_> = serving(&stored).map(|one| one.version).collect();
        assert_eq!(listed, [2, 5]);
        let mut with_canary = stored;
        with_canary[2].state = "READY".to_owned();
        with_canary[2].trial = Some(Trial {
            state: TrialState::Running.into(),
            ..Trial::default()
        });
        let listed: Vec<_> = serving(&with_canary).map(|one| one.version).collect();
        assert_eq!(listed, [2, 3, 5]);
    }
}
