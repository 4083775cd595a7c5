//! Prints figures for users and for programs.

use std::fmt;

use common::output::Results;
use serde::Serialize;

/// Prints `figures` as a table or as one JSON object.
pub(crate) fn print<T: Serialize + fmt::Display>(figures: &T, json: bool) -> anyhow::Result<()> {
    if json {
        writeln!(Results, "{}", serde_json::to_string_pretty(figures)?)?;
    } else {
        writeln!(Results, "{figures}")?;
    }
    Ok(())
}
