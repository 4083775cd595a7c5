//! Validates each value of a spec on its own, so that one error reports all wrong values.

use std::ops::RangeInclusive;

use crate::{LayerSpec, NetworkSpec, Padding, Problem, Shape, SpecError, Window, limits};

/// Checks the input and the number of classes.
pub(crate) fn check_input(spec: &NetworkSpec) -> Result<(), SpecError> {
    let mut problems = Vec::new();
    for (i, size) in spec.input.dimensions().into_iter().enumerate() {
        let place = format!("input[{i}]");
        check_range(&mut problems, place, size, 1..=limits::DIMENSION);
    }
    let place = "classes".to_owned();
    check_range(&mut problems, place, spec.classes, 1..=limits::DIMENSION);
    SpecError::unless_empty(problems)?;

    if is_within_activations(spec.input) {
        return Ok(());
    }
    Err(Problem::Limit {
        place: "input".to_owned(),
        quantity: "values in a sample",
        limit: limits::ACTIVATIONS as u64,
    }
    .into())
}

/// Whether a sample of this shape has at most [`limits::ACTIVATIONS`] values.
pub(crate) fn is_within_activations(shape: Shape) -> bool {
    let elements = shape
        .dimensions()
        .into_iter()
        .try_fold(1usize, usize::checked_mul);
    elements.is_some_and(|elements| elements <= limits::ACTIVATIONS)
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
                self.limit(&place, "layers", limits::LAYERS);
            }
            self.check(spec, &place, nesting);
        }
    }

    fn check(&mut self, spec: &LayerSpec, place: &str, nesting: usize) {
        match *spec {
            LayerSpec::Conv {
                channels,
                window,
                groups,
                ..
            } => {
                self.range(place, "channels", channels, 1..=limits::DIMENSION);
                self.window(place, window, window.kernel.saturating_sub(1));
                self.range(place, "groups", groups, 1..=limits::DIMENSION);
            }
            LayerSpec::DepthwiseConv { window, .. } => {
                self.window(place, window, window.kernel.saturating_sub(1));
            }
            LayerSpec::MaxPool(window) | LayerSpec::AvgPool(window) => {
                self.window(place, window, window.kernel / 2);
                if window.padding == Padding::Same {
                    let allowed = format!("0 to {}", window.kernel / 2);
                    self.value(place, "padding", "\"same\"".to_owned(), allowed);
                }
            }
            LayerSpec::Linear { features, .. } => {
                self.range(place, "features", features, 1..=limits::DIMENSION);
            }
            LayerSpec::SqueezeExcitation { channels, .. } => {
                self.range(place, "channels", channels, 1..=limits::DIMENSION);
            }
            LayerSpec::BatchNorm { epsilon } => {
                if !(epsilon > 0.0 && epsilon <= 1.0) {
                    let allowed = "more than 0, at most 1".to_owned();
                    self.value(place, "epsilon", epsilon.to_string(), allowed);
                }
            }
            LayerSpec::Dropout { rate } => {
                if !(0.0..1.0).contains(&rate) {
                    let allowed = "0 or more, less than 1".to_owned();
                    self.value(place, "rate", rate.to_string(), allowed);
                }
            }
            LayerSpec::Residual { ref body, .. } => {
                self.range(place, "body", body.len(), 1..=limits::LAYERS);
                if nesting == limits::NESTING {
                    self.limit(place, "nested blocks", limits::NESTING);
                } else {
                    self.check_all(body, &format!("{place}.body"), nesting + 1);
                }
            }
            LayerSpec::Activation(_) | LayerSpec::GlobalAvgPool | LayerSpec::Flatten => {}
        }
    }

    fn window(&mut self, place: &str, window: Window, most_padding: usize) {
        self.range(place, "kernel", window.kernel, 1..=limits::KERNEL);
        self.range(place, "stride", window.stride, 1..=limits::KERNEL);
        if let Padding::Each(size) = window.padding {
            let most = most_padding.min(limits::KERNEL);
            self.range(place, "padding", size, 0..=most);
        }
    }

    fn range(&mut self, place: &str, key: &str, value: usize, allowed: RangeInclusive<usize>) {
        check_range(&mut self.problems, format!("{place}.{key}"), value, allowed);
    }

    fn value(&mut self, place: &str, key: &str, value: String, allowed: String) {
        self.problems.push(Problem::Value {
            place: format!("{place}.{key}"),
            value,
            allowed,
        });
    }

    fn limit(&mut self, place: &str, quantity: &'static str, limit: usize) {
        self.problems.push(Problem::Limit {
            place: place.to_owned(),
            quantity,
            limit: limit as u64,
        });
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
