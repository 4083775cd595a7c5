//! Reading a body as JSON: what is wrong with it is said by field and in a few words.

use serde::Deserialize;

use super::{error::HttpError, json_limits::check_depth};
use crate::{error::ServiceError, inference::invalid};

/// Parses the whole of `json`.
///
/// # Errors
/// [`HttpError::Malformed`] for what is no JSON or nests too deep, else the field that cannot be used.
pub(super) fn parse<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Result<T, ServiceError> {
    check_depth(json).map_err(|error| HttpError::Malformed(error.to_string()))?;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let parsed = serde_path_to_error::deserialize(&mut deserializer);
    let parsed = parsed.map_err(|error| json_error(&error))?;
    deserializer
        .end()
        .map_err(|error| HttpError::Malformed(format!("the JSON goes on: {error}")))?;
    Ok(parsed)
}

fn json_error(error: &serde_path_to_error::Error<serde_json::Error>) -> ServiceError {
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
    HttpError::Malformed(format!("the body is not JSON: {problem}")).into()
}

/// serde repeats what it found, however long it is.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
