//! Files that are no published weights. `torch-networks` compares published networks with their libraries.

use networks::{
    NetworkSpec, Weights,
    weights::public::{self, Naming, OtherEnds},
};
use proptest::prelude::*;
use test_support::damage::{cases, foreign, in_modest_memory};

fn spec(preset: &str) -> NetworkSpec {
    NetworkSpec::from_toml(&format!("input = [3, 32, 32]\nclasses = 2\n{preset}")).unwrap()
}

fn error(bytes: &[u8], preset: &str) -> String {
    let read = public::read(bytes, &spec(preset), OtherEnds::Refuse);
    read.expect_err("no published weights").to_string()
}

#[test]
fn pickles_are_refused_with_the_command_that_converts_them() {
    for bytes in [&b"PK\x03\x04 archive/data.pkl"[..], b"\x80\x02\x8a\x0a"] {
        let error = error(bytes, "preset = 'resnet18'");
        assert!(
            error.contains("safetensors.torch import save_file"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn networks_without_published_weights_are_refused() {
    for preset in [
        "preset = 'resnet'\nwidth = 1",
        "preset = 'cnn'\nwidths = [8]",
    ] {
        let foreign = file("conv1.weight", safetensors::Dtype::F32, vec![1], &[0; 4]);
        let error = error(&foreign, preset);
        assert!(
            error.contains("published weights fit the presets resnet18"),
            "{error}"
        );
    }
}

fn file(name: &str, dtype: safetensors::Dtype, shape: Vec<usize>, bytes: &[u8]) -> Vec<u8> {
    let view = safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap();
    safetensors::serialize([(name, view)], None).unwrap()
}

#[test]
fn one_tensor_is_compared_with_the_network() {
    use safetensors::Dtype::{BF16, F32, I8};

    let found = error(
        &file("bn1.bias", I8, vec![64], &[0; 64]),
        "preset = 'resnet18'",
    );
    assert_eq!(
        found,
        "tensor `bn1.bias` has dtype I8; supported are F32, F16, BF16 and F64"
    );

    let stray = file("module.encoder.weight", F32, vec![1], &[0; 4]);
    let found = error(&stray, "preset = 'resnet18'");
    assert!(
        found.contains("and 97 more; unexpected: module.encoder.weight"),
        "{found}"
    );

    // The wrapper's prefix and the step count are no differences.
    let one = file("module.bn1.bias", BF16, vec![64], &[0; 128]);
    let found = error(&one, "preset = 'resnet18'");
    assert!(
        found.contains("and 96 more") && !found.contains("unexpected"),
        "{found}"
    );
    let count = file("bn1.num_batches_tracked", I8, vec![1], &[0]);
    assert!(!error(&count, "preset = 'resnet18'").contains("unexpected"));

    let head = file("_bn0.bias", F32, vec![32], &[0; 128]);
    let found = error(&head, "preset = 'efficientnet_lite0'\nconvention = 'torch'");
    assert!(found.contains("set convention = \"tensorflow\""), "{found}");
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_foreign_file_is_refused(
        file in foreign(vec![file("bn1.bias", safetensors::Dtype::F32, vec![64], &[0; 256])]),
    ) {
        let spec = spec("preset = 'resnet18'");
        let read = in_modest_memory(|| public::read(&file, &spec, OtherEnds::Refuse));
        let error = read.expect_err("a network of one tensor").to_string();
        prop_assert_eq!(error.lines().count(), 1, "{}", error);
    }
}

/// Of a published and of another network.
#[test]
fn the_weights_of_an_artifact_are_read_under_retorts_own_names() {
    for preset in [
        "preset = 'mobilenet_v2'\nwidth = 0.1",
        "preset = 'cnn'\nwidths = [8]",
    ] {
        let spec = spec(preset);
        let weights = Weights::initial(&spec, 1).unwrap();
        let bytes = weights.to_safetensors().unwrap();
        let read = public::read(&bytes, &spec, OtherEnds::Refuse).unwrap();
        assert_eq!(read.naming, Naming::Retort);
        assert_eq!(read.weights, weights);
        let ends = public::ends(&bytes, &spec).unwrap();
        assert_eq!((ends.channels, ends.classes), (3, 2));
        // Another network's weights.
        let other = NetworkSpec::from_toml(
            "input = [3, 32, 32]\nclasses = 2\npreset = 'mlp'\nwidths = [8]",
        );
        let error = public::read(&bytes, &other.unwrap(), OtherEnds::Initialize { seed: 1 });
        let error = error.expect_err("other tensors").to_string();
        assert!(error.contains("Retort's names"), "{error}");
    }
}

#[test]
fn a_file_without_a_head_does_not_say_its_classes() {
    let stem = file(
        "conv1.weight",
        safetensors::Dtype::F32,
        vec![1, 3, 1, 1],
        &[0; 12],
    );
    let error = public::ends(&stem, &spec("preset = 'resnet18'")).expect_err("no head");
    assert!(error.to_string().ends_with("; missing: fc.bias"), "{error}");
}
