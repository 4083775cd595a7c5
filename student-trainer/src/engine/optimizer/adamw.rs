//! Adam with decoupled weight decay.

use tch::{TchError, Tensor};

use super::{Optimizer, Slots, Step, take};

const EXP_AVG: &str = "exp_avg";
const EXP_AVG_SQ: &str = "exp_avg_sq";

/// AdamW (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization"), in the order of operations of
/// `torch.optim.AdamW` without AMSGrad. The names of its slots are PyTorch's.
#[derive(Debug)]
pub(super) struct AdamW {
    betas: [f64; 2],
    eps: f64,
    /// Of each parameter.
    weight_decays: Vec<f64>,
    /// Averages of the gradients.
    exp_avg: Vec<Tensor>,
    /// Averages of the squared gradients.
    exp_avg_sq: Vec<Tensor>,
}

impl AdamW {
    pub(super) fn new(
        betas: [f64; 2],
        eps: f64,
        weight_decays: Vec<f64>,
        parameters: &[Tensor],
        mut state: Slots,
    ) -> Result<Self, TchError> {
        Ok(Self {
            betas,
            eps,
            weight_decays,
            exp_avg: take(&mut state, EXP_AVG, parameters)?,
            exp_avg_sq: take(&mut state, EXP_AVG_SQ, parameters)?,
        })
    }
}

impl Optimizer for AdamW {
    fn step(
        &mut self,
        parameters: &mut [Tensor],
        gradients: &[Tensor],
        Step {
            done,
            learning_rate,
        }: Step,
    ) -> Result<(), TchError> {
        let [beta_1, beta_2] = self.betas;
        // The averages start at 0; dividing by these removes the bias (Kingma and Ba 2015, section 3).
        let [correction_1, correction_2] =
            self.betas.map(|beta| 1.0 - beta.powf((done + 1) as f64));
        let averages = self.exp_avg.iter_mut().zip(&mut self.exp_avg_sq);
        let inputs = gradients.iter().zip(&self.weight_decays);
        tch::no_grad(|| {
            let updated = parameters.iter_mut().zip(inputs).zip(averages);
            for ((parameter, (gradient, decay)), (average, average_of_squares)) in updated {
                if *decay != 0.0 {
                    let _ = parameter.f_mul_scalar_(1.0 - learning_rate * decay)?;
                }
                let _ = average.f_lerp_(gradient, 1.0 - beta_1)?;
                let square = gradient.f_square()?.f_mul_scalar_(1.0 - beta_2)?;
                let _ = average_of_squares.f_mul_scalar_(beta_2)?.f_add_(&square)?;
                let denominator = average_of_squares
                    .f_sqrt()?
                    .f_div_scalar_(correction_2.sqrt())?
                    .f_add_scalar_(self.eps)?;
                let change = average
                    .f_div(&denominator)?
                    .f_mul_scalar_(learning_rate / correction_1)?;
                let _ = parameter.f_sub_(&change)?;
            }
            Ok(())
        })
    }

    fn state(&self) -> Vec<(&'static str, &[Tensor])> {
        vec![(EXP_AVG, &self.exp_avg), (EXP_AVG_SQ, &self.exp_avg_sq)]
    }
}
