//! Deserializes types from a configuration tree. The type decides how text that a user typed is read.

use serde::{
    Deserializer,
    de::{
        Error as _, IntoDeserializer, Unexpected, Visitor,
        value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Value};

use super::tree::Node;

const NOT_FINITE: &str = "no key takes nan or an infinity; give a finite number, or remove the key";

impl Node {
    /// The node as the value of a text key.
    fn into_text(self) -> Self {
        match self {
            Self::Typed(typed) => Self::Scalar(Value::String(typed.into_text())),
            other => other,
        }
    }
}

impl IntoDeserializer<'_, Error> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Node {
    type Error = Error;

    /// Also serves types that serde buffers before it knows the variant, such as `"auto"` or a number.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Typed(typed) => typed.into_toml().deserialize_any(visitor),
            Self::Scalar(value) => value.deserialize_any(visitor),
            Self::NotFinite(_) => Err(Error::custom(NOT_FINITE)),
            Self::List(items) => {
                let mut items = SeqDeserializer::new(items.into_iter());
                let value = visitor.visit_seq(&mut items)?;
                items.end().map(|()| value)
            }
            Self::Table(table) => {
                let mut entries = MapDeserializer::new(table.into_iter());
                let value = visitor.visit_map(&mut entries)?;
                entries.end().map(|()| value)
            }
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.into_text().deserialize_any(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Scalar(Value::Null) => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// Reads the name of a variant, or a table whose only key is that name. A typed table replaces the table
    /// of lower layers and is not merged with it, because the two may be different variants.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let node = match self {
            Self::Typed(typed) => match typed.clone().into_value() {
                table @ Self::Table(_) => table,
                _ => Self::Scalar(Value::String(typed.into_text())),
            },
            other => other,
        };
        match node {
            Self::Table(table) if table.len() == 1 => {
                let entries = MapDeserializer::new(table.into_iter());
                MapAccessDeserializer::new(entries).deserialize_enum(name, variants, visitor)
            }
            Self::Table(_) => Err(Error::invalid_value(
                Unexpected::Map,
                &"a table with a single key",
            )),
            Self::List(_) => Err(Error::invalid_type(Unexpected::Seq, &"a word or a table")),
            Self::Scalar(value) => value.deserialize_enum(name, variants, visitor),
            Self::NotFinite(_) => Err(Error::custom(NOT_FINITE)),
            // Unreachable: typed nodes are replaced above.
            Self::Typed(_) => Err(Error::custom("is not resolved")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct
    }
}

#[cfg(test)]
mod tests;
