//! Learning-rate schedules, as pure functions of the step.

use std::f64::consts::PI;

use crate::config::ScheduleConfig;

/// The learning rate of every step of a phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    config: ScheduleConfig,
    steps_per_epoch: u64,
    steps: u64,
}

impl Schedule {
    /// A schedule over `epochs` epochs of `steps_per_epoch` optimizer steps.
    pub fn new(config: ScheduleConfig, epochs: usize, steps_per_epoch: u64) -> Self {
        Self {
            config,
            steps_per_epoch,
            steps: epochs as u64 * steps_per_epoch,
        }
    }

    /// The learning rate of step `step`, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        let epochs_done = step / self.steps_per_epoch;
        match self.config {
            ScheduleConfig::Constant { learning_rate } => learning_rate,
            ScheduleConfig::Cosine {
                learning_rate,
                final_learning_rate,
                warm_up_epochs,
                warm_up_factor,
            } => {
                let step = step as f64;
                let warm_up = (warm_up_epochs * self.steps_per_epoch as f64).round();
                if step < warm_up {
                    let risen = warm_up_factor + (1.0 - warm_up_factor) * step / warm_up;
                    return learning_rate * risen;
                }
                let share = (step - warm_up) / (self.steps as f64 - warm_up);
                anneal(learning_rate, final_learning_rate, share)
            }
            ScheduleConfig::OneCycle {
                max_learning_rate,
                warm_up,
                initial_divisor,
                final_divisor,
            } => {
                let first = max_learning_rate / initial_divisor;
                let last = first / final_divisor;
                // As in PyTorch, the peak need not be a whole step.
                let peak = warm_up * self.steps as f64 - 1.0;
                let end = self.steps as f64 - 1.0;
                let step = step as f64;
                if step <= peak {
                    anneal(first, max_learning_rate, share(step, peak))
                } else {
                    anneal(max_learning_rate, last, share(step - peak, end - peak))
                }
            }
            ScheduleConfig::Step {
                learning_rate,
                step_size,
                gamma,
            } => learning_rate * gamma.powf((epochs_done / step_size as u64) as f64),
            ScheduleConfig::MultiStep {
                learning_rate,
                ref milestones,
                gamma,
            } => {
                let passed = milestones
                    .iter()
                    .filter(|epoch| **epoch as u64 <= epochs_done);
                learning_rate * gamma.powf(passed.count() as f64)
            }
        }
    }
}

/// `part / whole`, or 1 if `whole` is 0.
fn share(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 1.0 } else { part / whole }
}

/// The value after `share`, 0 to 1, of half a cosine wave from `start` to `end`.
fn anneal(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) / 2.0 * ((PI * share).cos() + 1.0)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        schedule: ScheduleConfig,
        epochs: usize,
        steps_per_epoch: u64,
        learning_rates: Vec<f64>,
    }

    #[test]
    fn every_step_is_pytorchs() {
        let cases: Vec<Golden> =
            serde_json::from_str(include_str!("../../tests/golden/schedules.json")).unwrap();
        assert!(cases.len() >= 14);
        for case in cases {
            let steps = case.epochs as u64 * case.steps_per_epoch;
            let schedule = Schedule::new(case.schedule.clone(), case.epochs, case.steps_per_epoch);
            assert_eq!(case.learning_rates.len() as u64, steps);
            for (step, expected) in (0..).zip(&case.learning_rates) {
                let found = schedule.learning_rate(step);
                let close = (found - expected).abs() <= 1e-12 + 1e-9 * expected;
                assert!(
                    close,
                    "{:?} step {step}: {found} is not {expected}",
                    case.schedule
                );
            }
        }
    }

    #[test]
    fn a_warm_up_that_rounds_to_the_whole_phase_has_rates_that_rise() {
        let config: ScheduleConfig =
            toml::from_str("kind = \"cosine\"\nlearning_rate = 0.1\nwarm_up_epochs = 0.9").unwrap();
        let schedule = Schedule::new(config, 1, 4);
        let rates: Vec<_> = (0..4).map(|step| schedule.learning_rate(step)).collect();
        assert!(
            rates.is_sorted() && rates[0] > 0.0 && rates[3] < 0.1,
            "{rates:?}"
        );
    }

    #[test]
    fn a_single_step_has_a_rate() {
        let config = ScheduleConfig::OneCycle {
            max_learning_rate: 0.2,
            warm_up: 0.5,
            initial_divisor: 25.0,
            final_divisor: 1e4,
        };
        for steps in 1..4 {
            for step in 0..steps {
                let rate = Schedule::new(config.clone(), 1, steps).learning_rate(step);
                assert!(rate.is_finite() && rate > 0.0, "{step} of {steps}: {rate}");
            }
        }
    }
}
