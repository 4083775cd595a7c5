//! How figures reach people and programs.

use std::fmt;

use serde::Serialize;

use crate::CliError;

/// Prints `figures`, as a table or as one JSON object.
pub(super) fn print<T: Serialize + fmt::Display>(figures: &T, json: bool) -> Result<(), CliError> {
    match json {
        // Holds: every key is a string or a number.
        true => println!(
            "{}",
            serde_json::to_string_pretty(figures).unwrap_or_default()
        ),
        false => println!("{figures}"),
    }
    Ok(())
}
