//! The values of a network's weight tensors, and their safetensors file.

use std::{borrow::Cow, collections::BTreeMap};

use safetensors::{Dtype, SafeTensors, View};

use crate::{NetworkSpec, SpecError, initial, tensors};

/// One tensor's values, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightTensor {
    /// Dimensions, in PyTorch's order.
    pub shape: Vec<usize>,
    /// As many values as the dimensions say.
    pub data: Vec<f32>,
}

/// The weights of one network, by tensor name: all that its spec asks for, nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, WeightTensor>,
}

/// Why weights do not fit a network.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The network itself is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The file is truncated, or no safetensors file.
    #[error("not a whole safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    /// A tensor that the network needs is not there.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// A tensor that the network has no place for.
    #[error("tensor `{0}` does not belong to this network")]
    Extra(String),
    /// A tensor of the wrong shape.
    #[error("tensor `{name}` has shape {found:?}, the network needs {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The shape that the network needs.
        expected: Vec<usize>,
        /// The shape that was found.
        found: Vec<usize>,
    },
    /// A tensor that is not f32.
    #[error("tensor `{name}` has dtype {found:?}, only F32 is read")]
    Dtype {
        /// The tensor.
        name: String,
        /// The dtype that was found.
        found: Dtype,
    },
    /// A tensor with more or fewer values than its shape says.
    #[error("tensor `{name}` has {found} values, its shape {shape:?} needs {expected}")]
    Length {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The number of values that its shape says.
        expected: usize,
        /// The number of values that it has.
        found: usize,
    },
    /// An infinite value, or one that is not a number.
    #[error("tensor `{0}` holds a value that is not finite")]
    NotFinite(String),
}

impl Weights {
    /// Random weights: a pure function of the seed and each tensor's name.
    /// Convolutions as torchvision's ResNet (He normal, fan-out), linear layers as PyTorch,
    /// batch-norm 1 and 0.
    ///
    /// # Errors
    /// Whatever is wrong with the spec.
    pub fn initial(spec: &NetworkSpec, seed: u64) -> Result<Self, SpecError> {
        let tensors = tensors(&spec.layers()?).into_iter().map(|tensor| {
            let data = initial::values(&tensor, seed);
            (
                tensor.name,
                WeightTensor {
                    shape: tensor.shape,
                    data,
                },
            )
        });
        Ok(Weights {
            tensors: tensors.collect(),
        })
    }

    /// Takes tensors that are already in memory.
    ///
    /// # Errors
    /// A tensor that is missing, extra, of the wrong shape or length, or not finite.
    pub fn from_tensors(
        given: impl IntoIterator<Item = (String, WeightTensor)>,
        spec: &NetworkSpec,
    ) -> Result<Self, WeightsError> {
        let given: BTreeMap<_, _> = given.into_iter().collect();
        let wanted: BTreeMap<_, _> = tensors(&spec.layers()?)
            .into_iter()
            .map(|tensor| (tensor.name, tensor.shape))
            .collect();
        if let Some(name) = given.keys().find(|name| !wanted.contains_key(*name)) {
            return Err(WeightsError::Extra(name.clone()));
        }
        for (name, expected) in wanted {
            let Some(tensor) = given.get(&name) else {
                return Err(WeightsError::Missing(name));
            };
            if tensor.shape != expected {
                return Err(WeightsError::Shape {
                    name,
                    expected,
                    found: tensor.shape.clone(),
                });
            }
            let elements = expected.iter().product();
            if tensor.data.len() != elements {
                return Err(WeightsError::Length {
                    name,
                    shape: expected,
                    expected: elements,
                    found: tensor.data.len(),
                });
            }
            if !tensor.data.iter().all(|value| value.is_finite()) {
                return Err(WeightsError::NotFinite(name));
            }
        }
        Ok(Weights { tensors: given })
    }

    /// Reads a safetensors file's bytes.
    ///
    /// # Errors
    /// As [`Weights::from_tensors`]; also a truncated or foreign file, and any dtype but f32.
    pub fn from_safetensors(bytes: &[u8], spec: &NetworkSpec) -> Result<Self, WeightsError> {
        let mut given = Vec::new();
        for (name, view) in SafeTensors::deserialize(bytes)?.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(WeightsError::Dtype {
                    name,
                    found: view.dtype(),
                });
            }
            let (values, _) = view.data().as_chunks::<4>();
            let data = values
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
            given.push((
                name,
                WeightTensor {
                    shape: view.shape().to_vec(),
                    data,
                },
            ));
        }
        Weights::from_tensors(given, spec)
    }

    /// The bytes of a safetensors file: the same for the same weights.
    ///
    /// # Errors
    /// Only the file format's own limit on the size of its header.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, WeightsError> {
        Ok(safetensors::serialize(&self.tensors, None)?)
    }

    /// One tensor by name.
    pub fn get(&self, name: &str) -> Option<&WeightTensor> {
        self.tensors.get(name)
    }

    /// All tensors, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &WeightTensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }
}

impl WeightTensor {
    /// The values as little-endian bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        self.data
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }
}

impl View for &WeightTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.to_le_bytes().into()
    }

    fn data_len(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }
}
