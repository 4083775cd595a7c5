//! Compares forward passes, gradients and running statistics with PyTorch (`scripts/golden/networks.py`).

use std::collections::BTreeMap;

use networks::{NetworkSpec, WeightTensor, Weights};
use safetensors::SafeTensors;
use tch::{Device, Kind, Tensor, no_grad};
use torch_networks::{Mode, Precision, TorchNetwork};

struct Golden {
    tensors: BTreeMap<String, WeightTensor>,
    network: TorchNetwork,
}

impl Golden {
    fn load() -> Self {
        let spec =
            NetworkSpec::from_toml(include_str!("../golden/network.toml")).expect("a good spec");
        let file = SafeTensors::deserialize(include_bytes!("../golden/network.safetensors"))
            .expect("a good file");
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
}

#[test]
fn logits_in_evaluation() {
    let golden = Golden::load();
    for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 0.05)] {
        let logits = no_grad(|| {
            golden
                .network
                .forward(&golden.tensor("input"), Mode::Evaluate, precision)
        })
        .unwrap();
        golden.assert_close(&logits, "expected.evaluate", tolerance);
    }
}

#[test]
fn a_training_step() {
    for (precision, tolerance) in [(Precision::F32, 5e-5), (Precision::Bf16, 0.08)] {
        let golden = Golden::load();
        let labels = golden.tensor("labels").to_kind(Kind::Int64);
        let mode = Mode::Train { dropout_seed: 0 };
        let logits = golden
            .network
            .forward(&golden.tensor("input"), mode, precision)
            .unwrap();
        golden.assert_close(&logits, "expected.train", tolerance);

        logits.cross_entropy_for_logits(&labels).backward();
        for (name, parameter) in golden.network.parameters() {
            golden.assert_close(
                &parameter.grad(),
                &format!("expected.gradient.{name}"),
                tolerance,
            );
        }

        let statistics = golden
            .tensors
            .keys()
            .filter_map(|name| name.strip_prefix("expected.layers."));
        let after = golden.network.weights().unwrap();
        let mut checked = 0;
        for name in statistics {
            let WeightTensor { data, .. } = after.get(&format!("layers.{name}")).unwrap();
            golden.assert_close(
                &Tensor::from_slice(data),
                &format!("expected.layers.{name}"),
                tolerance,
            );
            checked += 1;
        }
        assert_eq!(
            checked, 16,
            "8 batch-norms have a running mean and variance each"
        );
    }
}
