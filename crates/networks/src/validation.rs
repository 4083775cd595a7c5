//! Validates each value of a spec on its own, so that one error reports all wrong values.

use std::ops::RangeInclusive;

use crate::{LayerSpec, NetworkSpec, Problem, SpecError, limits};

/// Checks the input and the number of classes.
pub(crate) fn check_input(spec: &NetworkSpec) -> Result<(), SpecError> {
    let mut problems = Vec::new();
    for (i, &size) in spec.input.iter().enumerate() {
        check_range(
            &mut problems,
            format!("input[{i}]"),
            size,
            1..=limits::DIMENSION,
        );
    }
    check_range(
        &mut problems,
        "classes".to_owned(),
        spec.classes,
        1..=limits::DIMENSION,
    );
    SpecError::unless_empty(problems)?;

    let [channels, height, width] = spec.input;
    let elements = (channels * height).checked_mul(width);
    if elements.is_none_or(|elements| elements > limits::ACTIVATIONS) {
        let limit = limits::ACTIVATIONS as u64;
        return Err(Problem::Limit {
            place: "input".to_owned(),
            quantity: "values in a sample",
            limit,
        }
        .into());
    }
    Ok(())
}

/// Checks every value of every layer.
pub(crate) fn check_layers(specs: &[LayerSpec]) -> Result<(), SpecError> {
    let mut values = ValueCheck::default();
    values.check_all(specs, "layers", 0);
    SpecError::unless_empty(values.problems)
}

#[derive(Default)]
struct ValueCheck {
    problems: Vec<Problem>,
    layers: usize,
}

impl ValueCheck {
    fn check_all(&mut self, specs: &[LayerSpec], list: &str, nesting: usize) {
        for (i, spec) in specs.iter().enumerate() {
            let place = format!("{list}[{i}]");
            self.layers += 1;
            if self.layers == limits::LAYERS + 1 {
                let limit = limits::LAYERS as u64;
                self.problems.push(Problem::Limit {
                    place: place.clone(),
                    quantity: "layers",
                    limit,
                });
            }
            self.check(spec, &place, nesting);
        }
    }

    fn check(&mut self, spec: &LayerSpec, place: &str, nesting: usize) {
        let mut range = |key: &str, value, allowed| {
            check_range(&mut self.problems, format!("{place}.{key}"), value, allowed);
        };
        match *spec {
            LayerSpec::Conv {
                channels,
                kernel,
                stride,
                padding,
                ..
            } => {
                range("channels", channels, 1..=limits::DIMENSION);
                range("kernel", kernel, 1..=limits::KERNEL);
                range("stride", stride, 1..=limits::KERNEL);
                range(
                    "padding",
                    padding,
                    0..=kernel.saturating_sub(1).min(limits::KERNEL),
                );
            }
            LayerSpec::DepthwiseConv {
                kernel,
                stride,
                padding,
                ..
            } => {
                range("kernel", kernel, 1..=limits::KERNEL);
                range("stride", stride, 1..=limits::KERNEL);
                range(
                    "padding",
                    padding,
                    0..=kernel.saturating_sub(1).min(limits::KERNEL),
                );
            }
            LayerSpec::MaxPool {
                kernel,
                stride,
                padding,
            }
            | LayerSpec::AvgPool {
                kernel,
                stride,
                padding,
            } => {
                range("kernel", kernel, 1..=limits::KERNEL);
                range("stride", stride, 1..=limits::KERNEL);
                range("padding", padding, 0..=(kernel / 2).min(limits::KERNEL));
            }
            LayerSpec::Linear { features, .. } => {
                range("features", features, 1..=limits::DIMENSION)
            }
            LayerSpec::Dropout { rate } => {
                if !(0.0..1.0).contains(&rate) {
                    self.problems.push(Problem::Value {
                        place: format!("{place}.rate"),
                        value: rate.to_string(),
                        allowed: "0 or more, less than 1".to_owned(),
                    });
                }
            }
            LayerSpec::Residual { ref body, .. } => {
                range("body", body.len(), 1..=limits::LAYERS);
                if nesting == limits::NESTING {
                    let limit = limits::NESTING as u64;
                    self.problems.push(Problem::Limit {
                        place: place.to_owned(),
                        quantity: "nested blocks",
                        limit,
                    });
                } else {
                    self.check_all(body, &format!("{place}.body"), nesting + 1);
                }
            }
            LayerSpec::BatchNorm
            | LayerSpec::Relu
            | LayerSpec::GlobalAvgPool
            | LayerSpec::Flatten => {}
        }
    }
}

fn check_range(
    problems: &mut Vec<Problem>,
    place: String,
    value: usize,
    allowed: RangeInclusive<usize>,
) {
    if !allowed.contains(&value) {
        let allowed = format!("{} to {}", allowed.start(), allowed.end());
        problems.push(Problem::Value {
            place,
            value: value.to_string(),
            allowed,
        });
    }
}
