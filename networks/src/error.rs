//! What can be wrong with a network spec.

use crate::{LayerType, Shape};

/// Everything found wrong with a spec; never empty.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", sentences(.problems))]
pub struct SpecError {
    /// The problems, in network order.
    pub problems: Vec<Problem>,
}

/// One thing wrong with a spec. Places are relative to the network's own table,
/// as in `layers[2].body[0].kernel`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A key's value is outside what is allowed.
    #[error("{place} = {value} is not allowed; allowed: {allowed}")]
    Value {
        /// Where the key stands.
        place: String,
        /// The value as written.
        value: String,
        /// What would have been right.
        allowed: String,
    },
    /// A layer cannot follow the one before it.
    #[error("{place} ({layer}): {reason} (its input is {input})")]
    Shape {
        /// Where the layer stands.
        place: String,
        /// The layer's type.
        layer: LayerType,
        /// The shape it would be given, without the batch dimension.
        input: Shape,
        /// Why that does not work, and what would.
        reason: String,
    },
    /// The network's last layer does not give one logit per class.
    #[error(
        "the last layer gives {output}, but classes = {classes} needs [{classes}]; end with a linear layer of {classes} features"
    )]
    Output {
        /// What the last layer gives, without the batch dimension.
        output: Shape,
        /// The number of classes asked for.
        classes: usize,
    },
    /// The network is larger than this crate handles.
    #[error("{place}: {quantity} exceed the limit of {limit}")]
    Limit {
        /// The layer that crossed the limit.
        place: String,
        /// What there is too much of.
        quantity: &'static str,
        /// The largest number allowed.
        limit: u64,
    },
}

impl SpecError {
    /// No problems, no error.
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
