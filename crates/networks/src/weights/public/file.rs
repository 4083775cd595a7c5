//! The tensors of a published safetensors file.

use std::collections::BTreeSet;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::PublicWeightsError;
use crate::{WeightTensor, WeightsError, weights::header};

/// Wrappers put these before the name of every tensor.
const PREFIXES: [&str; 3] = ["module.", "model.", "timm_model."];
/// The first bytes of what `torch.save` writes: a ZIP archive, formerly a pickle.
const PICKLES: [&[u8]; 2] = [b"PK\x03\x04", b"\x80\x02"];
/// Batch-norm's count of training steps, which no forward pass needs.
const STEP_COUNT: &str = "num_batches_tracked";

pub(super) struct PublicFile<'b> {
    tensors: SafeTensors<'b>,
    prefix: &'static str,
}

impl<'b> PublicFile<'b> {
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, PublicWeightsError> {
        if PICKLES.iter().any(|magic| bytes.starts_with(magic)) {
            return Err(PublicWeightsError::Pickle);
        }
        if let Some(name) = header::duplicate(bytes) {
            return Err(WeightsError::Duplicate(name).into());
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(WeightsError::from)?;
        let names = tensors.names();
        let prefix = PREFIXES
            .into_iter()
            .find(|prefix| !names.is_empty() && names.iter().all(|name| name.starts_with(prefix)));
        Ok(PublicFile {
            tensors,
            prefix: prefix.unwrap_or_default(),
        })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.tensor(&self.full(name)).is_ok()
    }

    /// The names of all tensors but these, without step counts.
    pub(super) fn names_except(&self, known: &[String]) -> Vec<String> {
        let known: BTreeSet<_> = known.iter().map(|name| self.full(name)).collect();
        let mut names: Vec<_> = self
            .tensors
            .names()
            .into_iter()
            .filter(|name| !known.contains(*name) && !name.ends_with(STEP_COUNT))
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }

    /// A tensor's values as f32; `None` if there is no tensor of this name.
    pub(super) fn tensor(&self, name: &str) -> Result<Option<WeightTensor>, PublicWeightsError> {
        let Ok(view) = self.tensors.tensor(&self.full(name)) else {
            return Ok(None);
        };
        let bytes = view.data();
        let data = match view.dtype() {
            Dtype::F32 => values(bytes, f32::from_le_bytes),
            Dtype::F16 => values(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => values(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::F64 => values(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
            other => {
                return Err(PublicWeightsError::Dtype {
                    name: name.to_owned(),
                    found: format!("{other:?}"),
                });
            }
        };
        Ok(Some(WeightTensor {
            shape: view.shape().to_vec(),
            data,
        }))
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

fn values<const SIZE: usize>(bytes: &[u8], value: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    let (chunks, _) = bytes.as_chunks::<SIZE>();
    chunks.iter().map(|bytes| value(*bytes)).collect()
}
