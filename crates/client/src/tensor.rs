//! Tensors: a name, a shape, and values of one type.

use bytes::Bytes;
use tensors::DataType;

/// A type of values: the integers and floats of Rust.
pub trait Element: Copy + sealed::Sealed {
    /// The type's name in the protocol.
    const DATA_TYPE: DataType;

    /// Appends the value, little-endian.
    #[doc(hidden)]
    fn append_to(self, bytes: &mut Vec<u8>);

    /// Reads little-endian values. Ignores an incomplete value at the end.
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Vec<Self>;
}

/// An input or output of a model: row-major values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    name: String,
    data_type: DataType,
    shape: Vec<usize>,
    /// Little-endian, as many values as the shape has.
    data: Bytes,
}

/// Why values do not fit a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The number of values is not that of the shape.
    #[error("`{name}`: {found} values for the shape {shape:?}")]
    Count {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The number of values.
        found: usize,
    },
    /// The tensor has values of another type.
    #[error("`{name}` has values of type {found}, not {asked}")]
    DataType {
        /// The tensor.
        name: String,
        /// Its type.
        found: DataType,
        /// The type that was asked for.
        asked: DataType,
    },
}

impl Tensor {
    /// A tensor of `values`. The shape includes the batch.
    ///
    /// # Errors
    /// [`TensorError::Count`].
    pub fn new<T: Element>(
        name: impl Into<String>,
        shape: &[usize],
        values: &[T],
    ) -> Result<Self, TensorError> {
        let name = name.into();
        if count(shape) != Some(values.len()) {
            return Err(TensorError::Count {
                name,
                shape: shape.to_vec(),
                found: values.len(),
            });
        }
        let mut data = Vec::with_capacity(size_of_val(values));
        for value in values {
            value.append_to(&mut data);
        }
        Ok(Self {
            name,
            data_type: T::DATA_TYPE,
            shape: shape.to_vec(),
            data: data.into(),
        })
    }

    /// The name of the input or output.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of the values.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// The shape, including the batch.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values.
    ///
    /// # Errors
    /// [`TensorError::DataType`].
    pub fn values<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        if self.data_type == T::DATA_TYPE {
            Ok(T::read(&self.data))
        } else {
            Err(TensorError::DataType {
                name: self.name.clone(),
                found: self.data_type,
                asked: T::DATA_TYPE,
            })
        }
    }

    /// The values as the protocol carries them.
    pub(crate) fn data(&self) -> Bytes {
        self.data.clone()
    }

    /// A tensor of an answer.
    ///
    /// # Errors
    /// What is wrong, in words for the user.
    pub(crate) fn from_wire(
        name: String,
        data_type: &str,
        shape: &[i64],
        data: Bytes,
    ) -> Result<Self, String> {
        let data_type = data_type
            .parse::<DataType>()
            .map_err(|error| format!("`{name}`: {error}"))?;
        let sizes = shape.iter().map(|size| usize::try_from(*size).ok());
        let sizes: Option<Vec<usize>> = sizes.collect();
        let sizes = sizes.ok_or_else(|| format!("`{name}` has the shape {shape:?}"))?;
        let bytes = count(&sizes).zip(data_type.size());
        let bytes = bytes.and_then(|(count, size)| count.checked_mul(size));
        match bytes {
            Some(bytes) if bytes == data.len() => Ok(Self {
                name,
                data_type,
                shape: sizes,
                data,
            }),
            _ => {
                let found = data.len();
                Err(format!(
                    "`{name}` has {found} bytes for the type {data_type} and the shape {shape:?}"
                ))
            }
        }
    }
}

/// The number of values; `None` if it is too large for this machine.
fn count(shape: &[usize]) -> Option<usize> {
    let mut sizes = shape.iter();
    sizes.try_fold(1_usize, |count, size| count.checked_mul(*size))
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($element:ty => $data_type:ident),* $(,)?) => {
        $(
            impl sealed::Sealed for $element {}

            impl Element for $element {
                const DATA_TYPE: DataType = DataType::$data_type;

                fn append_to(self, bytes: &mut Vec<u8>) {
                    bytes.extend_from_slice(&self.to_le_bytes());
                }

                fn read(bytes: &[u8]) -> Vec<Self> {
                    let (values, _) = bytes.as_chunks();
                    values
                        .iter()
                        .map(|value| Self::from_le_bytes(*value))
                        .collect()
                }
            }
        )*
    };
}

elements! {
    u8 => Uint8,
    u16 => Uint16,
    u32 => Uint32,
    u64 => Uint64,
    i8 => Int8,
    i16 => Int16,
    i32 => Int32,
    i64 => Int64,
    f32 => Fp32,
    f64 => Fp64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_little_endian_and_come_back() {
        let floats = Tensor::new("a", &[1, 2], &[1.0_f32, -2.0]).unwrap();
        assert_eq!(floats.data()[..], [0, 0, 128, 63, 0, 0, 0, 192]);
        assert_eq!(floats.data_type(), DataType::Fp32);
        assert_eq!(floats.values::<f32>(), Ok(vec![1.0, -2.0]));
        let integers = Tensor::new("b", &[3], &[-1_i64, 0, i64::MAX]).unwrap();
        assert_eq!(integers.values::<i64>(), Ok(vec![-1, 0, i64::MAX]));
        let error = integers.values::<f32>().unwrap_err().to_string();
        assert_eq!(error, "`b` has values of type INT64, not FP32");
    }

    #[test]
    fn a_tensor_has_as_many_values_as_its_shape() {
        assert!(Tensor::new("a", &[], &[1_u8]).is_ok());
        assert!(Tensor::new("a", &[0, 5], &[0.0_f64; 0]).is_ok());
        for shape in [&[2, 2][..], &[usize::MAX, 2], &[0]] {
            let error = Tensor::new("a", shape, &[1_u8; 3]).unwrap_err();
            assert!(error.to_string().contains("3 values"), "{error}");
        }
    }

    #[test]
    fn tensors_of_answers_are_checked() {
        let read = |data_type: &str, shape: &[i64], bytes: usize| {
            let data = Bytes::from(vec![0; bytes]);
            Tensor::from_wire("y".to_owned(), data_type, shape, data)
        };
        assert_eq!(read("FP32", &[1, 2], 8).unwrap().shape(), [1, 2]);
        for (data_type, shape, bytes, expected) in [
            ("FP32", &[1, 2][..], 9, "9 bytes"),
            ("FP64", &[1, 2], 8, "8 bytes"),
            ("FP32", &[-1, 2], 8, "shape [-1, 2]"),
            ("FP32", &[i64::MAX, 3], 8, "8 bytes"),
            ("BYTES", &[1], 4, "4 bytes"),
            ("FP8", &[1], 1, "not a data type"),
        ] {
            let error = read(data_type, shape, bytes).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
