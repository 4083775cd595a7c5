//! Resolves a spec to layers: validates values, infers shapes, enforces limits.

use crate::{
    Activation, BATCH_NORM_EPSILON, Conv, Layer, LayerSpec, Linear, NetworkSpec, Operation,
    Padding, Pool, Problem, Shape, Shortcut, SpecError, Window, limits, validation,
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

        let classes = self.classes;
        let mut resolver = Resolver { weights: 0 };
        let (layers, output) = resolver.sequence(&specs, "layers", self.input)?;
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
        let image = || {
            let vector = |_| refuse("expects an image, but its input is a vector".to_owned());
            input.image().map_err(vector)
        };
        // Padding of the window, and the shape of its output with this number of channels.
        let slide = |window: Window, out_channels: usize| {
            let [_, height, width] = image()?;
            let padding = window.padding(height, width);
            let [height, width] = window.output(height, width, padding).ok_or_else(|| {
                refuse(format!(
                    "the padded image is smaller than the {0}×{0} window",
                    window.kernel
                ))
            })?;
            Ok::<_, SpecError>((padding, Shape::from([out_channels, height, width])))
        };
        let convolve = |channels: usize, window: Window, groups: usize, bias: bool| {
            let [in_channels, ..] = image()?;
            if !(in_channels.is_multiple_of(groups) && channels.is_multiple_of(groups)) {
                return Err(refuse(format!(
                    "groups = {groups} does not divide {in_channels} input channels and \
                     {channels} output channels"
                )));
            }
            let (padding, output) = slide(window, channels)?;
            let conv = Conv {
                in_channels,
                out_channels: channels,
                kernel: window.kernel,
                stride: window.stride,
                padding,
                groups,
                bias,
            };
            Ok((Operation::Conv(conv), output))
        };
        let pool = |window: Window| {
            let [channels, ..] = image()?;
            let ([padding, ..], output) = slide(window, channels)?;
            let pool = Pool {
                kernel: window.kernel,
                stride: window.stride,
                padding,
            };
            Ok::<_, SpecError>((pool, output))
        };
        let (operation, output) = match *spec {
            LayerSpec::Conv {
                channels,
                window,
                groups,
                bias,
            } => convolve(channels, window, groups, bias)?,
            LayerSpec::DepthwiseConv { window, bias } => {
                let [channels, ..] = image()?;
                convolve(channels, window, channels, bias)?
            }
            LayerSpec::MaxPool(window) => {
                let (pool, output) = pool(window)?;
                (Operation::MaxPool(pool), output)
            }
            LayerSpec::AvgPool(window) => {
                let (pool, output) = pool(window)?;
                (Operation::AvgPool(pool), output)
            }
            LayerSpec::GlobalAvgPool => {
                let [channels, ..] = image()?;
                (Operation::GlobalAvgPool, [channels, 1, 1].into())
            }
            LayerSpec::BatchNorm { epsilon } => {
                let channels = input.channels();
                (Operation::BatchNorm { channels, epsilon }, input)
            }
            LayerSpec::Activation(activation) => (Operation::Activation(activation), input),
            LayerSpec::Dropout { rate } => (Operation::Dropout { rate }, input),
            LayerSpec::Flatten => {
                image()?;
                let features = input.elements();
                (Operation::Flatten, Shape::Vector { features })
            }
            LayerSpec::Linear { features, bias } => {
                let Shape::Vector {
                    features: in_features,
                } = input
                else {
                    return Err(refuse(
                        "expects a vector, but its input is an image; put a flatten layer before it"
                            .to_owned(),
                    ));
                };
                let linear = Linear {
                    in_features,
                    out_features: features,
                    bias,
                };
                (Operation::Linear(linear), Shape::Vector { features })
            }
            LayerSpec::SqueezeExcitation {
                channels,
                activation,
            } => {
                let [outputs, ..] = image()?;
                let specs = gate(channels, activation, outputs);
                let (gate, _) = self.sequence(&specs, &format!("{name}.gate"), input)?;
                (Operation::Gate { gate }, input)
            }
            LayerSpec::Residual {
                ref body,
                shortcut,
                activation,
            } => {
                let (body, output) = self.sequence(body, &format!("{name}.body"), input)?;
                let (shortcut, carried) = match shortcut {
                    Some(Shortcut::Identity) => (Vec::new(), input),
                    None if output == input => (Vec::new(), input),
                    None | Some(Shortcut::Projection) => {
                        image()?;
                        let specs = projection(output.channels(), image_stride(&body));
                        self.sequence(&specs, &format!("{name}.shortcut"), input)?
                    }
                };
                if carried != output {
                    return Err(refuse(format!(
                        "the body outputs {output}, the shortcut {carried}; the shapes must be equal"
                    )));
                }
                let operation = Operation::Residual {
                    body,
                    shortcut,
                    activation,
                };
                (operation, output)
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

    fn check_limits(
        &mut self,
        name: &str,
        operation: &Operation,
        output: Shape,
    ) -> Result<(), SpecError> {
        let exceeded = |quantity, limit| {
            Err(SpecError::from(Problem::Limit {
                place: place(name),
                quantity,
                limit,
            }))
        };
        if !validation::is_within_activations(output) {
            let limit = limits::ACTIVATIONS as u64;
            return exceeded("values in a sample's output", limit);
        }
        // The limits on values and activations bound each factor: at most 2^16 · 2^16 · 2^12.
        self.weights += match *operation {
            Operation::Conv(conv) => conv.weight_count() + conv.out_channels as u64,
            Operation::Linear(linear) => linear.weight_count() + linear.out_features as u64,
            Operation::BatchNorm { channels, .. } => 4 * channels as u64,
            _ => 0,
        };
        if self.weights > limits::WEIGHTS {
            return exceeded("weights", limits::WEIGHTS);
        }
        Ok(())
    }
}

impl Window {
    /// Values added at the top, left, bottom and right of an image.
    fn padding(self, height: usize, width: usize) -> [usize; 4] {
        let same = |size: usize| {
            let covered = (size.div_ceil(self.stride) - 1) * self.stride + self.kernel;
            let total = covered.saturating_sub(size);
            (total / 2, total - total / 2)
        };
        match self.padding {
            Padding::Each(size) => [size; 4],
            Padding::Same => {
                let ((top, bottom), (left, right)) = (same(height), same(width));
                [top, left, bottom, right]
            }
        }
    }

    /// Height and width of the output, rounded down; `None` if the window is larger than the padded image.
    fn output(
        self,
        height: usize,
        width: usize,
        [top, left, bottom, right]: [usize; 4],
    ) -> Option<[usize; 2]> {
        let along = |size: usize| Some(size.checked_sub(self.kernel)? / self.stride + 1);
        Some([along(height + top + bottom)?, along(width + left + right)?])
    }
}

/// The layers that compute the factors of squeeze-and-excitation.
fn gate(channels: usize, activation: Activation, outputs: usize) -> [LayerSpec; 5] {
    let pointwise = |channels| LayerSpec::Conv {
        channels,
        window: Window::centred(1, 1),
        groups: 1,
        bias: true,
    };
    [
        LayerSpec::GlobalAvgPool,
        pointwise(channels),
        LayerSpec::Activation(activation),
        pointwise(outputs),
        LayerSpec::Activation(Activation::Sigmoid),
    ]
}

/// A 1×1 convolution to the body's channels, with the body's stride, and batch-norm.
fn projection(channels: usize, stride: usize) -> [LayerSpec; 2] {
    let conv = LayerSpec::Conv {
        channels,
        window: Window::centred(1, stride),
        groups: 1,
        bias: false,
    };
    let epsilon = BATCH_NORM_EPSILON;
    [conv, LayerSpec::BatchNorm { epsilon }]
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
