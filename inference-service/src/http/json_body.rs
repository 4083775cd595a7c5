//! Parses JSON bodies; errors name the field.

use common::text;
use serde::Deserialize;

use super::error::HttpError;
use crate::inference::invalid;

/// Parses `json`. serde_json limits the nesting to 128 levels; it skips unknown fields without recursion.
///
/// # Errors
/// [`HttpError::Malformed`] if `json` is not JSON or nests too deeply, otherwise the invalid field.
pub(super) fn parse<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Result<T, HttpError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let parsed = serde_path_to_error::deserialize(&mut deserializer);
    let parsed = parsed.map_err(|error| json_error(&error))?;
    deserializer.end().map_err(|error| {
        HttpError::Malformed(format!("the body has data after the JSON: {error}"))
    })?;
    Ok(parsed)
}

fn json_error(error: &serde_path_to_error::Error<serde_json::Error>) -> HttpError {
    let problem = shorten(&error.inner().to_string());
    let path = error.path().to_string();
    if error.inner().is_data() {
        let field = if path == "." {
            "request".to_owned()
        } else {
            shorten(&path)
        };
        return invalid(field, problem).into();
    }
    HttpError::Malformed(format!("the body is not JSON: {problem}"))
}

/// Truncates a message of serde, which may quote a long value.
pub(super) fn shorten(message: &str) -> String {
    const LONGEST: usize = 200;
    text::shorten(message, LONGEST)
}
