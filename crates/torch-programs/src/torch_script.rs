//! Files of `torch.jit.save`.

use std::path::Path;

use tch::{CModule, Device, IValue, Tensor, jit};

use crate::{ProgramError, error::concise};

/// A TorchScript program, in evaluation mode.
///
/// A program that was traced in training mode has that mode in its graph, and computes as in training.
#[derive(Debug)]
pub struct TorchScript {
    module: CModule,
    device: Device,
}

impl TorchScript {
    pub(crate) fn open(path: &Path, device: Device) -> Result<Self, ProgramError> {
        let load = |error: tch::TchError| ProgramError::Load {
            path: path.to_owned(),
            message: concise(&error.to_string()),
        };
        let mut module = CModule::load_on_device(path, device).map_err(load)?;
        module.f_set_eval().map_err(load)?;
        Ok(Self { module, device })
    }

    /// Number of trained values; `None` if the program has none marked, as after `torch.jit.freeze`.
    pub fn parameters(&self) -> Option<u64> {
        let parameters = self.module.named_parameters().ok()?;
        let count = parameters
            .iter()
            .map(|(_, parameter)| parameter.numel() as u64)
            .sum();
        (count > 0).then_some(count)
    }

    /// Runs `forward`. Outputs in tuples, lists and dictionaries are returned in their order.
    pub(crate) fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ProgramError> {
        // The optimizing executor profiles the first calls and computes later calls with another graph, whose results
        // may differ in the last bits. libtorch keeps this setting per thread.
        jit::f_set_graph_executor_optimize(false)?;
        let inputs = inputs
            .iter()
            .map(|input| Ok(IValue::Tensor(input.f_to_device(self.device)?)))
            .collect::<Result<Vec<_>, ProgramError>>()?;
        let mut outputs = Vec::new();
        flatten(self.module.forward_is(&inputs)?, &mut outputs)?;
        Ok(outputs)
    }
}

fn flatten(value: IValue, outputs: &mut Vec<Tensor>) -> Result<(), ProgramError> {
    match value {
        IValue::Tensor(tensor) => outputs.push(tensor),
        IValue::TensorList(tensors) => outputs.extend(tensors),
        IValue::Tuple(values) | IValue::GenericList(values) => {
            for value in values {
                flatten(value, outputs)?;
            }
        }
        IValue::GenericDict(entries) => {
            for (_, value) in entries {
                flatten(value, outputs)?;
            }
        }
        _ => {
            return Err(ProgramError::Run(
                "it returned a value that is not a tensor, nor a tuple, list or dictionary of tensors".to_owned(),
            ));
        }
    }
    Ok(())
}
