//! A batch of input, validated against what the teacher takes.

use bytes::Bytes;
use proto::teacher::v1::{DataType, Tensor};
use soft_targets::data_type_to_wire;
use tensors::{Dimensions, TensorSpec};

/// Input of a teacher: at least one sample, as its description says, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of samples.
    pub samples: usize,
    /// The values.
    pub input: Input,
}

/// The values of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Pixels as stored, 0 to 255; the backend normalizes them.
    U8(Bytes),
    /// Finite values, which the model takes as they are.
    F32(Vec<f32>),
}

/// Why a batch is refused. It does not end the stream.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum BatchProblem {
    /// The oneof is not set.
    #[error("the batch has no tensor")]
    NoTensor,
    /// Unknown, or not the type that the teacher takes.
    #[error("data_type {} is not what this teacher takes: send {}", shown_type(*.found), .expected.as_str_name())]
    DataType {
        /// The data type in the message.
        found: i32,
        /// The data type that the teacher takes.
        expected: DataType,
    },
    /// Another rank, other samples, or no sample at all.
    #[error("shape {} does not fit: this teacher takes {expected} with a batch of 1 or more", shown(.found))]
    Shape {
        /// The shape in the message.
        found: Vec<u64>,
        /// What the teacher takes.
        expected: Dimensions,
    },
    /// The data is longer or shorter than the shape says.
    #[error("{found} bytes of data, but shape {shape:?} of {data_type} needs {expected}")]
    Length {
        /// Bytes in the message.
        found: usize,
        /// Bytes that the shape needs.
        expected: u128,
        /// The shape in the message.
        shape: Vec<u64>,
        /// Name of the data type.
        data_type: &'static str,
    },
    /// An f32 value that is not a number or infinite.
    #[error("value {position} of the data is {value}; only finite numbers are taken")]
    NotFinite {
        /// Index of the value.
        position: usize,
        /// The value.
        value: f32,
    },
}

impl Batch {
    /// The size of the values in memory.
    pub fn bytes(&self) -> usize {
        match &self.input {
            Input::U8(pixels) => pixels.len(),
            Input::F32(values) => size_of_val(values.as_slice()),
        }
    }

    /// Checks `tensor` against `expected`, what the teacher takes. u8 data is not copied.
    ///
    /// # Errors
    /// See [`BatchProblem`].
    pub fn from_tensor(
        tensor: Option<Tensor>,
        expected: &TensorSpec,
    ) -> Result<Self, BatchProblem> {
        let tensor = tensor.ok_or(BatchProblem::NoTensor)?;
        let expected_type = data_type_to_wire(expected.data_type).unwrap_or_default();
        let (data_type, value_bytes) = match tensor.data_type() {
            DataType::U8 if expected_type == DataType::U8 => (DataType::U8, 1),
            DataType::F32 if expected_type == DataType::F32 => (DataType::F32, 4),
            _ => {
                return Err(BatchProblem::DataType {
                    found: tensor.data_type,
                    expected: expected_type,
                });
            }
        };
        let Tensor { shape, data, .. } = tensor;
        let fits = fit(&shape, &expected.dimensions);
        let Some((samples, sample_values)) = fits else {
            return Err(BatchProblem::Shape {
                found: shape,
                expected: expected.dimensions.clone(),
            });
        };
        let bytes = u128::from(samples) * sample_values as u128 * value_bytes;
        if data.len() as u128 != bytes {
            return Err(BatchProblem::Length {
                found: data.len(),
                expected: bytes,
                shape,
                data_type: data_type.as_str_name(),
            });
        }
        let input = match data_type {
            DataType::F32 => Input::F32(finite_values(&data)?),
            _ => Input::U8(data),
        };
        Ok(Self {
            samples: samples as usize,
            input,
        })
    }
}

/// Number of samples and values per sample, if `shape` is a batch of 1 or more of what `dimensions` describe.
fn fit(shape: &[u64], dimensions: &Dimensions) -> Option<(u64, usize)> {
    let (&samples, sample) = shape.split_first()?;
    let expected = dimensions.sample_shape()?;
    let same = sample
        .iter()
        .copied()
        .eq(expected.iter().map(|size| *size as u64));
    (samples > 0 && same).then_some((samples, dimensions.sample_values()?))
}

fn shown_type(data_type: i32) -> String {
    match DataType::try_from(data_type) {
        Ok(known) => known.as_str_name().to_owned(),
        Err(_) => data_type.to_string(),
    }
}

/// Formats a shape; of a long shape, only the first dimensions.
fn shown(shape: &[u64]) -> String {
    const MOST: usize = 8;
    match shape.len() {
        ..=MOST => format!("{shape:?}"),
        rank => format!("{:?} and so on, of {rank} dimensions,", &shape[..MOST]),
    }
}

fn finite_values(data: &[u8]) -> Result<Vec<f32>, BatchProblem> {
    let (values, _) = data.as_chunks::<4>();
    let values: Vec<f32> = values.iter().copied().map(f32::from_le_bytes).collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(position) => Err(BatchProblem::NotFinite {
            position,
            value: values[position],
        }),
        None => Ok(values),
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> TensorSpec {
        TensorSpec::batch_of("pixels", tensors::DataType::Uint8, &[1, 2, 3])
    }

    fn rows() -> TensorSpec {
        TensorSpec::batch_of("features", tensors::DataType::Fp32, &[6])
    }

    fn tensor(data_type: DataType, shape: &[u64], data: Vec<u8>) -> Option<Tensor> {
        Some(Tensor {
            data_type: data_type.into(),
            shape: shape.to_vec(),
            data: data.into(),
        })
    }

    #[test]
    fn u8_data_is_taken_without_a_copy() {
        let tensor = tensor(DataType::U8, &[2, 1, 2, 3], vec![7; 12]);
        let address = tensor.as_ref().unwrap().data.as_ptr();
        let batch = Batch::from_tensor(tensor, &images()).unwrap();
        assert_eq!(batch.samples, 2);
        let Input::U8(data) = batch.input else {
            panic!("u8 became something else");
        };
        assert_eq!(data.as_ptr(), address);
    }

    #[test]
    fn f32_data_is_little_endian() {
        let bytes = [1.0f32, -2.5, 3.0, 0.0, 1e-3, 6.0].map(f32::to_le_bytes);
        let tensor = tensor(DataType::F32, &[1, 6], bytes.concat());
        let batch = Batch::from_tensor(tensor, &rows()).unwrap();
        assert_eq!(
            batch.input,
            Input::F32(vec![1.0, -2.5, 3.0, 0.0, 1e-3, 6.0])
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let nan = [f32::NAN.to_le_bytes(); 6].concat();
        let cases = [
            (None, "no tensor"),
            (
                tensor(DataType::Unspecified, &[1, 1, 2, 3], vec![0; 6]),
                "data_type DATA_TYPE_UNSPECIFIED is not what this teacher takes: send DATA_TYPE_U8",
            ),
            (tensor(DataType::U8, &[], vec![]), "shape []"),
            (
                tensor(DataType::U8, &[1; 1000], vec![0]),
                "1] and so on, of 1000 dimensions,",
            ),
            (
                tensor(DataType::U8, &[1, 2, 3], vec![0; 6]),
                "shape [1, 2, 3]",
            ),
            (
                tensor(DataType::U8, &[0, 1, 2, 3], vec![]),
                "[batch, 1, 2, 3] with a batch of 1 or more",
            ),
            (
                tensor(DataType::U8, &[1, 1, 3, 2], vec![0; 6]),
                "shape [1, 1, 3, 2]",
            ),
            (tensor(DataType::U8, &[1, 1, 2, 3], vec![0; 5]), "5 bytes"),
            (
                tensor(DataType::U8, &[u64::MAX, 1, 2, 3], vec![0; 6]),
                "6 bytes",
            ),
            (
                tensor(DataType::F32, &[1, 1, 2, 3], vec![0; 24]),
                "data_type DATA_TYPE_F32 is not",
            ),
        ];
        let check = |tensor, spec: &TensorSpec, named: &str| {
            let error = Batch::from_tensor(tensor, spec).unwrap_err().to_string();
            assert!(error.contains(named), "{named} is not in: {error}");
        };
        for (tensor, named) in cases {
            check(tensor, &images(), named);
        }
        for (tensor, named) in [
            (tensor(DataType::F32, &[1, 6], vec![0; 6]), "needs 24"),
            (
                tensor(DataType::F32, &[1, 6], nan),
                "value 0 of the data is NaN",
            ),
            (tensor(DataType::F32, &[6], vec![0; 24]), "shape [6]"),
            (
                tensor(DataType::U8, &[1, 6], vec![0; 6]),
                "send DATA_TYPE_F32",
            ),
        ] {
            check(tensor, &rows(), named);
        }
    }
}
