//! JSON arrays of limited length. A longer array is rejected while it is parsed.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

/// Maximum number of inputs, outputs or dimensions.
const MAX_LENGTH: usize = 64;

/// A vector of at most [`MAX_LENGTH`] elements.
#[derive(Debug)]
pub(super) struct BoundedVec<T>(pub(super) Vec<T>);

impl<T> Default for BoundedVec<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for BoundedVec<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(LengthVisitor(PhantomData))
    }
}

struct LengthVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for LengthVisitor<T> {
    type Value = BoundedVec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {MAX_LENGTH}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<BoundedVec<T>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            if elements.len() == MAX_LENGTH {
                return Err(de::Error::custom(format!(
                    "more than {MAX_LENGTH} elements"
                )));
            }
            elements.push(element);
        }
        Ok(BoundedVec(elements))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_array_is_rejected() {
        let short: BoundedVec<i64> = serde_json::from_str("[1, 2]").unwrap();
        assert_eq!(short.0, [1, 2]);
        let long = serde_json::to_string(&vec![0; 65]).unwrap();
        let error = serde_json::from_str::<BoundedVec<i64>>(&long).unwrap_err();
        assert!(error.to_string().contains("more than 64"), "{error}");
    }
}
