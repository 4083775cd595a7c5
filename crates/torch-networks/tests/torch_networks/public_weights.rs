//! Published networks, compared with torchvision, timm, transformers and efficientnet-lite-pytorch
//! (`scripts/golden/public_weights.py`): the names and shapes of their tensors, and their logits.

use networks::{
    Weights,
    weights::public::{self, OtherEnds, PublicWeightsError},
};
use tch::{Device, Tensor, no_grad};
use test_support::published::{CLASSES, Published, SAMPLES};
use torch_networks::{Mode, Precision, TorchNetwork};

#[test]
fn logits_are_those_of_the_published_networks() {
    let mut compared = 0;
    for case in Published::all() {
        let Some(expected) = &case.logits else {
            continue;
        };
        let spec = case.spec(3, CLASSES);
        let read = public::read(&case.file(|_| true), &spec, OtherEnds::Refuse);
        let read = read.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert!(read.initialized.is_empty(), "{}", case.name);

        let network = TorchNetwork::new(&spec, &read.weights, Device::Cpu).unwrap();
        let side = case.side as i64;
        let images = Tensor::from_slice(&case.images()).view([SAMPLES as i64, 3, side, side]);
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
        let case = Published::named(name);
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
    let case = Published::named("torchvision resnet18");
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
