//! Errors in a network spec.

use crate::{LayerType, Shape};

/// All problems of a spec; never empty.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", sentences(.problems))]
pub struct SpecError {
    /// The problems, in network order.
    pub problems: Vec<Problem>,
}

/// One problem of a spec. Places are relative to the network's own table,
/// for example `layers[2].body[0].kernel`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A key has a value that is not allowed.
    #[error("{place} = {value} is not allowed; allowed: {allowed}")]
    Value {
        /// Path of the key.
        place: String,
        /// The value as written.
        value: String,
        /// The allowed values.
        allowed: String,
    },
    /// A layer cannot follow the one before it.
    #[error("{place} ({layer}): {reason} (its input is {input})")]
    Shape {
        /// Path of the layer.
        place: String,
        /// The layer's type.
        layer: LayerType,
        /// Shape of the layer's input, without the batch dimension.
        input: Shape,
        /// Why the layer cannot take this input, and how to fix the spec.
        reason: String,
    },
    /// The network's last layer does not output one logit per class.
    #[error(
        "the last layer outputs {output}, but classes = {classes} requires [{classes}]; end with a linear layer of {classes} features"
    )]
    Output {
        /// Output shape of the last layer, without the batch dimension.
        output: Shape,
        /// The number of classes in the spec.
        classes: usize,
    },
    /// The network exceeds a limit of this crate.
    #[error("{place}: {quantity} exceed the limit of {limit}")]
    Limit {
        /// The layer that exceeds the limit.
        place: String,
        /// The quantity that exceeds the limit.
        quantity: &'static str,
        /// The largest number allowed.
        limit: u64,
    },
}

impl SpecError {
    /// Returns an error if there are problems.
    pub(crate) fn unless_empty(problems: Vec<Problem>) -> Result<(), SpecError> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(SpecError { problems })
        }
    }
}

impl From<Problem> for SpecError {
    fn from(problem: Problem) -> Self {
        SpecError {
            problems: vec![problem],
        }
    }
}

fn sentences(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
