//! Resolves a spec to layers: validates values, infers shapes, enforces limits.

use crate::{
    Conv, Layer, LayerSpec, Linear, NetworkSpec, Operation, Pool, Problem, Shape, Shortcut,
    SpecError, limits, validation,
};

impl NetworkSpec {
    /// Resolves the layers in order: expands presets and checks every value and shape.
    ///
    /// # Errors
    /// All wrong values at once; otherwise the first invalid shape or exceeded limit.
    pub fn layers(&self) -> Result<Vec<Layer>, SpecError> {
        validation::check_input(self)?;
        let specs = self.expanded_layers()?;
        validation::check_layers(&specs)?;

        let [channels, height, width] = self.input;
        let classes = self.classes;
        let mut resolver = Resolver { weights: 0 };
        let (layers, output) = resolver.sequence(
            &specs,
            "layers",
            Shape::Image {
                channels,
                height,
                width,
            },
        )?;
        match output {
            Shape::Vector { features } if features == classes => Ok(layers),
            _ => Err(Problem::Output { output, classes }.into()),
        }
    }
}

/// Infers shapes layer by layer. Values have been validated, so arithmetic on a few of them cannot overflow.
struct Resolver {
    weights: u64,
}

impl Resolver {
    fn sequence(
        &mut self,
        specs: &[LayerSpec],
        name: &str,
        input: Shape,
    ) -> Result<(Vec<Layer>, Shape), SpecError> {
        let mut shape = input;
        let mut layers = Vec::with_capacity(specs.len());
        for (i, spec) in specs.iter().enumerate() {
            let layer = self.layer(spec, format!("{name}.{i}"), shape)?;
            shape = layer.output;
            layers.push(layer);
        }
        Ok((layers, shape))
    }

    fn layer(&mut self, spec: &LayerSpec, name: String, input: Shape) -> Result<Layer, SpecError> {
        let refuse = |reason: String| {
            SpecError::from(Problem::Shape {
                place: place(&name),
                layer: spec.layer_type(),
                input,
                reason,
            })
        };
        let image = || match input {
            Shape::Image {
                channels,
                height,
                width,
            } => Ok((channels, height, width)),
            Shape::Vector { .. } => Err(refuse(
                "expects an image, but its input is a vector".to_owned(),
            )),
        };
        let (operation, output) = match *spec {
            LayerSpec::Conv {
                channels,
                kernel,
                stride,
                padding,
                bias,
            } => {
                let (in_channels, height, width) = image()?;
                let (height, width) = windows(height, width, kernel, stride, padding)
                    .ok_or_else(|| too_small(&refuse, kernel))?;
                let conv = Conv {
                    in_channels,
                    out_channels: channels,
                    kernel,
                    stride,
                    padding,
                    groups: 1,
                    bias,
                };
                (
                    Operation::Conv(conv),
                    Shape::Image {
                        channels,
                        height,
                        width,
                    },
                )
            }
            LayerSpec::DepthwiseConv {
                kernel,
                stride,
                padding,
                bias,
            } => {
                let (channels, height, width) = image()?;
                let (height, width) = windows(height, width, kernel, stride, padding)
                    .ok_or_else(|| too_small(&refuse, kernel))?;
                let conv = Conv {
                    in_channels: channels,
                    out_channels: channels,
                    kernel,
                    stride,
                    padding,
                    groups: channels,
                    bias,
                };
                (
                    Operation::Conv(conv),
                    Shape::Image {
                        channels,
                        height,
                        width,
                    },
                )
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
                let (channels, height, width) = image()?;
                let (height, width) = windows(height, width, kernel, stride, padding)
                    .ok_or_else(|| too_small(&refuse, kernel))?;
                let pool = Pool {
                    kernel,
                    stride,
                    padding,
                };
                let operation = match spec {
                    LayerSpec::MaxPool { .. } => Operation::MaxPool(pool),
                    _ => Operation::AvgPool(pool),
                };
                (
                    operation,
                    Shape::Image {
                        channels,
                        height,
                        width,
                    },
                )
            }
            LayerSpec::GlobalAvgPool => {
                let (channels, ..) = image()?;
                (
                    Operation::GlobalAvgPool,
                    Shape::Image {
                        channels,
                        height: 1,
                        width: 1,
                    },
                )
            }
            LayerSpec::BatchNorm => (
                Operation::BatchNorm {
                    channels: input.channels(),
                },
                input,
            ),
            LayerSpec::Relu => (Operation::Relu, input),
            LayerSpec::Dropout { rate } => (Operation::Dropout { rate }, input),
            LayerSpec::Flatten => {
                image()?;
                (
                    Operation::Flatten,
                    Shape::Vector {
                        features: input.elements(),
                    },
                )
            }
            LayerSpec::Linear { features, bias } => match input {
                Shape::Vector {
                    features: in_features,
                } => (
                    Operation::Linear(Linear {
                        in_features,
                        out_features: features,
                        bias,
                    }),
                    Shape::Vector { features },
                ),
                Shape::Image { .. } => {
                    return Err(refuse(
                        "expects a vector, but its input is an image; put a flatten layer before it"
                            .to_owned(),
                    ));
                }
            },
            LayerSpec::Residual { ref body, shortcut } => {
                let (layers, output) = self.sequence(body, &format!("{name}.body"), input)?;
                let shortcut = match shortcut {
                    Some(Shortcut::Identity) => Vec::new(),
                    None if output == input => Vec::new(),
                    None | Some(Shortcut::Projection) => {
                        image()?;
                        self.projection(&name, input, output, image_stride(&layers))?
                    }
                };
                let carried = shortcut.last().map_or(input, |layer| layer.output);
                if carried != output {
                    return Err(refuse(format!(
                        "the body outputs {output}, the shortcut {carried}; the shapes must be equal"
                    )));
                }
                (
                    Operation::Residual {
                        body: layers,
                        shortcut,
                    },
                    output,
                )
            }
        };
        self.check_limits(&name, &operation, output)?;
        Ok(Layer {
            name,
            input,
            output,
            operation,
        })
    }

    /// A 1×1 convolution to the body's channels, with the body's stride, and batch-norm.
    fn projection(
        &mut self,
        name: &str,
        input: Shape,
        output: Shape,
        stride: usize,
    ) -> Result<Vec<Layer>, SpecError> {
        let specs = [
            LayerSpec::Conv {
                channels: output.channels(),
                kernel: 1,
                stride,
                padding: 0,
                bias: false,
            },
            LayerSpec::BatchNorm,
        ];
        Ok(self.sequence(&specs, &format!("{name}.shortcut"), input)?.0)
    }

    fn check_limits(
        &mut self,
        name: &str,
        operation: &Operation,
        output: Shape,
    ) -> Result<(), SpecError> {
        let exceeded = |quantity, limit| {
            SpecError::from(Problem::Limit {
                place: place(name),
                quantity,
                limit,
            })
        };
        let values = match output {
            // Three factors of at most 2^16 each stay below 2^64.
            Shape::Image {
                channels,
                height,
                width,
            } => (channels * height).checked_mul(width),
            Shape::Vector { features } => Some(features),
        };
        if values.is_none_or(|values| values > limits::ACTIVATIONS) {
            return Err(exceeded(
                "values in a sample's output",
                limits::ACTIVATIONS as u64,
            ));
        }
        // The limits on values and activations bound each factor: at most 2^16 · 2^16 · 2^12.
        self.weights += match *operation {
            Operation::Conv(conv) => conv.weight_count() + conv.out_channels as u64,
            Operation::Linear(linear) => linear.weight_count() + linear.out_features as u64,
            Operation::BatchNorm { channels } => 4 * channels as u64,
            _ => 0,
        };
        if self.weights > limits::WEIGHTS {
            Err(exceeded("weights", limits::WEIGHTS))
        } else {
            Ok(())
        }
    }
}

/// Output height and width of a sliding window, rounded down; `None` if the window is too large.
fn windows(
    height: usize,
    width: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Option<(usize, usize)> {
    let along = |size: usize| Some((size + 2 * padding).checked_sub(kernel)? / stride + 1);
    Some((along(height)?, along(width)?))
}

fn too_small(refuse: &impl Fn(String) -> SpecError, kernel: usize) -> SpecError {
    refuse(format!(
        "the padded image is smaller than the {kernel}×{kernel} window"
    ))
}

/// The combined stride of these layers: the distance in the input between neighbours in the output.
fn image_stride(layers: &[Layer]) -> usize {
    layers.iter().fold(1, |stride, layer| {
        let own = match &layer.operation {
            Operation::Conv(conv) => conv.stride,
            Operation::MaxPool(pool) | Operation::AvgPool(pool) => pool.stride,
            Operation::Residual { body, .. } => image_stride(body),
            _ => 1,
        };
        stride.saturating_mul(own)
    })
}

/// Converts a layer name to a path in the spec: `layers.2.body.0` → `layers[2].body[0]`.
fn place(name: &str) -> String {
    name.split('.')
        .fold(String::new(), |place, part| match part.parse::<usize>() {
            Ok(index) => format!("{place}[{index}]"),
            Err(_) if place.is_empty() => part.to_owned(),
            Err(_) => format!("{place}.{part}"),
        })
}
