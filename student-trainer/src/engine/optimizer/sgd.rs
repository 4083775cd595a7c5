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

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    /// The parameter and the velocity after a step, without changing anything in place.
    fn plain(
        [parameter, velocity, gradient]: [&Tensor; 3],
        [momentum, weight_decay, learning_rate]: [f64; 3],
        nesterov: bool,
    ) -> [Tensor; 2] {
        let gradient = match weight_decay {
            0.0 => gradient.copy(),
            decay => parameter * decay + gradient,
        };
        let velocity = velocity * momentum + &gradient;
        let direction = match (momentum, nesterov) {
            (0.0, _) => gradient,
            (_, true) => &velocity * momentum + gradient,
            (_, false) => velocity.copy(),
        };
        [parameter - direction * learning_rate, velocity]
    }

    /// Checkpoints of older versions continue with the same bits only if this order of operations stays.
    #[test]
    fn steps_in_place_have_the_bits_of_the_plain_formula() {
        let draw = |step: u64| {
            let values = Tensor::arange(1000, (Kind::Float, Device::Cpu));
            ((values + step as f64) * 12.9898).sin()
        };
        for momentum in [0.0, 0.9] {
            for weight_decay in [0.0, 5e-4] {
                for nesterov in [false, true] {
                    let mut expected = [draw(0), Tensor::zeros_like(&draw(0))];
                    let mut parameters = [draw(0)];
                    let decays = vec![weight_decay];
                    let state = Slots::new();
                    let mut sgd = Sgd::new(momentum, nesterov, decays, &parameters, state).unwrap();
                    for done in 0..5 {
                        let learning_rate = 0.1 / (done + 1) as f64;
                        let gradient = draw(done + 7);
                        let [parameter, velocity] = &expected;
                        let settings = [momentum, weight_decay, learning_rate];
                        expected = plain([parameter, velocity, &gradient], settings, nesterov);
                        let step = Step {
                            done,
                            learning_rate,
                        };
                        sgd.step(&mut parameters, &[gradient], step).unwrap();
                        let [found, expected] = [&parameters[0], &expected[0]]
                            .map(|tensor| Vec::<f32>::try_from(tensor).unwrap());
                        assert!(found == expected, "{momentum} {weight_decay} {nesterov}");
                    }
                }
            }
        }
    }
}
