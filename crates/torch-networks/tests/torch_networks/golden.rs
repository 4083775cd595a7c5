//! Compares forward passes, gradients and running statistics with PyTorch (`scripts/golden/networks.py`).

use std::collections::BTreeMap;

use networks::{NetworkSpec, WeightTensor, Weights};
use safetensors::SafeTensors;
use tch::{Device, Kind, Tensor, no_grad};
use torch_networks::{Mode, Precision, TorchNetwork};

/// Specs and their golden values: every layer of a plain network, and those of mobile networks.
const NETWORKS: [(&str, &[u8]); 2] = [
    (
        include_str!("../golden/network.toml"),
        include_bytes!("../golden/network.safetensors"),
    ),
    (
        include_str!("../golden/mobile.toml"),
        include_bytes!("../golden/mobile.safetensors"),
    ),
];

struct Golden {
    tensors: BTreeMap<String, WeightTensor>,
    network: TorchNetwork,
}

impl Golden {
    fn load((spec, file): (&str, &[u8])) -> Self {
        let spec = NetworkSpec::from_toml(spec).expect("a good spec");
        let file = SafeTensors::deserialize(file).expect("a good file");
        let tensors: BTreeMap<_, _> = file
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let data = view
                    .data()
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|bytes| f32::from_le_bytes(*bytes))
                    .collect();
                (
                    name,
                    WeightTensor {
                        shape: view.shape().to_vec(),
                        data,
                    },
                )
            })
            .collect();
        let weights = tensors
            .clone()
            .into_iter()
            .filter(|(name, _)| name.starts_with("layers."));
        let weights = Weights::from_tensors(weights, &spec).expect("weights of this network");
        let network = TorchNetwork::new(&spec, &weights, Device::Cpu).expect("a network");
        Golden { tensors, network }
    }

    fn tensor(&self, name: &str) -> Tensor {
        let WeightTensor { shape, data } = &self.tensors[name];
        let shape: Vec<_> = shape.iter().map(|&size| size as i64).collect();
        Tensor::from_slice(data).view(shape.as_slice())
    }

    fn assert_close(&self, found: &Tensor, expected: &str, tolerance: f64) {
        let difference = (found - self.tensor(expected))
            .abs()
            .max()
            .double_value(&[]);
        assert!(difference <= tolerance, "{expected}: off by {difference}");
    }

    /// Compares the running mean and variance of each batch-norm.
    fn assert_statistics(&self, tolerance: f64) {
        let after = self.network.weights().unwrap();
        let is_statistic =
            |name: &str| name.ends_with("running_mean") || name.ends_with("running_var");
        let mut checked = 0;
        for (name, WeightTensor { data, .. }) in after.iter().filter(|(name, _)| is_statistic(name))
        {
            let expected = format!("expected.{name}");
            self.assert_close(&Tensor::from_slice(data), &expected, tolerance);
            checked += 1;
        }
        let expected = self
            .tensors
            .keys()
            .filter(|name| name.starts_with("expected.layers."));
        assert_eq!(checked, expected.count());
    }
}

#[test]
fn logits_in_evaluation() {
    for network in NETWORKS {
        let golden = Golden::load(network);
        for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 0.05)] {
            let input = golden.tensor("input");
            let forward = || golden.network.forward(&input, Mode::Evaluate, precision);
            let logits = no_grad(forward).unwrap();
            golden.assert_close(&logits, "expected.evaluate", tolerance);
        }
    }
}

#[test]
fn a_training_step() {
    for network in NETWORKS {
        for (precision, tolerance) in [(Precision::F32, 5e-5), (Precision::Bf16, 0.08)] {
            let golden = Golden::load(network);
            let labels = golden.tensor("labels").to_kind(Kind::Int64);
            let mode = Mode::Train { dropout_seed: 0 };
            let input = golden.tensor("input");
            let logits = golden.network.forward(&input, mode, precision).unwrap();
            golden.assert_close(&logits, "expected.train", tolerance);

            logits.cross_entropy_for_logits(&labels).backward();
            for (name, parameter) in golden.network.parameters() {
                let expected = format!("expected.gradient.{name}");
                golden.assert_close(&parameter.grad(), &expected, tolerance);
            }
            golden.assert_statistics(tolerance);
        }
    }
}
