//! The ranges of activations as tensors of a checkpoint.

use std::collections::BTreeMap;

use networks::{
    WeightTensor,
    onnx::{Range, Ranges},
};

use super::CheckpointError;

/// The bounds of each range, [min, max]: as a tensor, they come back to the last bit.
pub(super) fn to_tensors(ranges: &Ranges) -> BTreeMap<String, WeightTensor> {
    let tensors = ranges.iter().map(|(name, Range { min, max })| {
        let tensor = WeightTensor {
            shape: vec![2],
            data: vec![*min, *max],
        };
        (name.clone(), tensor)
    });
    tensors.collect()
}

/// The ranges whose bounds are these tensors.
///
/// # Errors
/// [`CheckpointError::Damaged`].
pub(super) fn read(tensors: BTreeMap<String, WeightTensor>) -> Result<Ranges, CheckpointError> {
    let range = |(name, tensor): (String, WeightTensor)| match *tensor.data {
        [min, max] => Ok((name, Range { min, max })),
        _ => {
            let problem = format!("the range of `{name}` has not two bounds");
            Err(CheckpointError::Damaged(problem))
        }
    };
    tensors.into_iter().map(range).collect()
}
