//! Dimensions of tensors.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One dimension of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Always this size.
    Fixed(usize),
    /// The number of samples; any size.
    Batch,
    /// Any size, for example the height of an image or the length of a sequence.
    Open,
}

impl Dimension {
    /// The size, if it is fixed.
    pub const fn fixed(self) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(size),
            Self::Batch | Self::Open => None,
        }
    }

    /// Whether a tensor may have `size` here.
    pub const fn accepts(self, size: usize) -> bool {
        match self {
            Self::Fixed(fixed) => fixed == size,
            Self::Batch | Self::Open => true,
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(formatter),
            Self::Batch => formatter.write_str("batch"),
            Self::Open => formatter.write_str("any"),
        }
    }
}

impl Serialize for Dimension {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(size) => serializer.serialize_u64(*size as u64),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for Dimension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Dimension;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a size of 1 or more, \"batch\" or \"any\"")
            }

            fn visit_u64<E: de::Error>(self, size: u64) -> Result<Dimension, E> {
                match usize::try_from(size) {
                    Ok(size) if size > 0 => Ok(Dimension::Fixed(size)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(size), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, size: i64) -> Result<Dimension, E> {
                match u64::try_from(size) {
                    Ok(size) => self.visit_u64(size),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(size), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Dimension, E> {
                match text {
                    "batch" => Ok(Dimension::Batch),
                    "any" => Ok(Dimension::Open),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// The dimensions of a tensor, outermost first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dimensions(pub Vec<Dimension>);

impl Dimensions {
    /// A batch of samples of a fixed `shape`.
    pub fn batch_of(shape: &[usize]) -> Self {
        let fixed = shape.iter().copied().map(Dimension::Fixed);
        Self(std::iter::once(Dimension::Batch).chain(fixed).collect())
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Whether a tensor may have `shape`.
    pub fn accept(&self, shape: &[usize]) -> bool {
        let mut pairs = self.0.iter().zip(shape);
        self.rank() == shape.len() && pairs.all(|(dimension, size)| dimension.accepts(*size))
    }

    /// The shape of one sample, if the first dimension is the batch and all others are fixed.
    pub fn sample_shape(&self) -> Option<Vec<usize>> {
        match self.0.split_first()? {
            (Dimension::Batch, rest) => rest.iter().map(|dimension| dimension.fixed()).collect(),
            _ => None,
        }
    }

    /// The number of values of one sample. `None` if a dimension besides the batch is open, or if the
    /// number overflows.
    pub fn sample_values(&self) -> Option<usize> {
        let shape = self.sample_shape()?;
        shape
            .iter()
            .try_fold(1_usize, |product, size| product.checked_mul(*size))
    }
}

impl fmt::Display for Dimensions {
    /// For example `[batch, 3, 224, 224]`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[")?;
        for (position, dimension) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(formatter, "{separator}{dimension}")?;
        }
        formatter.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_compared_dimension_by_dimension() {
        let dimensions = Dimensions(vec![
            Dimension::Batch,
            Dimension::Fixed(3),
            Dimension::Open,
            Dimension::Open,
        ]);
        for (shape, fits) in [
            (&[1, 3, 224, 300][..], true),
            (&[7, 3, 1, 1], true),
            (&[7, 1, 1, 1], false),
            (&[3, 224, 224], false),
            (&[1, 3, 224, 224, 1], false),
        ] {
            assert_eq!(dimensions.accept(shape), fits, "{shape:?}");
        }
        assert_eq!(dimensions.sample_shape(), None);
        assert_eq!(dimensions.to_string(), "[batch, 3, any, any]");
    }

    #[test]
    fn a_batch_of_samples_knows_their_shape() {
        let rows = Dimensions::batch_of(&[30]);
        assert_eq!(rows.sample_shape(), Some(vec![30]));
        assert_eq!(Dimensions::batch_of(&[]).sample_values(), Some(1));
        assert_eq!(Dimensions::batch_of(&[3, 2]).sample_values(), Some(6));
        assert_eq!(Dimensions::batch_of(&[usize::MAX, 2]).sample_values(), None);
        assert_eq!(Dimensions(vec![]).sample_shape(), None);
        assert_eq!(Dimensions(vec![Dimension::Fixed(4)]).sample_shape(), None);
    }

    #[test]
    fn the_text_form_round_trips_and_wrong_sizes_are_refused() {
        let dimensions: Dimensions = serde_json::from_str(r#"["batch", 3, "any"]"#).unwrap();
        let expected = vec![Dimension::Batch, Dimension::Fixed(3), Dimension::Open];
        assert_eq!(dimensions.0, expected);
        let json = serde_json::to_string(&dimensions).unwrap();
        assert_eq!(json, r#"["batch",3,"any"]"#);
        for wrong in ["0", "-1", "1.5", "\"n\"", "null"] {
            let error = serde_json::from_str::<Dimension>(wrong).unwrap_err();
            assert!(error.to_string().contains("1 or more"), "{error}");
        }
    }
}
