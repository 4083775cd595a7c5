//! Inputs and outputs of a program.

use std::{collections::BTreeMap, fmt};

use tch::{Kind, Tensor};

use crate::ProgramError;

/// An input or output of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name in the program; for an input, the name of the argument of `forward`.
    pub name: String,
    /// The data type.
    pub kind: Kind,
    /// The dimensions, outermost first.
    pub dimensions: Vec<Dimension>,
}

/// One dimension of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// The size was fixed when the program was exported, as the batch size is without `dynamic_shapes`.
    Fixed(u64),
    /// The size may vary.
    Open {
        /// The symbol, for instance `s31`. Dimensions with the same symbol have the same size. A size that is computed
        /// from others has a formula instead.
        symbol: String,
        /// Smallest size.
        minimum: u64,
        /// Largest size, if there is one.
        maximum: Option<u64>,
    },
}

/// Checks that inputs match their specs.
///
/// # Errors
/// [`ProgramError::Input`] for the first input that does not match.
pub(crate) fn check_inputs(specs: &[TensorSpec], inputs: &[Tensor]) -> Result<(), ProgramError> {
    if specs.len() != inputs.len() {
        return Err(ProgramError::Input {
            input: "inputs".to_owned(),
            reason: format!(
                "{} were given, but the program has {}",
                inputs.len(),
                specs.len()
            ),
        });
    }
    let mut symbols = BTreeMap::new();
    for (spec, input) in specs.iter().zip(inputs) {
        let wrong = |reason| ProgramError::Input {
            input: spec.name.clone(),
            reason,
        };
        if input.kind() != spec.kind {
            return Err(wrong(format!(
                "data type {:?}, but the program needs {:?}",
                input.kind(),
                spec.kind
            )));
        }
        let sizes = input.size();
        let matches = sizes.len() == spec.dimensions.len()
            && spec
                .dimensions
                .iter()
                .zip(&sizes)
                .all(|(dimension, &size)| {
                    u64::try_from(size).is_ok_and(|size| dimension.admits(size, &mut symbols))
                });
        if !matches {
            return Err(wrong(format!(
                "shape {sizes:?}, but the program needs {}",
                shape(&spec.dimensions)
            )));
        }
    }
    Ok(())
}

impl Dimension {
    /// Whether the dimension can have this size, given the sizes of symbols so far.
    fn admits<'a>(&'a self, size: u64, symbols: &mut BTreeMap<&'a str, u64>) -> bool {
        match self {
            Dimension::Fixed(fixed) => size == *fixed,
            Dimension::Open {
                symbol,
                minimum,
                maximum,
            } => {
                size >= *minimum
                    && maximum.is_none_or(|maximum| size <= maximum)
                    && *symbols.entry(symbol).or_insert(size) == size
            }
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dimension::Fixed(size) => write!(f, "{size}"),
            Dimension::Open {
                symbol,
                minimum,
                maximum: Some(maximum),
            } => write!(f, "{symbol} ({minimum} to {maximum})"),
            Dimension::Open {
                symbol,
                minimum,
                maximum: None,
            } => write!(f, "{symbol} ({minimum} or more)"),
        }
    }
}

/// For messages: `[s31 (1 to 256), 3, 8, 8]`.
fn shape(dimensions: &[Dimension]) -> String {
    let sizes: Vec<_> = dimensions.iter().map(Dimension::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn specs() -> Vec<TensorSpec> {
        let batch = || Dimension::Open {
            symbol: "s0".to_owned(),
            minimum: 1,
            maximum: Some(8),
        };
        vec![
            TensorSpec {
                name: "image".to_owned(),
                kind: Kind::Float,
                dimensions: vec![batch(), Dimension::Fixed(3)],
            },
            TensorSpec {
                name: "mask".to_owned(),
                kind: Kind::Bool,
                dimensions: vec![batch()],
            },
        ]
    }

    #[test]
    fn inputs_must_match_kinds_sizes_bounds_and_symbols() {
        let image = |sizes: &[i64]| Tensor::zeros(sizes, (Kind::Float, Device::Cpu));
        let mask = |size: i64| Tensor::zeros([size], (Kind::Bool, Device::Cpu));
        let specs = specs();
        for batch in [1, 8] {
            check_inputs(&specs, &[image(&[batch, 3]), mask(batch)]).expect("inputs that match");
        }
        let cases = [
            (
                vec![image(&[1, 3])],
                "inputs: 1 were given, but the program has 2",
            ),
            (
                vec![image(&[9, 3]), mask(9)],
                "image: shape [9, 3], but the program needs [s0 (1 to 8), 3]",
            ),
            (vec![image(&[0, 3]), mask(0)], "image: shape [0, 3]"),
            (vec![image(&[2, 4]), mask(2)], "image: shape [2, 4]"),
            (vec![image(&[2, 3, 1]), mask(2)], "image: shape [2, 3, 1]"),
            (vec![image(&[2, 3]), mask(3)], "mask: shape [3]"),
            (
                vec![image(&[2, 3]), image(&[2])],
                "mask: data type Float, but the program needs Bool",
            ),
        ];
        for (inputs, expected) in cases {
            let error = check_inputs(&specs, &inputs)
                .expect_err(expected)
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
