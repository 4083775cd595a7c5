//! The file with the tokens that a service accepts: their names, scopes and hashes.
//!
//! ```toml
//! format_version = 1
//!
//! [[tokens]]
//! name = "ci"
//! scopes = ["publish"]
//! sha256 = "…"
//! ```
//!
//! The file does not contain the tokens, and a SHA-256 does not reveal one: see [`Token`].

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{Scope, Token};
use common::{atomic_file, digest::Sha256};

const FORMAT_VERSION: u32 = 1;
const LONGEST_NAME: usize = 64;
const HEADER: &str = "\
# Tokens that a Retort service accepts, made by `retort tokens create`. The tokens themselves are not
# here, only their SHA-256. Delete an entry, or `retort tokens revoke NAME`, to revoke a token: a
# running service notices.
";

/// The tokens that a service accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens(Vec<TokenEntry>);

/// One token of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// Its owner or purpose, for logs.
    pub name: String,
    /// Its permissions.
    pub scopes: BTreeSet<Scope>,
    /// The digest of the token's text.
    pub sha256: Sha256,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensFile {
    format_version: u32,
    #[serde(default)]
    tokens: Vec<TokenEntry>,
}

/// Why a tokens file cannot be used or changed; the text names the file.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file cannot be read.
    #[error("cannot read the tokens file {}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The file is not TOML, or has another structure.
    #[error("the tokens file {} is invalid: {reason}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The line and the problem.
        reason: String,
    },
    /// No token has that name.
    #[error("no token `{name}` in {}", file.display())]
    Unknown {
        /// The file.
        file: PathBuf,
        /// The name.
        name: String,
    },
    /// The name is invalid or in use.
    #[error("`{name}` cannot name a token in {}: {reason}", file.display())]
    Name {
        /// The file.
        file: PathBuf,
        /// The name.
        name: String,
        /// The cause.
        reason: &'static str,
    },
    /// The file cannot be written; the error names it.
    #[error(transparent)]
    Write(io::Error),
}

impl Tokens {
    /// Reads the tokens file at `path`.
    ///
    /// # Errors
    /// If the file is missing or invalid, or a newer Retort wrote it.
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        let text = fs::read_to_string(path).map_err(|error| TokensError::Unreadable {
            file: path.to_owned(),
            error,
        })?;
        let invalid = |reason: String| TokensError::Invalid {
            file: path.to_owned(),
            reason,
        };
        let file: TokensFile = toml::from_str(&text).map_err(|error| {
            let line = error
                .span()
                .map_or(1, |span| text[..span.start].lines().count().max(1));
            invalid(format!("line {line}: {}", error.message()))
        })?;
        if file.format_version != FORMAT_VERSION {
            return Err(invalid(format!(
                "format_version is {}, this Retort reads {FORMAT_VERSION}",
                file.format_version
            )));
        }
        let mut tokens = Self::default();
        for entry in file.tokens {
            if entry.scopes.is_empty() {
                return Err(invalid(format!("token `{}` has no scope", entry.name)));
            }
            tokens.push(path, entry)?;
        }
        Ok(tokens)
    }

    /// All tokens, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &TokenEntry> {
        self.0.iter()
    }

    /// Finds the token with the text `text`. Takes the same time for every text.
    pub fn find(&self, text: &str) -> Option<&TokenEntry> {
        let shown = Sha256::of(text.as_bytes());
        let mut found = None;
        for entry in &self.0 {
            let known = entry.sha256.as_str().as_bytes();
            if bool::from(known.ct_eq(shown.as_str().as_bytes())) {
                found = Some(entry);
            }
        }
        found
    }

    /// Adds a new token to the file at `path`, or creates the file. `show` shows the token to its user before
    /// the file is written: a token that was never shown is never valid.
    ///
    /// # Errors
    /// If the name is invalid or in use, or the file cannot be read or written; the errors of `show`.
    pub fn create<E: From<TokensError>>(
        path: &Path,
        name: &str,
        scopes: BTreeSet<Scope>,
        show: impl FnOnce(&Token) -> Result<(), E>,
    ) -> Result<Token, E> {
        let mut tokens = match Self::load(path) {
            Err(TokensError::Unreadable { error, .. })
                if error.kind() == io::ErrorKind::NotFound =>
            {
                Self::default()
            }
            loaded => loaded?,
        };
        let token = Token::generate().map_err(|error| {
            let reason = format!("the operating system provides no random numbers: {error}");
            TokensError::Write(io::Error::other(reason))
        })?;
        let entry = TokenEntry {
            name: name.to_owned(),
            scopes,
            sha256: token.sha256(),
        };
        tokens.push(path, entry)?;
        show(&token)?;
        tokens.write(path)?;
        Ok(token)
    }

    /// Removes the token `name` from the file at `path`.
    ///
    /// # Errors
    /// If there is no such token, or the file cannot be read or written.
    pub fn revoke(path: &Path, name: &str) -> Result<(), TokensError> {
        let mut tokens = Self::load(path)?;
        let before = tokens.0.len();
        tokens.0.retain(|entry| entry.name != name);
        if tokens.0.len() == before {
            return Err(TokensError::Unknown {
                file: path.to_owned(),
                name: name.to_owned(),
            });
        }
        tokens.write(path)
    }

    fn push(&mut self, path: &Path, entry: TokenEntry) -> Result<(), TokensError> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fits =
            (1..=LONGEST_NAME).contains(&entry.name.len()) && entry.name.chars().all(is_allowed);
        let reason = if !fits {
            "use up to 64 letters, digits, `-`, `_` and `.`"
        } else if self.0.iter().any(|known| known.name == entry.name) {
            "the name is in use"
        } else {
            self.0.push(entry);
            return Ok(());
        };
        Err(TokensError::Name {
            file: path.to_owned(),
            name: entry.name,
            reason,
        })
    }

    fn write(&self, path: &Path) -> Result<(), TokensError> {
        let file = TokensFile {
            format_version: FORMAT_VERSION,
            tokens: self.0.clone(),
        };
        // Holds: names, scopes and digests are plain text.
        let text = toml::to_string(&file).expect("tokens are TOML");
        atomic_file::write(path, format!("{HEADER}{text}").as_bytes()).map_err(TokensError::Write)
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn create(path: &Path, name: &str, scope: Scope) -> Result<Token, TokensError> {
        Tokens::create(path, name, BTreeSet::from([scope]), |_| Ok(()))
    }

    #[test]
    fn a_token_is_created_found_and_revoked_and_its_text_is_not_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let ci = create(&path, "ci", Scope::Publish).unwrap();
        let web = create(&path, "web", Scope::Predict).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for token in [&ci, &web] {
            assert!(!text.contains(token.reveal()), "{text}");
        }
        let tokens = Tokens::load(&path).unwrap();
        let found = tokens.find(web.reveal()).unwrap();
        assert_eq!(found.name, "web");
        assert_eq!(found.scopes, BTreeSet::from([Scope::Predict]));
        assert_eq!(tokens.find(&format!("{} ", web.reveal())), None);

        Tokens::revoke(&path, "web").unwrap();
        let tokens = Tokens::load(&path).unwrap();
        assert_eq!(tokens.find(web.reveal()), None);
        assert!(tokens.find(ci.reveal()).is_some());
        let error = Tokens::revoke(&path, "web").unwrap_err().to_string();
        assert!(error.contains("no token `web`"), "{error}");
    }

    #[test]
    fn a_token_that_could_not_be_shown_is_not_stored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let refused = || TokensError::Write(io::Error::other("no screen"));
        let scopes = BTreeSet::from([Scope::Admin]);
        let created = Tokens::create(&path, "ci", scopes, |_| Err(refused()));
        assert!(matches!(created, Err(TokensError::Write(_))));
        assert!(!path.exists());
    }

    #[test]
    fn names_are_used_once_and_fit_a_log_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        create(&path, "ci", Scope::Admin).unwrap();
        for bad in ["ci", "", "a b", "a\nb", "ä", &"x".repeat(65)] {
            let error = create(&path, bad, Scope::Admin).unwrap_err();
            assert!(matches!(error, TokensError::Name { .. }), "{error}");
        }
        assert_eq!(Tokens::load(&path).unwrap().iter().count(), 1);
    }

    #[test]
    fn an_invalid_file_is_reported_with_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let digest = "0".repeat(64);
        for (text, expected) in [
            ("tokens = 1", "line 1"),
            ("format_version = 2", "format_version is 2"),
            ("format_version = 1\nusers = []", "unknown field `users`"),
            (
                "format_version = 1\n[[tokens]]\nname = \"a\"\nscopes = [\"root\"]\nsha256 = \"\"",
                "line 4",
            ),
            (
                "format_version = 1\n[[tokens]]\nname = \"a\"\nscopes = []\nsha256 = \"DIGEST\"",
                "no scope",
            ),
        ] {
            fs::write(&path, text.replace("DIGEST", &digest)).unwrap();
            let error = Tokens::load(&path).unwrap_err().to_string();
            assert!(
                error.contains("tokens.toml") && error.contains(expected),
                "{error}"
            );
        }
        fs::remove_file(&path).unwrap();
        let error = Tokens::load(&path).unwrap_err().to_string();
        assert!(error.contains("tokens.toml"), "{error}");
    }
}
