//! A network's weights and their safetensors file.

use std::{borrow::Cow, collections::BTreeMap};

use safetensors::{Dtype, SafeTensors, View};

use crate::{NetworkSpec, SpecError, initialization, tensors};

mod header;
pub mod public;

/// One tensor's values, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightTensor {
    /// Dimensions, in PyTorch's order.
    pub shape: Vec<usize>,
    /// The values; their number is the product of the dimensions.
    pub data: Vec<f32>,
}

/// The weights of one network by tensor name: exactly the tensors that its spec requires.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, WeightTensor>,
}

/// Why weights do not match a network.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The network itself is invalid.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The file is truncated, or is not a safetensors file.
    #[error("the safetensors file is truncated or invalid: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    /// The weights lack a tensor of the network.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// The weights have a tensor that the network does not have.
    #[error("tensor `{0}` does not belong to this network")]
    Extra(String),
    /// A tensor has the wrong shape.
    #[error("tensor `{name}` has shape {found:?}; the network requires {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The shape that the network requires.
        expected: Vec<usize>,
        /// The shape of the tensor.
        found: Vec<usize>,
    },
    /// A tensor is not f32.
    #[error("tensor `{name}` has dtype {found:?}; only F32 is supported")]
    Dtype {
        /// The tensor.
        name: String,
        /// The dtype of the tensor.
        found: Dtype,
    },
    /// The number of values does not match the shape.
    #[error("tensor `{name}` has {found} values; its shape {shape:?} requires {expected}")]
    Length {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The number of values that the shape requires.
        expected: usize,
        /// The number of values of the tensor.
        found: usize,
    },
    /// The file's digest differs from the one in `model.toml`.
    #[error("its SHA-256 is {found}, but weights_sha256 in model.toml is {expected}")]
    Digest {
        /// The digest in `model.toml`.
        expected: String,
        /// The digest of the file.
        found: String,
    },
    /// The file has two tensors of the same name.
    #[error("its header names tensor `{0}` twice")]
    Duplicate(String),
    /// A value is infinite or NaN.
    #[error("tensor `{0}` holds a value that is not finite")]
    NotFinite(String),
}

impl Weights {
    /// Random weights: a pure function of the seed and each tensor's name.
    /// Convolutions are initialized like torchvision's ResNet (He normal, fan-out), linear layers
    /// like PyTorch, batch-norm with scale 1 and shift 0.
    ///
    /// # Errors
    /// [`SpecError`] if the spec is invalid.
    pub fn initial(spec: &NetworkSpec, seed: u64) -> Result<Self, SpecError> {
        let tensors = tensors(&spec.layers()?).into_iter().map(|tensor| {
            let data = initialization::values(&tensor, seed);
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

    /// Builds weights from tensors in memory.
    ///
    /// # Errors
    /// [`WeightsError`] if a tensor is missing, unknown, of the wrong shape or length, or not finite.
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
    /// As [`Weights::from_tensors`]. Also if the file is truncated or has another format, if two tensors
    /// have the same name, or if a dtype is not f32.
    pub fn from_safetensors(bytes: &[u8], spec: &NetworkSpec) -> Result<Self, WeightsError> {
        if let Some(name) = header::duplicate(bytes) {
            return Err(WeightsError::Duplicate(name));
        }
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

    /// The bytes of a safetensors file; equal weights give equal bytes.
    ///
    /// # Errors
    /// If the header exceeds the size limit of the file format.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, WeightsError> {
        Ok(safetensors::serialize(&self.tensors, None)?)
    }

    /// One tensor by name.
    pub fn get(&self, name: &str) -> Option<&WeightTensor> {
        self.tensors.get(name)
    }

    /// All tensors, sorted by name.
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

#[cfg(test)]
mod properties;
