//! The name of a model, safe as a folder name.

use std::{fmt, str::FromStr};

const LONGEST: usize = 64;

/// 1 to 64 letters, digits, `-`, `_` and `.`, beginning with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(String);

/// A text that is no [`ModelName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a model name; allowed are 1 to {LONGEST} letters, digits, `-`, `_` and `.`, \
     beginning with a letter or a digit"
)]
pub struct InvalidModelName(String);

impl ModelName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`InvalidModelName`], which quotes at most 64 characters of it.
    pub fn new(name: &str) -> Result<Self, InvalidModelName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let starts_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
        if starts_well && name.len() <= LONGEST && name.bytes().all(allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidModelName(name.chars().take(LONGEST).collect()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelName {
    type Err = InvalidModelName;

    fn from_str(name: &str) -> Result<Self, InvalidModelName> {
        Self::new(name)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lets a map keyed by names be searched with a text from the wire, without an allocation.
impl std::borrow::Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}
