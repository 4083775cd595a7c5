//! Value parsers for numbers on the command line.

/// Parses a whole number of 1 or more.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "give a whole number of 1 or more".to_owned())
}

/// Parses a finite number above 0.
pub(crate) fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    let number = number.filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "give a number above 0".to_owned())
}
