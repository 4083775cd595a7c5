//! A network that computes as its exported model in int8 does, for quantization-aware training.
//!
//! Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference":
//! the forward pass rounds weights and activations to the values that they have in int8, and computes with these values
//! in f32. Rounding has the gradient of the identity (the straight-through estimator); values outside of a range have
//! none.

mod kernel;

use std::collections::BTreeMap;

use networks::{
    Activation, Layer, Operation, Shape,
    onnx::{self, ActivationScale, Ranges, activation_scale, output_tensor},
};
use tch::{Device, TchError, Tensor};

use crate::{
    Mode, Precision, TorchError, TorchNetwork,
    input::check_shape,
    mode::Pass,
    module::{Builder, Module},
};
use kernel::{Kernel, Product};

/// The forward pass of a network's form in int8, as `networks::onnx::quantize` writes it: the same tensors are rounded,
/// with the same scales. It shares the tensors of the network from which it is made, so it follows their updates.
///
/// Batch-norm uses its running statistics and is folded into the layer before it, and dropout does nothing, as in the
/// exported model. It computes in f32.
pub struct FakeQuantizedNetwork {
    steps: Vec<Step>,
    input: Shape,
    device: Device,
}

/// A layer with the rounding of its input, if it has a rounded one.
struct Step {
    rounding: Option<ActivationScale>,
    operator: Operator,
}

enum Operator {
    Kernel(Kernel),
    /// A layer without weights, or a batch-norm that follows no convolution or linear layer.
    Module(Module),
    /// x · sigmoid(x), whose input is rounded before.
    Silu {
        factors: ActivationScale,
    },
    Residual {
        body: Vec<Step>,
        shortcut: Vec<Step>,
        learned: ActivationScale,
        carried: ActivationScale,
        activation: Option<Box<Step>>,
    },
    Gate {
        gate: Vec<Step>,
        input: ActivationScale,
        factors: ActivationScale,
    },
}

/// Layers run in evaluation, in f32.
const PASS: Pass = Pass {
    mode: Mode::Evaluate,
    precision: Precision::F32,
};

impl FakeQuantizedNetwork {
    /// The form in int8 of `network`, whose activations have these ranges. They have the names of the model of
    /// `networks::onnx::export`, or for rows of `networks::onnx::export_standardized`.
    ///
    /// # Errors
    /// [`TorchError::Quantize`] if the range of a tensor is missing or not finite.
    pub fn new(network: &TorchNetwork, ranges: &Ranges) -> Result<Self, TorchError> {
        let spec = network.spec();
        let tensors = network.tensors();
        let tensors: BTreeMap<_, _> = tensors
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect();
        let mut steps = Steps {
            modules: Builder {
                tensors: &tensors,
                dropouts: 0,
            },
            ranges,
        };
        let input = match spec.input {
            Shape::Image { .. } => onnx::INPUT,
            Shape::Vector { .. } => onnx::STANDARDIZED_INPUT,
        };
        let (steps, _) = steps.sequence(&spec.layers()?, input.to_owned())?;
        Ok(Self {
            steps,
            input: spec.input,
            device: network.device(),
        })
    }

    /// Computes logits, f32 [n, classes], of normalized images, f32 [n, c, h, w], or of vectors, f32 [n, features], on
    /// the network's device.
    ///
    /// # Errors
    /// If the input has another shape; errors of libtorch.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor, TorchError> {
        check_shape(input, self.input)?;
        Ok(run(&self.steps, input)?)
    }

    /// The device of the network's tensors.
    pub fn device(&self) -> Device {
        self.device
    }
}

fn run(steps: &[Step], input: &Tensor) -> Result<Tensor, TchError> {
    let mut value = input.shallow_clone();
    for step in steps {
        value = step.forward(&value)?;
    }
    Ok(value)
}

/// The values of a tensor as they are in u8.
fn round(
    value: &Tensor,
    ActivationScale { scale, zero_point }: ActivationScale,
) -> Result<Tensor, TchError> {
    let last = i64::from(u8::MAX);
    value.f_fake_quantize_per_tensor_affine(scale.into(), zero_point.into(), 0, last)
}

impl Step {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let rounded = self.rounding.map(|scale| round(input, scale)).transpose()?;
        let input = rounded.as_ref().unwrap_or(input);
        match &self.operator {
            Operator::Kernel(kernel) => kernel.forward(input),
            Operator::Module(module) => module.forward(input, PASS),
            Operator::Silu { factors } => input.f_mul(&round(&input.f_sigmoid()?, *factors)?),
            Operator::Residual {
                body,
                shortcut,
                learned,
                carried,
                activation,
            } => {
                let learned = round(&run(body, input)?, *learned)?;
                let carried = round(&run(shortcut, input)?, *carried)?;
                let sum = learned.f_add(&carried)?;
                match activation {
                    None => Ok(sum),
                    Some(activation) => activation.forward(&sum),
                }
            }
            Operator::Gate {
                gate,
                input: scale,
                factors,
            } => {
                let factors = round(&run(gate, input)?, *factors)?;
                round(input, *scale)?.f_mul(&factors)
            }
        }
    }
}

/// Builds steps from layers. `tensor` is always the name of a tensor in the exported model, in which a batch-norm is a
/// part of the layer before it and dropout is none. An operator whose output has values of its input alone keeps the
/// name, because its output is rounded as its input.
struct Steps<'a> {
    modules: Builder<'a>,
    ranges: &'a Ranges,
}

impl Steps<'_> {
    /// The steps of `layers`, whose input is `tensor`, and the name of their output.
    fn sequence(
        &mut self,
        layers: &[Layer],
        mut tensor: String,
    ) -> Result<(Vec<Step>, String), TorchError> {
        let mut steps: Vec<Step> = Vec::with_capacity(layers.len());
        for layer in layers {
            if matches!(layer.operation, Operation::Dropout { .. }) {
                continue;
            }
            if matches!(layer.operation, Operation::BatchNorm { .. })
                && let Some(Operator::Kernel(kernel)) =
                    steps.last_mut().map(|step| &mut step.operator)
                && let Module::BatchNorm(norm) = self.modules.module(layer, false, None)?
            {
                kernel.norms.push(norm);
                continue;
            }
            steps.push(self.step(layer, &tensor)?);
            if !matches!(layer.operation, Operation::MaxPool(_) | Operation::Flatten) {
                tensor = output_tensor(&layer.name);
            }
        }
        Ok((steps, tensor))
    }

    fn step(&mut self, layer: &Layer, tensor: &str) -> Result<Step, TorchError> {
        let operator = match &layer.operation {
            Operation::Residual {
                body,
                shortcut,
                activation,
            } => {
                let (body, learned) = self.sequence(body, tensor.to_owned())?;
                let (shortcut, carried) = self.sequence(shortcut, tensor.to_owned())?;
                let sum = output_tensor(&format!("{}.add", layer.name));
                let activation = activation.map(|activation| {
                    let step = self.activation(&layer.name, activation, &sum);
                    step.map(Box::new)
                });
                Operator::Residual {
                    body,
                    shortcut,
                    learned: self.scale(&learned)?,
                    carried: self.scale(&carried)?,
                    activation: activation.transpose()?,
                }
            }
            Operation::Gate { gate } => {
                let (gate, factors) = self.sequence(gate, tensor.to_owned())?;
                Operator::Gate {
                    gate,
                    input: self.scale(tensor)?,
                    factors: self.scale(&factors)?,
                }
            }
            Operation::Activation(activation) => {
                return self.activation(&layer.name, *activation, tensor);
            }
            _ => {
                let in_f32 = matches!(&layer.operation, Operation::Conv(conv)
                    if onnx::computes_in_f32(tensor, conv.in_channels / conv.groups));
                let rounding = if in_f32 {
                    None
                } else {
                    Some(self.scale(tensor)?)
                };
                let kernel = |product, weight, bias| {
                    Operator::Kernel(Kernel {
                        product,
                        weight,
                        bias,
                        norms: Vec::new(),
                        input_scale: rounding.map(|rounding| rounding.scale),
                    })
                };
                let operator = match self.modules.module(layer, false, None)? {
                    Module::Conv(block) => {
                        kernel(Product::Conv(block.conv), block.weight, block.bias)
                    }
                    Module::Linear { weight, bias, .. } => kernel(Product::Linear, weight, bias),
                    module => Operator::Module(module),
                };
                return Ok(Step { rounding, operator });
            }
        };
        Ok(Step {
            rounding: None,
            operator,
        })
    }

    /// An activation in the layer `name`. ONNX Runtime makes ReLU and ReLU6 a part of the rounding after them, so their
    /// input is not rounded.
    fn activation(
        &self,
        name: &str,
        activation: Activation,
        tensor: &str,
    ) -> Result<Step, TorchError> {
        let module = Module::Activation {
            activation,
            in_place: false,
        };
        let (rounding, operator) = match activation {
            Activation::Relu | Activation::Relu6 => (None, Operator::Module(module)),
            Activation::HardSwish | Activation::Sigmoid => {
                (Some(self.scale(tensor)?), Operator::Module(module))
            }
            Activation::Silu => {
                let factors = output_tensor(&format!("{name}.sigmoid"));
                let factors = self.scale(&factors)?;
                (Some(self.scale(tensor)?), Operator::Silu { factors })
            }
        };
        Ok(Step { rounding, operator })
    }

    fn scale(&self, tensor: &str) -> Result<ActivationScale, TorchError> {
        Ok(activation_scale(tensor, self.ranges.get(tensor).copied())?)
    }
}

#[cfg(test)]
mod tests;
