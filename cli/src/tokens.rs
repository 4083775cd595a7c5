//! `retort tokens`: the tokens that a service accepts.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::PathBuf};

use clap::{Args, Subcommand};
use common::output::{Messages, Results};
use server::security::{Scope, Token, tokens_file::Tokens};

use crate::CliError;

const EXAMPLES: &str = "\
Examples:
  retort tokens create --name ci --scope publish
  retort tokens create --name web --scope predict --tokens-file /etc/retort/tokens.toml > web.token
  retort tokens list
  retort tokens revoke ci

A service reads the file that its key auth.tokens_file names, and reloads it when it changes. The file
contains hashes; a token is printed once, when it is created. Clients read their token from --token-file,
RETORT_TOKEN_FILE or RETORT_TOKEN.";

/// Create, list and revoke the tokens that a service accepts.
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
    /// Add a token to the file, which is created if necessary, and print the token.
    Create {
        /// Owner or purpose of the token. The service logs the name when it rejects a call.
        #[arg(long)]
        name: String,
        /// What the token permits; may be repeated.
        #[arg(long = "scope", value_enum, required = true)]
        scopes: Vec<Scope>,
    },
    /// List the names and scopes of all tokens.
    List,
    /// Remove a token from the file.
    Revoke {
        /// The token's name.
        name: String,
    },
}

/// Rejects /dev/null as standard output, because the token would be lost. A program that was started
/// without standard output has /dev/null, too.
fn refuse_null_output() -> Result<(), CliError> {
    let device = |path: &str| fs::metadata(path).map(|file| file.rdev()).ok();
    let output = device("/dev/stdout");
    if output.is_some() && output == device("/dev/null") {
        return Err(CliError::Usage(
            "standard output is closed or /dev/null, so the token would be lost; redirect it to a file"
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
            // Only the token goes to standard output, so that it can be redirected to a file.
            let show = |token: &Token| Ok::<_, CliError>(writeln!(Results, "{}", token.reveal())?);
            Tokens::create(file, &name, scopes, show)?;
            writeln!(
                Messages,
                "token `{name}` is stored in {} as a hash; it is not shown again",
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
