//! A moving average of a network's weights.

use networks::Weights;
use tch::{TchError, Tensor};

use super::{TorchError, TorchNetwork};
use crate::config::EmaConfig;

/// An exponential moving average of a network, as timm's `ModelEmaV2`: of the whole state, so batch-norm's
/// running statistics are averaged too.
pub(super) struct Ema {
    config: EmaConfig,
    /// The network with averaged weights.
    network: TorchNetwork,
    /// Its tensors, sharing its storage.
    averages: Vec<Tensor>,
    /// The tensors of the network in training, sharing its storage.
    current: Vec<Tensor>,
}

impl Ema {
    /// Continues from `averaged`, or starts at the weights of `network`.
    pub(super) fn new(
        config: EmaConfig,
        network: &TorchNetwork,
        averaged: Option<&Weights>,
    ) -> Result<Self, TorchError> {
        let own = match averaged {
            Some(weights) => TorchNetwork::new(network.spec(), weights, network.device())?,
            None => TorchNetwork::new(network.spec(), &network.weights()?, network.device())?,
        };
        Ok(Self {
            config,
            averages: shared(&own),
            current: shared(network),
            network: own,
        })
    }

    /// Averages in the weights after optimizer step `step` of the phase, counted from 0.
    pub(super) fn update(&mut self, step: u64) -> Result<(), TchError> {
        update(
            &mut self.averages,
            &self.current,
            self.config.decay_at(step),
        )
    }

    /// The network with averaged weights.
    pub(super) fn network(&self) -> &TorchNetwork {
        &self.network
    }
}

/// average ← decay · average + (1 − decay) · current
fn update(averages: &mut [Tensor], current: &[Tensor], decay: f64) -> Result<(), TchError> {
    tch::no_grad(|| {
        for (average, current) in averages.iter_mut().zip(current) {
            let _ = average.f_lerp_(current, 1.0 - decay)?;
        }
        Ok(())
    })
}

/// All tensors of a network, sharing its storage.
fn shared(network: &TorchNetwork) -> Vec<Tensor> {
    let tensors = network.tensors();
    tensors.map(|(_, tensor)| tensor.shallow_clone()).collect()
}

#[cfg(test)]
mod tests {
    use networks::NetworkSpec;
    use serde::Deserialize;
    use torch_networks::{Device, Mode, Precision};

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        ema: EmaConfig,
        initial: Vec<f32>,
        /// After each step.
        weights: Vec<Vec<f32>>,
        averages: Vec<Vec<f32>>,
    }

    #[test]
    fn every_average_is_pytorchs() {
        let cases: Vec<Golden> =
            serde_json::from_str(include_str!("../../tests/golden/ema.json")).unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let mut averages = [Tensor::from_slice(&case.initial)];
            assert!(case.weights.len() >= 10);
            for (step, weights) in case.weights.iter().enumerate() {
                let decay = case.ema.decay_at(step as u64);
                update(&mut averages, &[Tensor::from_slice(weights)], decay).unwrap();
                let found = Vec::<f32>::try_from(&averages[0]).unwrap();
                for (found, expected) in found.iter().zip(&case.averages[step]) {
                    let close = (found - expected).abs() <= 1e-7 + 1e-6 * expected.abs();
                    assert!(close, "{:?} step {step}: {found} {expected}", case.ema);
                }
            }
        }
    }

    #[test]
    fn statistics_are_averaged_and_the_network_in_training_stays_as_it_is() {
        let spec = "input = [1, 4, 4]\nclasses = 2\npreset = \"cnn\"\nwidths = [3]";
        let spec = NetworkSpec::from_toml(spec).unwrap();
        let initial = Weights::initial(&spec, 1).unwrap();
        let network = TorchNetwork::new(&spec, &initial, Device::Cpu).unwrap();
        let config = EmaConfig {
            decay: 0.75,
            warm_up: false,
        };
        let mut ema = Ema::new(config, &network, None).unwrap();
        let input = Tensor::ones([2, 1, 4, 4], (tch::Kind::Float, Device::Cpu)) * 3.0;
        let mode = Mode::Train { dropout_seed: 1 };
        let _ = network.forward(&input, mode, Precision::F32).unwrap();
        let trained = network.weights().unwrap();
        ema.update(0).unwrap();
        assert_eq!(network.weights().unwrap(), trained);
        let averaged = ema.network().weights().unwrap();
        assert_ne!(averaged, initial, "the forward pass changed statistics");
        for (name, tensor) in averaged.iter() {
            let before = &initial.get(name).unwrap().data;
            let after = &trained.get(name).unwrap().data;
            for ((found, before), after) in tensor.data.iter().zip(before).zip(after) {
                let expected = 0.75 * before + 0.25 * after;
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{name}: {found} {expected}"
                );
            }
        }
        let resumed = Ema::new(config, &network, Some(&averaged)).unwrap();
        assert_eq!(resumed.network().weights().unwrap(), averaged);
    }
}
