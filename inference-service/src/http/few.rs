//! JSON arrays that hold a few elements: a longer one is refused while it is read, not after.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

/// Inputs, outputs or dimensions; no request needs more.
const MOST: usize = 64;

/// At most [`MOST`] elements.
#[derive(Debug)]
pub(super) struct Few<T>(pub(super) Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FewVisitor(PhantomData))
    }
}

struct FewVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FewVisitor<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {MOST}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Few<T>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            if elements.len() == MOST {
                return Err(de::Error::custom(format!("more than {MOST} elements")));
            }
            elements.push(element);
        }
        Ok(Few(elements))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_array_is_refused() {
        let few: Few<i64> = serde_json::from_str("[1, 2]").unwrap();
        assert_eq!(few.0, [1, 2]);
        let long = serde_json::to_string(&vec![0; 65]).unwrap();
        let error = serde_json::from_str::<Few<i64>>(&long).unwrap_err();
        assert!(error.to_string().contains("more than 64"), "{error}");
    }
}
