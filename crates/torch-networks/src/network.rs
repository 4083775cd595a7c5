//! A network that libtorch can run and train.

use std::collections::BTreeMap;

use networks::{Layer, NetworkSpec, Operation, TensorSpec, WeightTensor, Weights, tensors};
use tch::{Device, Kind, Tensor, no_grad};

use crate::{
    Mode, Precision, TorchError,
    input::check_shape,
    mode::Pass,
    module::{Builder, Module, run},
};

/// A network with its weights as libtorch tensors.
pub struct TorchNetwork {
    spec: NetworkSpec,
    modules: Vec<Module>,
    parameters: Vec<(String, Tensor)>,
    statistics: Vec<(String, Tensor)>,
    device: Device,
}

impl TorchNetwork {
    /// Builds the network on a device. Parameters require gradients. A network on a GPU makes libtorch use only
    /// algorithms that give the same bits in every run, and f32 instead of TF32, in the whole process.
    ///
    /// # Errors
    /// [`TorchError`] if the spec is invalid or the weights belong to another network.
    pub fn new(spec: &NetworkSpec, weights: &Weights, device: Device) -> Result<Self, TorchError> {
        let layers = spec.layers()?;
        let channels_last = match device {
            Device::Cpu => !layers.iter().any(triggers_onednn_overrun),
            // The layout of tensor cores.
            _ => true,
        };
        if device.is_cuda() && !torch_cuda::make_reproducible() {
            return Err(TorchError::NotReproducible);
        }
        let mut parameters = Vec::new();
        let mut statistics = Vec::new();
        let mut by_name = BTreeMap::new();
        for TensorSpec { name, role, .. } in tensors(&layers) {
            let values = weights
                .get(&name)
                .ok_or_else(|| networks::WeightsError::Missing(name.clone()))?;
            let tensor = arrange(to_tensor(values)?, channels_last)?
                .f_to_device(device)?
                .set_requires_grad(role.is_trainable());
            by_name.insert(name.clone(), tensor.shallow_clone());
            let list = if role.is_trainable() {
                &mut parameters
            } else {
                &mut statistics
            };
            list.push((name, tensor));
        }
        let modules = Builder {
            tensors: &by_name,
            dropouts: 0,
        }
        .sequence(&layers, true)?;
        Ok(TorchNetwork {
            spec: spec.clone(),
            modules,
            parameters,
            statistics,
            device,
        })
    }

    /// Computes logits, f32 [n, classes], of normalized images, f32 [n, c, h, w], or of vectors, f32
    /// [n, features], on the network's device.
    ///
    /// # Errors
    /// If the input has another shape; errors of libtorch.
    pub fn forward(
        &self,
        input: &Tensor,
        mode: Mode,
        precision: Precision,
    ) -> Result<Tensor, TorchError> {
        check_shape(input, self.spec.input)?;
        Ok(run(&self.modules, input, Pass { mode, precision })?)
    }

    /// The trainable tensors with their names, in network order.
    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// All tensors with their names: the parameters, then batch-norm's running statistics.
    pub fn tensors(&self) -> impl Iterator<Item = &(String, Tensor)> {
        self.parameters.iter().chain(&self.statistics)
    }

    /// Copies batch-norm's running statistics, which a forward pass in [`Mode::Train`] changes.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn copy_statistics(&self) -> Result<Vec<Tensor>, TorchError> {
        let copy = |(_, tensor): &(String, Tensor)| {
            let mut copy = tensor.f_empty_like()?;
            copy.f_copy_(tensor)?;
            Ok(copy)
        };
        no_grad(|| self.statistics.iter().map(copy).collect())
    }

    /// Sets batch-norm's running statistics to zero: one forward pass in [`Mode::Train`] then leaves the statistics of its
    /// batch, times [`crate::BATCH_NORM_MOMENTUM`].
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn zero_statistics(&self) -> Result<(), TorchError> {
        no_grad(|| {
            for (_, tensor) in &self.statistics {
                let _ = tensor.shallow_clone().f_zero_()?;
            }
            Ok(())
        })
    }

    /// Replaces the statistics by such as [`Self::copy_statistics`] returns.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn restore_statistics(&self, copies: &[Tensor]) -> Result<(), TorchError> {
        no_grad(|| {
            for ((_, tensor), copy) in self.statistics.iter().zip(copies) {
                tensor.shallow_clone().f_copy_(copy)?;
            }
            Ok(())
        })
    }

    /// The network's spec.
    pub fn spec(&self) -> &NetworkSpec {
        &self.spec
    }

    /// The device of the network's tensors.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The current weights.
    ///
    /// # Errors
    /// If a value is not finite (training diverged); errors of libtorch.
    pub fn weights(&self) -> Result<Weights, TorchError> {
        let mut tensors = Vec::new();
        for (name, tensor) in self.tensors() {
            tensors.push((name.clone(), to_values(tensor)?));
        }
        Ok(Weights::from_tensors(tensors, &self.spec)?)
    }

    /// Replaces all weights in place, so every holder of the parameters sees the new values.
    ///
    /// # Errors
    /// If the weights belong to another network; the old weights then stay.
    pub fn load_weights(&self, weights: &Weights) -> Result<(), TorchError> {
        let new = weights
            .iter()
            .map(|(name, tensor)| (name.to_owned(), tensor.clone()));
        let weights = Weights::from_tensors(new, &self.spec)?;
        no_grad(|| {
            for (name, tensor) in self.tensors() {
                if let Some(values) = weights.get(name) {
                    tensor.shallow_clone().f_copy_(&to_tensor(values)?)?;
                }
            }
            Ok(())
        })
    }
}

/// Whether training in channels-last layout would corrupt the heap. For a strided 1×1 convolution,
/// oneDNN's weight gradient writes beyond its workspace if the input has fewer channels than a
/// vector register has lanes, which is at most 16
/// (<https://github.com/uxlfoundation/oneDNN/issues/6035>).
fn triggers_onednn_overrun(layer: &Layer) -> bool {
    match &layer.operation {
        Operation::Conv(conv) => conv.kernel == 1 && conv.stride > 1 && conv.in_channels < 16,
        _ => layer.inner().any(triggers_onednn_overrun),
    }
}

/// Sets the memory layout of a convolution's weight, [out, in, height, width]; the activations take the same layout.
/// The strides are explicit: a weight with one input channel is contiguous in both layouts, and libtorch would see
/// the first convolution of a grayscale network, and every depthwise one, as contiguous.
fn arrange(tensor: Tensor, channels_last: bool) -> Result<Tensor, TorchError> {
    let size = tensor.size();
    let ([_, channels, height, width], true) = (size.as_slice(), channels_last) else {
        return Ok(tensor);
    };
    let strides = [height * width * channels, 1, width * channels, *channels];
    let options = (tensor.kind(), tensor.device());
    let mut arranged = Tensor::f_empty_strided(&size, strides, options)?;
    arranged.f_copy_(&tensor)?;
    Ok(arranged)
}

/// The values as an f32 tensor on the CPU.
///
/// # Errors
/// If the number of values does not match the shape; errors of libtorch.
pub fn to_tensor(values: &WeightTensor) -> Result<Tensor, TorchError> {
    let shape: Vec<_> = values.shape.iter().map(|&size| size as i64).collect();
    Ok(Tensor::f_from_slice(&values.data)?.f_view(shape.as_slice())?)
}

/// The values of a tensor of any layout, device and kind, as f32 in row-major order.
///
/// # Errors
/// Errors of libtorch.
pub fn to_values(tensor: &Tensor) -> Result<WeightTensor, TorchError> {
    let shape = tensor.size().iter().map(|&size| size as usize).collect();
    let flat = tensor
        .f_detach()?
        .f_to_device(Device::Cpu)?
        .f_to_kind(Kind::Float)?
        .f_reshape([-1])?;
    Ok(WeightTensor {
        shape,
        data: Vec::try_from(flat)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_trigger_the_onednn_overrun_are_detected() {
        let cases = [
            ("[4, 8]", true),
            ("[16, 15, 16]", true),
            ("[16, 32, 64]", false),
            // No strided convolution.
            ("[4]", false),
        ];
        for (widths, expected) in cases {
            let spec = format!(
                "input = [1, 12, 12]\nclasses = 10\npreset = \"resnet\"\nwidths = {widths}"
            );
            let spec = NetworkSpec::from_toml(&spec).expect("a spec");
            let layers = spec.layers().expect("layers");
            let found = layers.iter().any(triggers_onednn_overrun);
            assert_eq!(found, expected, "{widths}");
        }
    }
}
