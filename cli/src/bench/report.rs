//! Prints figures for users and programs.

use common::output::Results;
use std::fmt;

use serde::Serialize;

use crate::CliError;

/// Prints `figures` as a table or as one JSON object.
pub(super) fn print<T: Serialize + fmt::Display>(figures: &T, json: bool) -> Result<(), CliError> {
    if json {
        // Cannot fail: every key is a string or a number.
        let text = serde_json::to_string_pretty(figures).unwrap_or_default();
        writeln!(Results, "{text}")?;
    } else {
        writeln!(Results, "{figures}")?;
    }
    Ok(())
}
