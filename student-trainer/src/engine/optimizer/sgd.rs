//! Stochastic gradient descent.

use tch::{TchError, Tensor};

use super::{Optimizer, Slots, Step, take};

const VELOCITY: &str = "velocity";

/// Stochastic gradient descent with momentum, Nesterov's variant and L2 weight decay, as
/// `torch.optim.SGD` with dampening 0 (Sutskever et al. 2013, in PyTorch's formulation, where the
/// learning rate multiplies the velocity when it is applied).
#[derive(Debug)]
pub(super) struct Sgd {
    momentum: f64,
    nesterov: bool,
    /// Of each parameter.
    weight_decays: Vec<f64>,
    /// One per parameter, in order; empty without momentum.
    velocities: Vec<Tensor>,
}

impl Sgd {
    pub(super) fn new(
        momentum: f64,
        nesterov: bool,
        weight_decays: Vec<f64>,
        parameters: &[Tensor],
        mut state: Slots,
    ) -> Result<Self, TchError> {
        let velocities = if momentum == 0.0 {
            Vec::new()
        } else {
            take(&mut state, VELOCITY, parameters)?
        };
        Ok(Self {
            momentum,
            nesterov,
            weight_decays,
            velocities,
        })
    }

    /// The direction of parameter `index` times the learning rate, from its gradient with weight decay.
    fn change(
        &mut self,
        index: usize,
        gradient: &Tensor,
        learning_rate: f64,
    ) -> Result<Tensor, TchError> {
        let Some(velocity) = self.velocities.get_mut(index) else {
            return gradient.f_mul_scalar(learning_rate);
        };
        let _ = velocity.f_mul_scalar_(self.momentum)?.f_add_(gradient)?;
        if self.nesterov {
            velocity
                .f_mul_scalar(self.momentum)?
                .f_add_(gradient)?
                .f_mul_scalar_(learning_rate)
        } else {
            velocity.f_mul_scalar(learning_rate)
        }
    }
}

impl Optimizer for Sgd {
    fn step(
        &mut self,
        parameters: &mut [Tensor],
        gradients: &[Tensor],
        Step { learning_rate, .. }: Step,
    ) -> Result<(), TchError> {
        tch::no_grad(|| {
            for (index, (parameter, gradient)) in parameters.iter_mut().zip(gradients).enumerate() {
                let change = match self.weight_decays[index] {
                    0.0 => self.change(index, gradient, learning_rate)?,
                    decay => {
                        let decayed = parameter.f_mul_scalar(decay)?.f_add_(gradient)?;
                        self.change(index, &decayed, learning_rate)?
                    }
                };
                let _ = parameter.f_sub_(&change)?;
            }
            Ok(())
        })
    }

    fn state(&self) -> Vec<(&'static str, &[Tensor])> {
        if self.velocities.is_empty() {
            return Vec::new();
        }
        vec![(VELOCITY, &self.velocities)]
    }
}
