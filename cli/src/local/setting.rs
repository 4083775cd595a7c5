//! Arguments that set keys of a service's configuration.

/// The argument `--set=key=value`; a value that is not a number becomes a TOML string.
pub(super) fn set(key: &str, value: impl ToString) -> String {
    let value = value.to_string();
    let quoted = match value.parse::<i64>() {
        Ok(_) => value,
        Err(_) => toml::Value::String(value).to_string(),
    };
    format!("--set={key}={quoted}")
}
