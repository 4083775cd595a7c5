//! Updates a network by the gradients of each step: clipping, optimizer, moving average.

use std::collections::BTreeMap;

use networks::{WeightTensor, WeightsError};
use tch::{TchError, Tensor};
use torch_networks::{to_tensor, to_values};

use super::{
    TorchError, TorchNetwork,
    ema::Ema,
    gradients,
    optimizer::{Optimizer, Slots, Step, optimizer},
    state::{OptimizerState, PhaseState},
};
use crate::config::PhaseConfig;

/// Everything that changes with a step of a phase besides batch-norm's statistics.
pub(super) struct Updater<'n> {
    network: &'n TorchNetwork,
    /// The network's parameters, sharing its storage.
    parameters: Vec<Tensor>,
    optimizer: Box<dyn Optimizer>,
    gradient_clip_norm: Option<f64>,
    /// What [`Self::measure`] found last.
    gradient_norm: Option<Tensor>,
    ema: Option<Ema>,
}

impl<'n> Updater<'n> {
    /// Continues from the state of an interrupted phase. The network has its weights already.
    pub(super) fn new(
        network: &'n TorchNetwork,
        config: &PhaseConfig,
        resumed: Option<&PhaseState>,
    ) -> Result<Self, TorchError> {
        let named = network.parameters().iter();
        let parameters: Vec<_> = named
            .map(|(_, parameter)| parameter.shallow_clone())
            .collect();
        let slots = match resumed {
            Some(state) => slots(network, &state.optimizer)?,
            None => Slots::new(),
        };
        let averaged = resumed.and_then(|state| state.ema.as_ref());
        let ema = config.ema.map(|ema| Ema::new(ema, network, averaged));
        Ok(Self {
            network,
            optimizer: optimizer(config.optimizer, &parameters, slots)?,
            parameters,
            gradient_clip_norm: config.gradient_clip_norm,
            gradient_norm: None,
            ema: ema.transpose()?,
        })
    }

    /// The gradient of `loss` for each parameter.
    pub(super) fn gradients(&self, loss: &Tensor) -> Result<Vec<Tensor>, TchError> {
        Tensor::f_run_backward(&[loss], &self.parameters, false, false)
    }

    /// The parameters in the order of their gradients.
    pub(super) fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    /// Measures the norm of a step's gradients, before the step clips them. Reads nothing from the device, and changes
    /// nothing.
    pub(super) fn measure(&mut self, gradients: &[Tensor]) -> Result<(), TchError> {
        self.gradient_norm = Some(gradients::norm(gradients)?);
        Ok(())
    }

    /// Does one step.
    pub(super) fn step(&mut self, gradients: Vec<Tensor>, step: Step) -> Result<(), TchError> {
        let gradients = match self.gradient_clip_norm {
            None => gradients,
            Some(max_norm) => gradients::clip(&gradients, max_norm)?,
        };
        self.optimizer
            .step(&mut self.parameters, &gradients, step)?;
        match &mut self.ema {
            Some(ema) => ema.update(step.done),
            None => Ok(()),
        }
    }

    /// The norm of the gradients that were measured last.
    pub(super) fn gradient_norm(&self) -> Result<Option<f64>, TchError> {
        let norm = self.gradient_norm.as_ref();
        norm.map(|norm| norm.f_double_value(&[])).transpose()
    }

    /// The network whose weights are the result: the moving average if there is one.
    pub(super) fn result(&self) -> &TorchNetwork {
        self.average().unwrap_or(self.network)
    }

    /// The network with averaged weights, if the phase has a moving average.
    pub(super) fn average(&self) -> Option<&TorchNetwork> {
        self.ema.as_ref().map(Ema::network)
    }

    /// The optimizer's state, by slot and parameter.
    pub(super) fn optimizer_state(&self) -> Result<OptimizerState, TorchError> {
        let slots = self.optimizer.state().into_iter();
        let named = |tensors: &[Tensor]| -> Result<BTreeMap<String, WeightTensor>, TorchError> {
            let names = self.network.parameters().iter().map(|(name, _)| name);
            names
                .zip(tensors)
                .map(|(name, tensor)| Ok((name.clone(), to_values(tensor)?)))
                .collect()
        };
        slots
            .map(|(slot, tensors)| Ok((slot.to_owned(), named(tensors)?)))
            .collect()
    }
}

/// The optimizer's state in the order of the network's parameters, in their memory layout and on their device.
fn slots(network: &TorchNetwork, state: &OptimizerState) -> Result<Slots, TorchError> {
    let slot = |tensors: &BTreeMap<String, WeightTensor>| {
        let tensor = |(name, parameter): &(String, Tensor)| {
            let values = tensors.get(name);
            let values = values.ok_or_else(|| WeightsError::Missing(name.clone()))?;
            let mut tensor = parameter.f_zeros_like()?;
            tensor.f_copy_(&to_tensor(values)?)?;
            Ok(tensor)
        };
        network
            .parameters()
            .iter()
            .map(tensor)
            .collect::<Result<_, TorchError>>()
    };
    let slots = state.iter();
    tch::no_grad(|| {
        slots
            .map(|(name, tensors)| Ok((name.clone(), slot(tensors)?)))
            .collect()
    })
}
