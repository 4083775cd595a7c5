//! Triton's request parameters that the service does not support.
//!
//! A request that uses one is rejected, because the response would not be what the caller expects. Unknown
//! parameters are ignored, as in Triton, and so is `priority`, which does not affect the response.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::invalid;
use crate::error::InferenceError;

/// The value of a parameter.
#[derive(Debug)]
pub(crate) enum ParameterValue {
    Bool(bool),
    Number(f64),
    Text(String),
    /// An array or an object; no parameter has such a value.
    Other,
}

/// Unsupported parameters of a request.
pub(crate) const OF_REQUESTS: [&str; 3] = ["sequence_id", "sequence_start", "sequence_end"];

/// Unsupported parameters of an input.
pub(crate) const OF_INPUTS: [&str; 1] = ["shared_memory_region"];

/// Unsupported parameters of a requested output.
pub(crate) const OF_OUTPUTS: [&str; 2] = ["classification", "shared_memory_region"];

impl ParameterValue {
    /// False for the default values, which some clients send explicitly.
    fn is_set(&self) -> bool {
        match self {
            Self::Bool(on) => *on,
            Self::Number(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Other => true,
        }
    }
}

/// Checks the parameter `name`, which is in one of the lists above. `owner` is the path of its owner, for
/// example `inputs[0].`, and empty for the request.
///
/// # Errors
/// [`InferenceError::Invalid`] if the parameter is set.
pub(crate) fn check(owner: &str, name: &str, value: &ParameterValue) -> Result<(), InferenceError> {
    if !value.is_set() {
        return Ok(());
    }
    let problem = match name {
        "classification" => "is not supported; request the logits, or call Classify",
        "shared_memory_region" => "shared memory is not supported; send the values in the message",
        _ => "sequences are not supported",
    };
    Err(invalid(format!("{owner}parameters.{name}"), problem))
}

/// By hand: serde's untagged enums buffer a whole array before they reject it.
impl<'de> Deserialize<'de> for ParameterValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParameterVisitor)
    }
}

struct ParameterVisitor;

impl<'de> Visitor<'de> for ParameterVisitor {
    type Value = ParameterValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a parameter")
    }

    fn visit_bool<E>(self, on: bool) -> Result<ParameterValue, E> {
        Ok(ParameterValue::Bool(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<ParameterValue, E> {
        Ok(ParameterValue::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<ParameterValue, E> {
        Ok(ParameterValue::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<ParameterValue, E> {
        Ok(ParameterValue::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<ParameterValue, E> {
        Ok(ParameterValue::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<ParameterValue, A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(ParameterValue::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<ParameterValue, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(ParameterValue::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_that_are_set_are_rejected() {
        for (json, is_set) in [
            ("false", false),
            ("0", false),
            ("\"\"", false),
            ("true", true),
            ("3", true),
            ("\"a\"", true),
            ("[1, {}]", true),
            ("{\"a\": []}", true),
        ] {
            let value: ParameterValue = serde_json::from_str(json).unwrap();
            assert_eq!(value.is_set(), is_set, "{json}");
            let checked = check("inputs[1].", "shared_memory_region", &value);
            assert_eq!(checked.is_err(), is_set, "{json}");
            if let Err(error) = checked {
                let begins = "inputs[1].parameters.shared_memory_region: ";
                assert!(error.to_string().starts_with(begins), "{error}");
            }
        }
    }
}
