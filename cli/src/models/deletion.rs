//! `retort models delete`: one version, or a model with all its versions.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use common::output::Results;
use proto::publish::v1::{DeleteModelRequest, DeleteVersionRequest, ModelVersion};

use crate::{
    CliError,
    client::Remote,
    inference::{publisher, versions, with_deadline},
};

/// The arguments of `retort models delete`.
#[derive(Debug, Args)]
pub(super) struct Deletion {
    /// Name of the model.
    model: String,
    /// Number of the version, which must not be active.
    #[arg(required_unless_present = "all")]
    version: Option<u64>,
    /// Delete the model with all its versions, including the active one. Asks for confirmation.
    #[arg(long, conflicts_with = "version")]
    all: bool,
    /// With --all: do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

impl Deletion {
    pub(super) async fn execute(self, admin: &Remote) -> Result<(), CliError> {
        match self.version {
            Some(version) => delete_version(admin, self.model, version).await,
            None => delete_model(admin, self.model, self.yes).await,
        }
    }
}

async fn delete_version(admin: &Remote, model: String, version: u64) -> Result<(), CliError> {
    let request = with_deadline(DeleteVersionRequest {
        model_name: model.clone(),
        version,
    });
    let deleted = publisher(admin).await?.delete_version(request).await;
    deleted.map_err(admin.refused())?;
    writeln!(Results, "{model}: version {version} is deleted")?;
    Ok(())
}

async fn delete_model(admin: &Remote, model: String, yes: bool) -> Result<(), CliError> {
    if !yes {
        if !io::stdin().is_terminal() {
            let problem = "a deletion is confirmed at a terminal; without one, give --yes";
            return Err(CliError::Usage(problem.to_owned()));
        }
        let stored = versions(admin, &model).await?;
        let question = question(&model, &stored);
        if !confirm(&question, &mut io::stdin().lock(), &mut io::stderr())? {
            return Err(CliError::Usage(format!("{model}: nothing is deleted")));
        }
    }
    let request = with_deadline(DeleteModelRequest {
        model_name: model.clone(),
    });
    let deleted = publisher(admin).await?.delete_model(request).await;
    let deleted = deleted.map_err(admin.refused())?.into_inner().versions;
    writeln!(Results, "{model}: deleted, {}", counted(deleted.len()))?;
    Ok(())
}

fn question(model: &str, stored: &[ModelVersion]) -> String {
    let serves = stored.iter().find(|version| version.active);
    let serves = serves.map_or_else(String::new, |version| {
        format!(", of which {} is active", version.version)
    });
    let versions = counted(stored.len());
    format!("Delete model `{model}`, {versions}{serves}? Nothing brings it back. [y/N] ")
}

fn counted(versions: usize) -> String {
    match versions {
        1 => "1 version".to_owned(),
        _ => format!("{versions} versions"),
    }
}

/// Whether the answer to `question` is yes; anything else is no.
fn confirm(
    question: &str,
    answers: &mut impl BufRead,
    asked: &mut impl Write,
) -> Result<bool, CliError> {
    let mut answer = String::new();
    write!(asked, "{question}")
        .and_then(|()| asked.flush())
        .and_then(|()| answers.read_line(&mut answer))
        .map_err(|error| CliError::Usage(format!("cannot ask at the terminal: {error}")))?;
    let answer = answer.trim().to_ascii_lowercase();
    Ok(matches!(answer.as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (answer, expected) in [
            ("y\n", true),
            ("Yes\n", true),
            ("", false),
            ("\n", false),
            ("n\n", false),
            ("yesterday\n", false),
        ] {
            let mut asked = Vec::new();
            let confirmed = confirm("sure? ", &mut answer.as_bytes(), &mut asked);
            assert_eq!(confirmed.unwrap(), expected, "{answer:?}");
            assert_eq!(asked, b"sure? ");
        }
    }

    #[test]
    fn the_question_says_what_would_be_lost() {
        let version = |version, active| ModelVersion {
            version,
            active,
            ..ModelVersion::default()
        };
        let question = question("m", &[version(1, false), version(2, true)]);
        assert!(
            question.contains("`m`, 2 versions, of which 2 is active"),
            "{question}"
        );
    }
}
