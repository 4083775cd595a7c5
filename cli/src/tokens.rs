//! `retort tokens`: which tokens a service accepts.

use common::output::{Messages, Results};
use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::PathBuf};

use clap::{Args, Subcommand};
use server::security::{Scope, Token, tokens_file::Tokens};

use crate::CliError;

const EXAMPLES: &str = "\
Examples:
  retort tokens create --name ci --scope publish
  retort tokens create --name web --scope predict --tokens-file /etc/retort/tokens.toml > web.token
  retort tokens list
  retort tokens revoke ci

A service reads the file that its auth.tokens_file names, and notices when it changes. The file holds
hashes; a token is shown once, when it is created. Clients take it from --token-file, or from the
variables RETORT_TOKEN_FILE or RETORT_TOKEN.";

/// Creates, lists and revokes the tokens that a service accepts.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TokensArguments {
    /// The file that the service's auth.tokens_file names.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "tokens.toml",
        global = true
    )]
    tokens_file: PathBuf,
    #[command(subcommand)]
    command: TokensCommand,
}

#[derive(Debug, Subcommand)]
enum TokensCommand {
    /// Adds a token to the file, which is made if it is not there, and prints the token.
    Create {
        /// Whose it is, or what for; it stands in the service's log where a call is refused.
        #[arg(long)]
        name: String,
        /// What it allows; may be repeated.
        #[arg(long = "scope", value_enum, required = true)]
        scopes: Vec<Scope>,
    },
    /// Names and scopes of all tokens.
    List,
    /// Takes a token out of the file.
    Revoke {
        /// As listed.
        name: String,
    },
}

/// A token would be lost in /dev/null, which is also what a program has that was started with its
/// standard output closed.
fn refuse_null_output() -> Result<(), CliError> {
    let device = |path: &str| fs::metadata(path).map(|file| file.rdev()).ok();
    let output = device("/dev/stdout");
    if output.is_some() && output == device("/dev/null") {
        return Err(CliError::Usage(
            "standard output is closed or /dev/null, where the token would be lost; send it to a file"
                .to_owned(),
        ));
    }
    Ok(())
}

/// `retort tokens`.
pub(crate) fn execute(arguments: TokensArguments) -> Result<(), CliError> {
    let file = &arguments.tokens_file;
    match arguments.command {
        TokensCommand::Create { name, scopes } => {
            let scopes = BTreeSet::from_iter(scopes);
            refuse_null_output()?;
            // Alone on standard output, so that it can be sent to a file.
            let show = |token: &Token| Ok::<_, CliError>(writeln!(Results, "{}", token.reveal())?);
            Tokens::create(file, &name, scopes, show)?;
            writeln!(
                Messages,
                "token `{name}` is in {}, as a hash: this is the only time that it is shown",
                file.display()
            );
        }
        TokensCommand::List => {
            writeln!(Results, "{:<24} SCOPES", "TOKEN")?;
            for entry in Tokens::load(file)?.iter() {
                let scopes: Vec<_> = entry.scopes.iter().map(ToString::to_string).collect();
                writeln!(Results, "{:<24} {}", entry.name, scopes.join(", "))?;
            }
        }
        TokensCommand::Revoke { name } => {
            Tokens::revoke(file, &name)?;
            writeln!(Results, "token `{name}` is revoked")?;
        }
    }
    Ok(())
}
