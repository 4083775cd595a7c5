//! Layers as libtorch operations.

use std::collections::BTreeMap;

use networks::{Activation, Conv, Layer, Operation, Pool, WeightsError};
use tch::{Kind, TchError, Tensor};

use crate::{Mode, Precision, dropout::dropout};

/// The fraction of the running statistics that a training step replaces: PyTorch's default.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// A layer with its tensors. The tensors are shared with the optimizer, which updates them in place.
pub(crate) enum Module {
    /// A convolution, with the batch-norm right after it if there is one. In evaluation the
    /// batch-norm is folded into the weights, which saves a pass over the activations (5 to 8 % of
    /// a forward pass).
    Conv {
        conv: Conv,
        weight: Tensor,
        bias: Option<Tensor>,
        norm: Option<BatchNorm>,
    },
    BatchNorm(BatchNorm),
    Activation {
        activation: Activation,
        in_place: bool,
    },
    MaxPool(Pool),
    AvgPool(Pool),
    GlobalAvgPool,
    Residual {
        body: Vec<Module>,
        shortcut: Vec<Module>,
        activation: Option<Activation>,
    },
    Gate {
        gate: Vec<Module>,
    },
    Flatten,
    Linear {
        weight: Tensor,
        bias: Option<Tensor>,
        is_head: bool,
    },
    Dropout {
        rate: f64,
        stream: u64,
    },
}

/// Batch normalization, Ioffe and Szegedy 2015. Every tensor is f32 [channels].
pub(crate) struct BatchNorm {
    pub epsilon: f64,
    pub scale: Tensor,
    pub shift: Tensor,
    pub mean: Tensor,
    pub variance: Tensor,
}

/// How to run the modules.
#[derive(Clone, Copy)]
pub(crate) struct Pass {
    pub mode: Mode,
    pub precision: Precision,
}

/// Runs modules one after the other.
pub(crate) fn run(modules: &[Module], input: &Tensor, pass: Pass) -> Result<Tensor, TchError> {
    let mut value = input.shallow_clone();
    for module in modules {
        value = module.forward(&value, pass)?;
    }
    Ok(value)
}

impl Module {
    pub(crate) fn forward(&self, input: &Tensor, pass: Pass) -> Result<Tensor, TchError> {
        match self {
            Module::Conv {
                conv,
                weight,
                bias,
                norm: Some(norm),
            } => match pass.mode {
                Mode::Train { .. } => {
                    let output = convolve(conv, input, weight, bias.as_ref(), pass.precision)?;
                    norm.forward(&output, pass.mode)
                }
                Mode::Evaluate => {
                    let (weight, bias) = norm.fold_into(weight, bias.as_ref())?;
                    convolve(conv, input, &weight, Some(&bias), pass.precision)
                }
            },
            Module::Conv {
                conv,
                weight,
                bias,
                norm: None,
            } => convolve(conv, input, weight, bias.as_ref(), pass.precision),
            Module::BatchNorm(norm) => norm.forward(input, pass.mode),
            Module::Activation {
                activation,
                in_place: true,
            } => activate_in_place(*activation, input),
            Module::Activation {
                activation,
                in_place: false,
            } => activate(*activation, input),
            Module::MaxPool(pool) => {
                let [kernel, stride, padding] = window(pool);
                input.f_max_pool2d(kernel, stride, padding, [1, 1], false)
            }
            Module::AvgPool(pool) => {
                let [kernel, stride, padding] = window(pool);
                input.f_avg_pool2d(kernel, stride, padding, false, true, None)
            }
            Module::GlobalAvgPool => input.f_mean_dim([2i64, 3].as_slice(), true, Kind::Float),
            Module::Residual {
                body,
                shortcut,
                activation,
            } => {
                let learned = run(body, input, pass)?;
                let carried = run(shortcut, input, pass)?;
                let sum = learned.f_add(&carried.f_to_kind(learned.kind())?)?;
                match activation {
                    None => Ok(sum),
                    Some(activation) => activate_in_place(*activation, &sum),
                }
            }
            Module::Gate { gate } => {
                let factors = run(gate, input, pass)?;
                input.f_mul(&factors.f_to_kind(input.kind())?)
            }
            Module::Flatten => input.f_flatten(1, -1),
            Module::Linear {
                weight,
                bias,
                is_head,
            } => {
                let kind = if *is_head {
                    Kind::Float
                } else {
                    pass.precision.kind()
                };
                let bias = bias.as_ref().map(|bias| bias.f_to_kind(kind)).transpose()?;
                input
                    .f_to_kind(kind)?
                    .f_linear(&weight.f_to_kind(kind)?, bias.as_ref())
            }
            Module::Dropout { rate, stream } => match pass.mode {
                Mode::Train { dropout_seed } => dropout(input, *rate, dropout_seed, *stream),
                Mode::Evaluate => Ok(input.shallow_clone()),
            },
        }
    }
}

fn activate(activation: Activation, input: &Tensor) -> Result<Tensor, TchError> {
    match activation {
        Activation::Relu => input.f_relu(),
        Activation::Relu6 => input.f_relu6(),
        Activation::Silu => input.f_silu(),
        Activation::HardSwish => input.f_hardswish(),
        Activation::Sigmoid => input.f_sigmoid(),
    }
}

/// Overwrites the input where the gradient does not need it.
fn activate_in_place(activation: Activation, input: &Tensor) -> Result<Tensor, TchError> {
    match activation {
        Activation::Relu => input.shallow_clone().f_relu_(),
        Activation::Relu6 => input.shallow_clone().f_relu6_(),
        Activation::Silu | Activation::HardSwish | Activation::Sigmoid => {
            activate(activation, input)
        }
    }
}

pub(crate) fn convolve(
    conv: &Conv,
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    precision: Precision,
) -> Result<Tensor, TchError> {
    let kind = precision.kind();
    let pair = |size: usize| [size as i64; 2];
    let bias = bias.map(|bias| bias.f_to_kind(kind)).transpose()?;
    let mut input = input.f_to_kind(kind)?;
    let [top, left, bottom, right] = conv.padding.map(|size| size as i64);
    let mut padding = [top, left];
    if (top, left) != (bottom, right) {
        // The convolution pads opposite sides equally.
        input = input.f_constant_pad_nd([left, right, top, bottom])?;
        padding = [0, 0];
    }
    input.f_conv2d(
        &weight.f_to_kind(kind)?,
        bias.as_ref(),
        pair(conv.stride),
        padding,
        pair(1),
        conv.groups as i64,
    )
}

impl BatchNorm {
    fn forward(&self, input: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        let training = matches!(mode, Mode::Train { .. });
        if training && input.numel() < 2 * self.mean.numel() {
            // The variance would be 0/0, and the running statistics would keep it.
            let reason =
                "batch-norm cannot train on a single value per channel; use larger batches";
            return Err(TchError::Shape(reason.to_owned()));
        }
        input.f_batch_norm(
            Some(&self.scale),
            Some(&self.shift),
            Some(&self.mean),
            Some(&self.variance),
            training,
            BATCH_NORM_MOMENTUM,
            self.epsilon,
            true,
        )
    }

    /// Weight and bias of the convolution with folded batch-norm (see `networks::fold_batch_norm`).
    fn fold_into(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor), TchError> {
        let deviation = self.variance.f_add_scalar(self.epsilon)?.f_sqrt()?;
        let scale = self.scale.f_div(&deviation)?;
        let centre = match bias {
            Some(bias) => self.mean.f_sub(bias)?,
            None => self.mean.shallow_clone(),
        };
        let bias = self.shift.f_sub(&centre.f_mul(&scale)?)?;
        Ok((weight.f_mul(&scale.f_view([-1, 1, 1, 1])?)?, bias))
    }
}

impl Precision {
    fn kind(self) -> Kind {
        match self {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        }
    }
}

fn window(pool: &Pool) -> [[i64; 2]; 3] {
    [pool.kernel, pool.stride, pool.padding].map(|size| [size as i64; 2])
}

/// Builds modules from layers and the tensors that the layers name.
pub(crate) struct Builder<'a> {
    pub tensors: &'a BTreeMap<String, Tensor>,
    pub dropouts: u64,
}

impl Builder<'_> {
    /// `ends_network`: whether the last of these layers gives the logits.
    pub(crate) fn sequence(
        &mut self,
        layers: &[Layer],
        ends_network: bool,
    ) -> Result<Vec<Module>, WeightsError> {
        let mut modules: Vec<Module> = Vec::with_capacity(layers.len());
        for (i, layer) in layers.iter().enumerate() {
            let is_head = ends_network && i + 1 == layers.len();
            match (
                self.module(layer, is_head, modules.last())?,
                modules.last_mut(),
            ) {
                (
                    Module::BatchNorm(after),
                    Some(Module::Conv {
                        norm: norm @ None, ..
                    }),
                ) => {
                    *norm = Some(after);
                }
                (module, _) => modules.push(module),
            }
        }
        Ok(modules)
    }

    /// `before`: the module whose output this one may overwrite.
    pub(crate) fn module(
        &mut self,
        layer: &Layer,
        is_head: bool,
        before: Option<&Module>,
    ) -> Result<Module, WeightsError> {
        let tensor = |name: &str| {
            let name = format!("{}.{name}", layer.name);
            let tensor = self.tensors.get(&name).map(Tensor::shallow_clone);
            tensor.ok_or(WeightsError::Missing(name))
        };
        Ok(match &layer.operation {
            Operation::Conv(conv) => Module::Conv {
                conv: *conv,
                weight: tensor("weight")?,
                bias: conv.bias.then(|| tensor("bias")).transpose()?,
                norm: None,
            },
            Operation::Linear(linear) => Module::Linear {
                weight: tensor("weight")?,
                bias: linear.bias.then(|| tensor("bias")).transpose()?,
                is_head,
            },
            Operation::BatchNorm { epsilon, .. } => Module::BatchNorm(BatchNorm {
                epsilon: *epsilon,
                scale: tensor("weight")?,
                shift: tensor("bias")?,
                mean: tensor("running_mean")?,
                variance: tensor("running_var")?,
            }),
            // No other module uses the outputs of these layers, and their gradients do not need them.
            Operation::Activation(activation) => Module::Activation {
                activation: *activation,
                in_place: matches!(before, Some(Module::BatchNorm(_) | Module::Conv { .. })),
            },
            Operation::MaxPool(pool) => Module::MaxPool(*pool),
            Operation::AvgPool(pool) => Module::AvgPool(*pool),
            Operation::GlobalAvgPool => Module::GlobalAvgPool,
            Operation::Flatten => Module::Flatten,
            Operation::Residual {
                body,
                shortcut,
                activation,
            } => Module::Residual {
                body: self.sequence(body, false)?,
                shortcut: self.sequence(shortcut, false)?,
                activation: *activation,
            },
            Operation::Gate { gate } => Module::Gate {
                gate: self.sequence(gate, false)?,
            },
            Operation::Dropout { rate } => {
                self.dropouts += 1;
                Module::Dropout {
                    rate: *rate,
                    stream: self.dropouts,
                }
            }
        })
    }
}
