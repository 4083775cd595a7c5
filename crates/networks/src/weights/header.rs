//! Checks of a safetensors header that the safetensors crate does not make.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// The first tensor name that occurs twice in the header of the safetensors file `bytes`. Readers of JSON
/// keep the last of two such entries. Returns `None` if `bytes` is not a safetensors file, too.
pub(super) fn duplicate(bytes: &[u8]) -> Option<String> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let Names { duplicate } = serde_json::from_slice(rest.get(..length)?).ok()?;
    duplicate
}

struct Names {
    duplicate: Option<String>,
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamesVisitor;

        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = Names;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let (mut seen, mut duplicate) = (BTreeSet::new(), None);
                while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
                    if !seen.insert(name.clone()) {
                        duplicate.get_or_insert(name);
                    }
                }
                Ok(Names { duplicate })
            }
        }

        deserializer.deserialize_map(NamesVisitor)
    }
}
