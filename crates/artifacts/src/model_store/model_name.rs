//! Names of models, which are safe as folder names.

use std::{fmt, str::FromStr};

const LONGEST: usize = 64;

/// A name of 1 to 64 letters, digits, `-`, `_` and `.` that begins with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(String);

/// The text is not a valid [`ModelName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a model name; a name has 1 to {LONGEST} letters, digits, `-`, `_` and `.`, and begins \
     with a letter or a digit"
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

    /// The name as text.
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

/// Allows lookups in maps by text without an allocation.
impl std::borrow::Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}
