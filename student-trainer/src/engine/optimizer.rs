//! Optimizers. Written here because `tch::nn::Optimizer` can neither save nor load its state.

use tch::{TchError, Tensor};

use crate::config::OptimizerConfig;

/// Stochastic gradient descent with momentum, Nesterov's variant and L2 weight decay, as
/// `torch.optim.SGD` with dampening 0 (Sutskever et al. 2013, in PyTorch's formulation, where the
/// learning rate multiplies the velocity when it is applied).
#[derive(Debug)]
pub struct Sgd {
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
    /// One per parameter, in order; empty before the first step and without momentum.
    velocities: Vec<Tensor>,
}

impl Sgd {
    /// Continues with the [`velocities`](Self::velocities) of an earlier optimizer; empty at the start.
    pub fn new(config: OptimizerConfig, velocities: Vec<Tensor>) -> Self {
        let OptimizerConfig::Sgd {
            momentum,
            nesterov,
            weight_decay,
        } = config;
        Self {
            momentum,
            nesterov,
            weight_decay,
            velocities,
        }
    }

    /// The optimizer's state: one velocity per parameter, in order; empty before the first step and without
    /// momentum.
    pub fn velocities(&self) -> &[Tensor] {
        &self.velocities
    }

    /// Updates `parameters` by one step. `gradients` have the same order and shapes.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn step(
        &mut self,
        parameters: &mut [Tensor],
        gradients: Vec<Tensor>,
        learning_rate: f64,
    ) -> Result<(), TchError> {
        tch::no_grad(|| {
            let decayed = parameters
                .iter()
                .zip(gradients)
                .map(|(parameter, gradient)| self.decay(parameter, gradient))
                .collect::<Result<Vec<_>, _>>()?;
            let directions = self.accelerate(decayed)?;
            for (parameter, direction) in parameters.iter_mut().zip(directions) {
                let change = direction.f_mul_scalar(learning_rate)?;
                let _ = parameter.f_sub_(&change)?;
            }
            Ok(())
        })
    }

    fn decay(&self, parameter: &Tensor, gradient: Tensor) -> Result<Tensor, TchError> {
        match self.weight_decay {
            0.0 => Ok(gradient),
            decay => parameter.f_mul_scalar(decay)?.f_add_(&gradient),
        }
    }

    fn accelerate(&mut self, gradients: Vec<Tensor>) -> Result<Vec<Tensor>, TchError> {
        if self.momentum == 0.0 {
            return Ok(gradients);
        }
        if self.velocities.is_empty() {
            self.velocities = gradients
                .iter()
                .map(Tensor::f_zeros_like)
                .collect::<Result<_, _>>()?;
        }
        let accelerate = |(velocity, gradient): (&mut Tensor, Tensor)| {
            let _ = velocity.f_mul_scalar_(self.momentum)?.f_add_(&gradient)?;
            if self.nesterov {
                velocity.f_mul_scalar(self.momentum)?.f_add_(&gradient)
            } else {
                Ok(velocity.shallow_clone())
            }
        };
        self.velocities
            .iter_mut()
            .zip(gradients)
            .map(accelerate)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        optimizer: OptimizerConfig,
        learning_rates: Vec<f64>,
        /// [steps][parameters][values]
        gradients: Vec<Vec<Vec<f32>>>,
        initial: Vec<Vec<f32>>,
        /// After each step.
        parameters: Vec<Vec<Vec<f32>>>,
    }

    #[test]
    fn every_step_is_pytorchs() {
        let cases: Vec<Golden> =
            serde_json::from_str(include_str!("../../tests/golden/optimizers.json")).unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let tensors = |values: &[Vec<f32>]| -> Vec<Tensor> {
                values
                    .iter()
                    .map(|values| Tensor::from_slice(values))
                    .collect()
            };
            let mut optimizer = Sgd::new(case.optimizer, Vec::new());
            let mut parameters = tensors(&case.initial);
            assert!(case.gradients.len() >= 5);
            for (step, gradients) in case.gradients.iter().enumerate() {
                let rate = case.learning_rates[step];
                // A new optimizer for each step continues from the velocities alone.
                let velocities = optimizer.velocities().iter().map(Tensor::copy).collect();
                optimizer = Sgd::new(case.optimizer, velocities);
                optimizer
                    .step(&mut parameters, tensors(gradients), rate)
                    .unwrap();
                for (parameter, expected) in parameters.iter().zip(&case.parameters[step]) {
                    let found = Vec::<f32>::try_from(parameter).unwrap();
                    for (found, expected) in found.iter().zip(expected) {
                        let close = (found - expected).abs() <= 1e-7 + 1e-6 * expected.abs();
                        assert!(
                            close,
                            "{:?} step {step}: {found} {expected}",
                            case.optimizer
                        );
                    }
                }
            }
        }
    }
}
