//! Layers as libtorch operations.

use std::collections::BTreeMap;

use networks::{Activation, Layer, Operation, Pool, WeightsError};
use tch::{Kind, TchError, Tensor};

use crate::{
    Mode, Precision,
    activation::{activate, activate_in_place, add_and_activate},
    batch_norm::BatchNorm,
    conv_block::ConvBlock,
    dropout::dropout,
    mode::Pass,
};

/// A layer with its tensors. The tensors are shared with the optimizer, which updates them in place.
pub(crate) enum Module {
    Conv(ConvBlock),
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
            Module::Conv(block) => block.forward(input, None, block.activation, pass),
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
                let carried = run(shortcut, input, pass)?;
                // The block's last batch-norm, the sum and the activation are one operation.
                if let Some((Module::Conv(last), first)) = body.split_last()
                    && last.activation.is_none()
                {
                    let before_last = run(first, input, pass)?;
                    return last.forward(&before_last, Some(&carried), *activation, pass);
                }
                let learned = run(body, input, pass)?;
                add_and_activate(learned, Some(&carried), *activation)
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

impl Precision {
    pub(crate) fn kind(self) -> Kind {
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
            let module = self.module(layer, is_head, modules.last())?;
            match (module, modules.last_mut()) {
                (Module::BatchNorm(after), Some(Module::Conv(block))) if block.takes_norm() => {
                    block.norm = Some(after);
                }
                (Module::Activation { activation, .. }, Some(Module::Conv(block)))
                    if block.activation.is_none() =>
                {
                    block.activation = Some(activation);
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
            Operation::Conv(conv) => Module::Conv(ConvBlock {
                conv: *conv,
                weight: tensor("weight")?,
                bias: conv.bias.then(|| tensor("bias")).transpose()?,
                norm: None,
                activation: None,
            }),
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
                in_place: matches!(before, Some(Module::BatchNorm(_))),
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
