//! The values of a batch, converted to what a model takes.

use std::ops::Range;

use half::f16;
use ort::{
    session::SessionInputValue,
    value::{DynValue, Tensor, TensorRef},
};
use tensors::DataType;

/// The values of a batch, row-major.
#[derive(Debug, Clone, Copy)]
pub enum Values<'v> {
    /// Bytes, for example pixels.
    U8(&'v [u8]),
    /// Finite numbers.
    F32(&'v [f32]),
}

/// Why values cannot be converted to a model's data type.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ValuesError {
    /// No conversion to this type exists.
    #[error("values cannot be converted to {0}")]
    DataType(DataType),
    /// The model takes integers, and a value is none, or does not fit.
    #[error("value {position} of the batch is {value}, but the model takes {data_type}")]
    NotAnInteger {
        /// Index of the value.
        position: usize,
        /// The value.
        value: f32,
        /// Type of the model's input.
        data_type: DataType,
    },
}

impl<'v> Values<'v> {
    /// Number of values.
    pub fn len(self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The values at `range`.
    pub(crate) fn slice(self, range: Range<usize>) -> Self {
        match self {
            Self::U8(values) => Self::U8(&values[range]),
            Self::F32(values) => Self::F32(&values[range]),
        }
    }

    /// Copies the values and appends copies of the first sample until there are `samples`.
    pub(crate) fn filled(self, sample_values: usize, samples: usize) -> Owned {
        match self {
            Self::U8(values) => Owned::U8(fill(values, sample_values, samples)),
            Self::F32(values) => Owned::F32(fill(values, sample_values, samples)),
        }
    }

    /// Converts the values to a tensor of `data_type` and `shape`. Does not copy u8 or f32 values that
    /// keep their type.
    ///
    /// # Errors
    /// [`TensorError`] if the values cannot be converted.
    pub(crate) fn to_tensor(
        self,
        data_type: DataType,
        shape: &[usize],
    ) -> Result<SessionInputValue<'v>, TensorError> {
        let owned = match (self, data_type) {
            (Self::F32(values), DataType::Fp32) => {
                return Ok(TensorRef::from_array_view((shape.to_vec(), values))?.into());
            }
            (Self::U8(values), DataType::Uint8) => {
                return Ok(TensorRef::from_array_view((shape.to_vec(), values))?.into());
            }
            (_, DataType::Fp32) => tensor(shape, self.floats(|value| value))?,
            (_, DataType::Fp64) => tensor(shape, self.floats(f64::from))?,
            (_, DataType::Fp16) => tensor(shape, self.floats(f16::from_f32))?,
            (_, DataType::Uint8) => tensor(shape, self.integers::<u8>(data_type)?)?,
            (_, DataType::Int8) => tensor(shape, self.integers::<i8>(data_type)?)?,
            (_, DataType::Int32) => tensor(shape, self.integers::<i32>(data_type)?)?,
            (_, DataType::Int64) => tensor(shape, self.integers::<i64>(data_type)?)?,
            (_, other) => return Err(ValuesError::DataType(other).into()),
        };
        Ok(owned.into())
    }

    fn floats<T>(self, convert: impl Fn(f32) -> T) -> Vec<T> {
        match self {
            Self::U8(values) => values
                .iter()
                .map(|value| convert((*value).into()))
                .collect(),
            Self::F32(values) => values.iter().map(|value| convert(*value)).collect(),
        }
    }

    fn integers<T: TryFrom<i64>>(self, data_type: DataType) -> Result<Vec<T>, ValuesError> {
        let convert = |(position, value): (usize, f32)| {
            let is_whole = value.fract() == 0.0;
            // The conversion saturates, and f32 has no integer between 2^63 - 2^39 and 2^63.
            let integer = is_whole.then(|| T::try_from(value as i64).ok()).flatten();
            integer.ok_or(ValuesError::NotAnInteger {
                position,
                value,
                data_type,
            })
        };
        let values = self.floats(|value| value);
        values.into_iter().enumerate().map(convert).collect()
    }
}

/// Values that were copied.
pub(crate) enum Owned {
    U8(Vec<u8>),
    F32(Vec<f32>),
}

impl Owned {
    pub(crate) fn as_values(&self) -> Values<'_> {
        match self {
            Self::U8(values) => Values::U8(values),
            Self::F32(values) => Values::F32(values),
        }
    }
}

fn fill<T: Copy>(values: &[T], sample_values: usize, samples: usize) -> Vec<T> {
    let first = values[..sample_values].iter().cycle();
    let missing = samples * sample_values - values.len();
    values.iter().chain(first.take(missing)).copied().collect()
}

/// Why a batch is no tensor.
#[derive(Debug)]
pub(crate) enum TensorError {
    Values(ValuesError),
    Runtime(ort::Error),
}

impl From<ValuesError> for TensorError {
    fn from(error: ValuesError) -> Self {
        Self::Values(error)
    }
}

impl From<ort::Error> for TensorError {
    fn from(error: ort::Error) -> Self {
        Self::Runtime(error)
    }
}

fn tensor<T>(shape: &[usize], values: Vec<T>) -> Result<DynValue, TensorError>
where
    T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    Ok(Tensor::from_array((shape.to_vec(), values))?.into_dyn())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_become_integers_and_others_are_refused() {
        let values = [0.0, -3.0, 255.0, 2_000_000_000.0];
        let found = Values::F32(&values).integers::<i32>(DataType::Int32);
        assert_eq!(found.unwrap(), [0, -3, 255, 2_000_000_000]);
        let found = Values::U8(&[0, 7]).integers::<i64>(DataType::Int64);
        assert_eq!(found.unwrap(), [0, 7]);
        for (bad, named) in [
            (0.5, "value 1 of the batch is 0.5"),
            (
                -1.0,
                "value 1 of the batch is -1, but the model takes UINT8",
            ),
            (256.0, "256"),
            (1e30, "1000000000000000000000000000000"),
        ] {
            let values = [1.0, bad];
            let error = Values::F32(&values).integers::<u8>(DataType::Uint8);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
