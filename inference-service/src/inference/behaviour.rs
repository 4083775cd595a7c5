//! Parameters of Triton's that ask for what the service does not do. A request that has one is refused:
//! its answer would not be what it asks for. Parameters that are not known are ignored, as in Triton, and
//! so is `priority`, which changes no answer.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::invalid;
use crate::error::InferenceError;

/// A parameter's value, as far as it tells whether something is asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    Switch(bool),
    Number(f64),
    Text(String),
    /// An array or an object, which no parameter is.
    Other,
}

/// Of a request as a whole.
pub(crate) const OF_REQUESTS: [&str; 3] = ["sequence_id", "sequence_start", "sequence_end"];

/// Of an input.
pub(crate) const OF_INPUTS: [&str; 1] = ["shared_memory_region"];

/// Of an output.
pub(crate) const OF_OUTPUTS: [&str; 2] = ["classification", "shared_memory_region"];

impl Asked {
    /// False for the values that clients send to say that they ask for nothing.
    fn is_something(&self) -> bool {
        match self {
            Self::Switch(on) => *on,
            Self::Number(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Other => true,
        }
    }
}

/// Checks the parameter `name`, one of the lists above, of what `owner` is the path, such as
/// `inputs[0].`; empty for the request.
///
/// # Errors
/// [`InferenceError::Invalid`] where it asks for something.
pub(crate) fn check(owner: &str, name: &str, asked: &Asked) -> Result<(), InferenceError> {
    if !asked.is_something() {
        return Ok(());
    }
    let problem = match name {
        "classification" => "logits are not ranked here; ask for them, or call Classify",
        "shared_memory_region" => "there is no shared memory; send and take the values",
        _ => "models have no sequences; leave it out",
    };
    Err(invalid(format!("{owner}parameters.{name}"), problem))
}

/// By hand: serde's untagged enums keep the whole of an array in memory before they refuse it.
impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AskedVisitor)
    }
}

struct AskedVisitor;

impl<'de> Visitor<'de> for AskedVisitor {
    type Value = Asked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a parameter")
    }

    fn visit_bool<E>(self, on: bool) -> Result<Asked, E> {
        Ok(Asked::Switch(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Asked, E> {
        Ok(Asked::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Asked, E> {
        Ok(Asked::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Asked, E> {
        Ok(Asked::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Asked, E> {
        Ok(Asked::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Asked, A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Asked::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Asked, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Asked::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_asks_for_something_is_refused() {
        for (json, something) in [
            ("false", false),
            ("0", false),
            ("\"\"", false),
            ("true", true),
            ("3", true),
            ("\"a\"", true),
            ("[1, {}]", true),
            ("{\"a\": []}", true),
        ] {
            let asked: Asked = serde_json::from_str(json).unwrap();
            assert_eq!(asked.is_something(), something, "{json}");
            let checked = check("inputs[1].", "shared_memory_region", &asked);
            assert_eq!(checked.is_err(), something, "{json}");
            if let Err(error) = checked {
                let begins = "inputs[1].parameters.shared_memory_region: ";
                assert!(error.to_string().starts_with(begins), "{error}");
            }
        }
    }
}
