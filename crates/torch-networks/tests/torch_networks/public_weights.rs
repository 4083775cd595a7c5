//! Published networks, compared with torchvision, timm, transformers and efficientnet-lite-pytorch
//! (`scripts/golden/public_weights.py`): the names and shapes of their tensors, and their logits.

use std::collections::BTreeMap;

use networks::{
    NetworkSpec, WeightTensor, Weights,
    weights::public::{self, OtherEnds, PublicWeightsError},
};
use serde::Deserialize;
use tch::{Device, Tensor, no_grad};
use torch_networks::{Mode, Precision, TorchNetwork};

const SAMPLES: usize = 2;
const CLASSES: usize = 10;

#[derive(Deserialize)]
struct Case {
    name: String,
    preset: String,
    side: usize,
    tensors: BTreeMap<String, Vec<usize>>,
    logits: Option<Vec<f32>>,
}

impl Case {
    fn all() -> Vec<Case> {
        serde_json::from_str(include_str!("../golden/public.json")).expect("a good file")
    }

    fn named(name: &str) -> Case {
        let mut cases = Case::all().into_iter();
        cases.find(|case| case.name == name).expect("a case")
    }

    fn spec(&self, channels: usize, classes: usize) -> NetworkSpec {
        let Case { preset, side, .. } = self;
        let text = format!("input = [{channels}, {side}, {side}]\nclasses = {classes}\n{preset}");
        NetworkSpec::from_toml(&text).expect("a good spec")
    }

    /// A safetensors file with the published names. `keep` selects tensors.
    fn file(&self, keep: impl Fn(&str) -> bool) -> Vec<u8> {
        let tensors = self.tensors.iter().zip(1..);
        let tensors: BTreeMap<_, _> = tensors
            .filter(|((name, _), _)| keep(name))
            .map(|((name, shape), stream)| {
                let data = fill(name, shape, stream);
                let shape = shape.clone();
                (name.as_str(), WeightTensor { shape, data })
            })
            .collect();
        safetensors::serialize(&tensors, None).expect("a good file")
    }
}

/// Numbers in [-0.5, 0.5): see `uniform` in the script.
fn uniform(count: usize, stream: u64) -> impl Iterator<Item = f64> {
    const MASK: u64 = 0xFFFF_FFFF;
    (1..=count as u64).map(move |index| {
        let mut x = (index * 2_654_435_761) & MASK;
        x = (x + stream * 40_503) & MASK;
        x ^= x >> 16;
        x = (x * 0x85EB_CA6B) & MASK;
        x ^= x >> 13;
        x = (x * 0xC2B2_AE35) & MASK;
        x ^= x >> 16;
        x as f64 / 2f64.powi(32) - 0.5
    })
}

/// Values of one tensor: see `fill` in the script.
fn fill(name: &str, shape: &[usize], stream: u64) -> Vec<f32> {
    let count = shape.iter().product();
    let scaled = |shift: f64, scale: f64| {
        let noise = uniform(count, stream);
        noise.map(|noise| (shift + scale * noise) as f32).collect()
    };
    if name.ends_with("running_var") {
        scaled(1.0, 1.0)
    } else if shape.len() > 1 {
        scaled(0.0, (24.0 / (count / shape[0]) as f64).sqrt())
    } else if name.ends_with("weight") {
        scaled(1.0, 0.5)
    } else {
        scaled(0.0, 0.4)
    }
}

#[test]
fn logits_are_those_of_the_published_networks() {
    let mut compared = 0;
    for case in Case::all() {
        let Some(expected) = &case.logits else {
            continue;
        };
        let spec = case.spec(3, CLASSES);
        let read = public::read(&case.file(|_| true), &spec, OtherEnds::Refuse);
        let read = read.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert!(read.initialized.is_empty(), "{}", case.name);

        let network = TorchNetwork::new(&spec, &read.weights, Device::Cpu).unwrap();
        let values = uniform(SAMPLES * 3 * case.side * case.side, 0);
        let values: Vec<f32> = values.map(|value| 4.0 * value as f32).collect();
        let side = case.side as i64;
        let images = Tensor::from_slice(&values).view([SAMPLES as i64, 3, side, side]);
        let forward = || network.forward(&images, Mode::Evaluate, Precision::F32);
        let logits = no_grad(forward).unwrap();
        let found: Vec<f32> = Vec::try_from(logits.reshape([-1])).unwrap();

        let largest = expected
            .iter()
            .fold(0f32, |most, logit| most.max(logit.abs()));
        assert_eq!(found.len(), expected.len(), "{}", case.name);
        for (found, expected) in found.iter().zip(expected) {
            let difference = (found - expected).abs();
            assert!(
                difference <= 1e-4 * largest,
                "{}: {found} for {expected}",
                case.name
            );
        }
        compared += 1;
    }
    assert_eq!(compared, 11);
}

#[test]
fn every_difference_is_named() {
    // VGG's linear layers hold 120 million values, so these cases leave them out.
    for (name, linear) in [
        (
            "torchvision vgg16_bn",
            ["classifier.0", "classifier.3", "classifier.6"],
        ),
        (
            "timm vgg16_bn",
            ["pre_logits.fc1", "pre_logits.fc2", "head.fc"],
        ),
    ] {
        let case = Case::named(name);
        let file = case.file(|name| name.starts_with("features.") || name.ends_with("bias"));
        let spec = case.spec(3, CLASSES);
        let error = public::read(&file, &spec, OtherEnds::Refuse).expect_err(name);
        let PublicWeightsError::Misfit(misfit) = error else {
            panic!("{error}");
        };
        let missing = linear.map(|layer| format!("{layer}.weight"));
        assert_eq!(misfit.missing, missing);
        assert!(missing.iter().all(|name| case.tensors.contains_key(name)));
        assert!(
            misfit.unexpected.is_empty() && misfit.misshaped.is_empty(),
            "{misfit}"
        );
    }
}

#[test]
fn a_student_gets_its_own_first_and_last_layer() {
    let case = Case::named("torchvision resnet18");
    let file = case.file(|_| true);
    let spec = case.spec(1, 7);
    let error = public::read(&file, &spec, OtherEnds::Refuse).expect_err("other shapes");
    assert_eq!(
        error.to_string(),
        "the file does not fit the network with torchvision's names; of another shape: \
         conv1.weight [64, 3, 7, 7] (the network requires [64, 1, 7, 7]), \
         fc.weight [10, 512] (the network requires [7, 512]), \
         fc.bias [10] (the network requires [7])"
    );

    let read = public::read(&file, &spec, OtherEnds::Initialize { seed: 5 }).unwrap();
    let initial = Weights::initial(&spec, 5).unwrap();
    assert_eq!(read.initialized.len(), 3);
    for (name, tensor) in read.weights.iter() {
        let is_initial = initial.get(name) == Some(tensor);
        assert_eq!(
            is_initial,
            read.initialized.iter().any(|own| own == name),
            "{name}"
        );
    }

    // Files without a head are published as feature extractors.
    let headless = case.file(|name| !name.starts_with("fc."));
    let read = public::read(
        &headless,
        &case.spec(3, 10),
        OtherEnds::Initialize { seed: 5 },
    );
    assert_eq!(read.unwrap().initialized.len(), 2);
}
