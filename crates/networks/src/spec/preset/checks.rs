//! Checks of a preset's keys.

use crate::{Problem, SpecError, limits};

/// Checks that a preset's list has one number per stage, each from 1 to `most`.
pub(super) fn check_list(
    key: &str,
    list: &[usize],
    stages: usize,
    most: usize,
) -> Result<(), SpecError> {
    if list.is_empty() || list.len() > limits::STAGES || list.len() != stages {
        let allowed = match key {
            "widths" => format!("1 to {} numbers", limits::STAGES),
            _ => format!("{stages} numbers, one for each of `widths`"),
        };
        return refuse(key, format!("{} numbers", list.len()), &allowed);
    }
    let problems: Vec<_> = list
        .iter()
        .enumerate()
        .filter(|(_, value)| !(1..=most).contains(*value))
        .map(|(i, value)| Problem::Value {
            place: format!("{key}[{i}]"),
            value: value.to_string(),
            allowed: format!("1 to {most}"),
        })
        .collect();
    SpecError::unless_empty(problems)
}

pub(super) fn check_dropout(rate: f64) -> Result<(), SpecError> {
    if (0.0..1.0).contains(&rate) {
        return Ok(());
    }
    refuse("dropout", rate.to_string(), "0 or more, less than 1")
}

/// Checks a width or depth multiplier.
pub(super) fn check_multiplier(key: &str, multiplier: f64) -> Result<(), SpecError> {
    if multiplier > 0.0 && multiplier <= limits::MULTIPLIER {
        return Ok(());
    }
    let allowed = format!("more than 0, at most {}", limits::MULTIPLIER);
    refuse(key, multiplier.to_string(), &allowed)
}

fn refuse(key: &str, value: String, allowed: &str) -> Result<(), SpecError> {
    Err(Problem::Value {
        place: key.to_owned(),
        value,
        allowed: allowed.to_owned(),
    }
    .into())
}
