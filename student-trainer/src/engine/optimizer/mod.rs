//! Optimizers. Written here because `tch::nn::Optimizer` can neither save nor load its state.

mod adamw;
mod groups;
mod sgd;

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use self::{adamw::AdamW, sgd::Sgd};
use crate::config::OptimizerConfig;

/// Updates parameters by their gradients.
pub trait Optimizer {
    /// Updates `parameters` by one step. `gradients` have the same order and shapes.
    ///
    /// # Errors
    /// If libtorch fails.
    fn step(
        &mut self,
        parameters: &mut [Tensor],
        gradients: &[Tensor],
        step: Step,
    ) -> Result<(), TchError>;

    /// The optimizer's state besides the position: each slot with a tensor for every parameter, in order.
    fn state(&self) -> Vec<(&'static str, &[Tensor])>;
}

/// One step of an optimizer.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Steps that the optimizer did before.
    pub done: u64,
    /// Learning rate of this step.
    pub learning_rate: f64,
}

/// State that [`Optimizer::state`] returned, by slot; empty for a new optimizer.
pub type Slots = BTreeMap<String, Vec<Tensor>>;

/// The optimizer of `config` for `parameters`. It continues from `state`.
///
/// # Errors
/// If libtorch fails.
pub fn optimizer(
    config: OptimizerConfig,
    parameters: &[Tensor],
    state: Slots,
) -> Result<Box<dyn Optimizer>, TchError> {
    Ok(match config {
        OptimizerConfig::Sgd {
            momentum,
            nesterov,
            weight_decay,
            decay,
        } => Box::new(Sgd::new(
            momentum,
            nesterov,
            groups::weight_decays(parameters, weight_decay, decay),
            parameters,
            state,
        )?),
        OptimizerConfig::AdamW {
            betas,
            eps,
            weight_decay,
            decay,
        } => Box::new(AdamW::new(
            betas,
            eps,
            groups::weight_decays(parameters, weight_decay, decay),
            parameters,
            state,
        )?),
    })
}

/// Removes a slot from `state`. A slot that is not there has zeros, in the memory layout of the parameters.
fn take(state: &mut Slots, slot: &str, parameters: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
    match state.remove(slot) {
        Some(tensors) => Ok(tensors),
        None => tch::no_grad(|| parameters.iter().map(Tensor::f_zeros_like).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        optimizer: OptimizerConfig,
        /// Of each parameter.
        shapes: Vec<Vec<i64>>,
        learning_rates: Vec<f64>,
        /// [steps][parameters][values]
        gradients: Vec<Vec<Vec<f32>>>,
        initial: Vec<Vec<f32>>,
        /// After each step.
        parameters: Vec<Vec<Vec<f32>>>,
    }

    /// A copy of the state, as it comes from a checkpoint.
    fn stored(optimizer: &dyn Optimizer) -> Slots {
        let copy = |tensors: &[Tensor]| tensors.iter().map(Tensor::copy).collect();
        let slots = optimizer.state().into_iter();
        slots
            .map(|(slot, tensors)| (slot.to_owned(), copy(tensors)))
            .collect()
    }

    #[test]
    fn every_step_is_pytorchs() {
        let cases: Vec<Golden> =
            serde_json::from_str(include_str!("../../../tests/golden/optimizers.json")).unwrap();
        assert!(cases.len() >= 12);
        for case in cases {
            let tensors = |values: &[Vec<f32>]| -> Vec<Tensor> {
                let shaped = values.iter().zip(&case.shapes);
                shaped
                    .map(|(values, shape)| Tensor::from_slice(values).view(&shape[..]))
                    .collect()
            };
            let mut parameters = tensors(&case.initial);
            let mut state = Slots::new();
            assert!(case.gradients.len() >= 10);
            for (done, gradients) in (0..).zip(&case.gradients) {
                // A new optimizer for each step continues from state and position alone.
                let mut optimizer = optimizer(case.optimizer, &parameters, state).unwrap();
                let step = Step {
                    done,
                    learning_rate: case.learning_rates[done as usize],
                };
                optimizer
                    .step(&mut parameters, &tensors(gradients), step)
                    .unwrap();
                state = stored(&*optimizer);
                for (parameter, expected) in parameters.iter().zip(&case.parameters[done as usize])
                {
                    let found = Vec::<f32>::try_from(parameter.view(-1)).unwrap();
                    assert_eq!(found.len(), expected.len());
                    for (found, expected) in found.iter().zip(expected) {
                        let close = (found - expected).abs() <= 1e-7 + 1e-6 * expected.abs();
                        assert!(
                            close,
                            "{:?} step {done}: {found} {expected}",
                            case.optimizer
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn an_optimizer_has_at_most_the_state_that_its_configuration_counts() {
        let parameters = [Tensor::from_slice(&[1.0_f32])];
        for config in [
            "kind = \"sgd\"",
            "kind = \"sgd\"\nmomentum = 0.9",
            "kind = \"adamw\"",
        ] {
            let config: OptimizerConfig = toml::from_str(config).unwrap();
            let optimizer = optimizer(config, &parameters, Slots::new()).unwrap();
            assert!(optimizer.state().len() <= config.slots(), "{config:?}");
        }
    }
}
