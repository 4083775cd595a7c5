//! Parses the `data` of a tensor in JSON: numbers in row-major order, flat or nested like the shape.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, SeqAccess, Visitor},
};

/// The values of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorData {
    /// In row-major order. Values beyond the range of f32 are infinite.
    pub(super) values: Vec<f32>,
    /// Lengths of the nested arrays, outermost first; one length for flat data.
    pub(super) nesting: Vec<usize>,
}

const DIFFERENT_DEPTHS: &str = "numbers are at different depths";

impl<'de> Deserialize<'de> for TensorData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut builder = Builder::default();
        let level = Level {
            builder: &mut builder,
            depth: 0,
        };
        // Recurses as deep as the JSON, which serde_json limits.
        level.deserialize(deserializer)?;
        if builder.lengths.is_empty() {
            return Err(de::Error::custom("expected an array of numbers"));
        }
        Ok(Self {
            values: builder.values,
            nesting: builder.lengths,
        })
    }
}

#[derive(Default)]
struct Builder {
    values: Vec<f32>,
    /// Length of the arrays by depth; all arrays of a depth must have the same length.
    lengths: Vec<usize>,
    /// Depth of the numbers.
    number_depth: Option<usize>,
}

/// An array or a number at `depth`.
struct Level<'b> {
    builder: &'b mut Builder,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or an array of numbers")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        let depth = *self.builder.number_depth.get_or_insert(self.depth);
        // Detects arrays beside numbers, including empty ones.
        if depth != self.depth || self.builder.lengths.len() > depth {
            return Err(E::custom(DIFFERENT_DEPTHS));
        }
        self.builder.values.push(value as f32);
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.visit_f64(value as f64)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.visit_f64(value as f64)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let Self { builder, depth } = self;
        if builder.number_depth == Some(depth) {
            return Err(de::Error::custom(DIFFERENT_DEPTHS));
        }
        if builder.lengths.len() == depth {
            // Reserves the entry of this depth before inner arrays add theirs.
            builder.lengths.push(usize::MAX);
        }
        let mut length = 0;
        loop {
            let inner = Level {
                builder: &mut *builder,
                depth: depth + 1,
            };
            if array.next_element_seed(inner)?.is_none() {
                break;
            }
            length += 1;
        }
        let known = &mut builder.lengths[depth];
        if *known == usize::MAX {
            *known = length;
        }
        if *known == length {
            Ok(())
        } else {
            Err(de::Error::custom(format!(
                "an array of {length} beside one of {known}"
            )))
        }
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<TensorData, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn flat_and_nested_data_hold_the_same_numbers() {
        let flat = parse("[1, -2, 3.5, 1e-3, 0, 7]").unwrap();
        let nested = parse("[[[1], [-2], [3.5]], [[1e-3], [0], [7]]]").unwrap();
        assert_eq!(flat.values, nested.values);
        assert_eq!(flat.values, [1.0, -2.0, 3.5, 1e-3, 0.0, 7.0]);
        assert_eq!(flat.nesting, [6]);
        assert_eq!(nested.nesting, [2, 3, 1]);
        assert_eq!(parse("[]").unwrap().nesting, [0]);
        assert_eq!(parse("[1e300]").unwrap().values, [f32::INFINITY]);
    }

    #[test]
    fn data_that_is_not_a_tensor_is_rejected() {
        for (json, expected) in [
            ("1", "expected an array"),
            ("[\"1\"]", "expected a number"),
            ("[true]", "expected a number"),
            ("[null]", "expected a number"),
            ("[{}]", "expected a number"),
            ("{}", "expected a number"),
            ("[[1, 2], [3]]", "an array of 1 beside one of 2"),
            ("[1, [2]]", "different depths"),
            ("[[1], 2]", "different depths"),
            ("[[], 2]", "different depths"),
            ("[1, []]", "different depths"),
            ("[[], [1]]", "an array of 1 beside one of 0"),
            ("[NaN]", "expected"),
        ] {
            let error = parse(json).expect_err(json);
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
