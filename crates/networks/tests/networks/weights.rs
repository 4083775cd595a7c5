//! Weights: their file, errors, initial values and folding; and `model.toml`.

use networks::{ModelFile, NetworkSpec, WeightTensor, Weights, WeightsError, fold_batch_norm};
use proptest::prelude::*;

type Tensors = Vec<(String, WeightTensor)>;

fn cnn() -> NetworkSpec {
    NetworkSpec::from_toml(include_str!("specs/cnn-24-48-64.toml")).expect("a good spec")
}

fn tensors(weights: &Weights) -> Tensors {
    weights
        .iter()
        .map(|(name, tensor)| (name.to_owned(), tensor.clone()))
        .collect()
}

#[test]
fn safetensors_round_trip_is_exact() {
    let weights = Weights::initial(&cnn(), 7).unwrap();
    let bytes = weights.to_safetensors().unwrap();
    assert_eq!(Weights::from_safetensors(&bytes, &cnn()).unwrap(), weights);
    assert_eq!(weights.to_safetensors().unwrap(), bytes);
}

#[test]
fn every_truncation_is_rejected() {
    let bytes = Weights::initial(&cnn(), 7)
        .unwrap()
        .to_safetensors()
        .unwrap();
    for length in (0..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
        let error = Weights::from_safetensors(&bytes[..length], &cnn()).expect_err("truncated");
        assert!(
            matches!(error, WeightsError::Format(_)),
            "{length}: {error}"
        );
    }
}

#[test]
fn errors_name_the_mismatched_tensor() {
    let weights = Weights::initial(&cnn(), 7).unwrap();
    let change = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = tensors(&weights);
        change(&mut tensors);
        Weights::from_tensors(tensors, &cnn())
            .expect_err("misfit")
            .to_string()
    };
    assert_eq!(
        change(&|tensors| drop(tensors.remove(0))),
        "tensor `layers.0.weight` is missing"
    );
    assert_eq!(
        change(&|tensors| tensors[0].0 = "stem".to_owned()),
        "tensor `stem` does not belong to this network"
    );
    assert_eq!(
        change(&|tensors| tensors[0].1.shape = vec![24, 9]),
        "tensor `layers.0.weight` has shape [24, 9]; the network requires [24, 1, 3, 3]"
    );
    assert_eq!(
        change(&|tensors| tensors[0].1.data.truncate(5)),
        "tensor `layers.0.weight` has 5 values; its shape [24, 1, 3, 3] requires 216"
    );
    assert_eq!(
        change(&|tensors| tensors[0].1.data[3] = f32::NAN),
        "tensor `layers.0.weight` holds a value that is not finite"
    );
}

#[test]
fn other_dtypes_are_rejected() {
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F16, vec![2], &[0; 4]).unwrap();
    let bytes = safetensors::serialize([("layers.0.weight", view)], None).unwrap();
    let error = Weights::from_safetensors(&bytes, &cnn())
        .expect_err("f16")
        .to_string();
    assert_eq!(
        error,
        "tensor `layers.0.weight` has dtype F16; only F32 is supported"
    );
}

#[test]
fn initial_values_have_the_expected_spread() {
    let weights = Weights::initial(&cnn(), 7).unwrap();
    let spread = |name: &str| {
        let data = &weights.get(name).unwrap().data;
        let mean = data.iter().sum::<f32>() / data.len() as f32;
        let variance =
            data.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / data.len() as f32;
        (mean, variance.sqrt())
    };
    let (mean, deviation) = spread("layers.6.weight");
    let expected = (2.0f32 / (64.0 * 9.0)).sqrt();
    assert!(
        mean.abs() < expected / 20.0 && (deviation / expected - 1.0).abs() < 0.03,
        "{mean} {deviation}"
    );

    let bound = 1.0 / 64f32.sqrt();
    let (mean, deviation) = spread("layers.11.weight");
    assert!(
        mean.abs() < bound / 10.0 && (deviation / (bound / 3f32.sqrt()) - 1.0).abs() < 0.1,
        "{mean} {deviation}"
    );
    assert!(
        weights
            .get("layers.11.weight")
            .unwrap()
            .data
            .iter()
            .all(|value| value.abs() <= bound)
    );

    assert_eq!(spread("layers.1.weight"), (1.0, 0.0));
    assert_eq!(spread("layers.1.running_var"), (1.0, 0.0));
    assert_eq!(spread("layers.1.bias"), (0.0, 0.0));
}

#[test]
fn batch_norm_folding_matches_a_manual_calculation() {
    let spec = NetworkSpec::from_toml(
        r#"
        input = [1, 1, 1]
        classes = 1
        layers = [{ type = "flatten" }, { type = "linear", features = 1 }, { type = "batch_norm" }, { type = "dropout", rate = 0.5 }]
        "#,
    )
    .unwrap();
    let one = |name: &str, shape: &[usize], value| {
        (
            name.to_owned(),
            WeightTensor {
                shape: shape.to_vec(),
                data: vec![value],
            },
        )
    };
    let weights = Weights::from_tensors(
        [
            one("layers.1.weight", &[1, 1], 3.0),
            one("layers.1.bias", &[1], 0.5),
            one("layers.2.weight", &[1], 2.0),
            one("layers.2.bias", &[1], 7.0),
            one("layers.2.running_mean", &[1], 1.5),
            one("layers.2.running_var", &[1], 4.0 - 1e-5),
        ],
        &spec,
    )
    .unwrap();
    let folded = fold_batch_norm(&spec.layers().unwrap(), &weights).unwrap();
    assert_eq!(folded.layers.len(), 2);
    assert_eq!(folded.tensors.len(), 2);
    // γ / √(σ² + ε) = 1
    assert_eq!(folded.tensors["layers.1.weight"].data, [3.0]);
    assert_eq!(folded.tensors["layers.1.bias"].data, [7.0 + 0.5 - 1.5]);
}

fn model_file() -> ModelFile {
    ModelFile {
        format_version: ModelFile::FORMAT_VERSION,
        weights_sha256: Some("0".repeat(64)),
        class_names: (0..10).map(|class| format!("class {class}")).collect(),
        normalization_mean: vec![0.286],
        normalization_std: vec![0.353],
        network: cnn(),
    }
}

#[test]
fn model_file_round_trip() {
    let text = model_file().to_toml().unwrap();
    assert_eq!(ModelFile::from_toml(&text).unwrap(), model_file());
}

#[test]
fn model_file_errors_name_the_key() {
    let text = model_file().to_toml().unwrap();
    for (from, to, expected) in [
        (
            "format_version = 2",
            "format_version = 3",
            "format_version = 3, but this version of Retort reads 1 to 2",
        ),
        (
            "format_version = 2",
            "version = 2",
            "missing field `format_version`",
        ),
        (
            "format_version = 2",
            "format_version = 1",
            "weights_sha256 is not allowed with format_version = 1",
        ),
        (
            "weights_sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"",
            "",
            "weights_sha256 is missing; it is needed with format_version = 2",
        ),
        (
            "weights_sha256 = \"00",
            "weights_sha256 = \"0",
            "weights_sha256 must be 64 lower-case hex digits",
        ),
        (
            "\"class 9\"",
            "",
            "class_names has 9 entries; the network requires 10",
        ),
        (
            "normalization_std = [0.",
            "normalization_std = [-0.",
            "normalization_std = -0.353 is not allowed",
        ),
        (
            "preset = \"cnn\"",
            "preset = \"cnm\"",
            "network.preset: unknown variant `cnm`",
        ),
        (
            "widths = [24,",
            "widths = [0,",
            "network: widths[0] = 0 is not allowed",
        ),
    ] {
        assert!(text.contains(from), "{text}");
        let found = ModelFile::from_toml(&text.replace(from, to))
            .expect_err(to)
            .to_string();
        assert!(
            found.starts_with(expected),
            "found: {found}\nwants: {expected}"
        );
    }
}

#[test]
fn weights_are_compared_with_the_digest_in_the_model_file() {
    let weights = Weights::initial(&cnn(), 7).unwrap();
    let file = weights.to_safetensors().unwrap();
    let model = model_file().with_weights(&file);
    let model = ModelFile::from_toml(&model.to_toml().unwrap()).unwrap();
    assert_eq!(model.read_weights(&file).unwrap(), weights);

    let others = Weights::initial(&cnn(), 8).unwrap();
    let mut flipped = file.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut zeroed = file.clone();
    let middle = file.len() / 2;
    zeroed[middle..middle + 64].fill(0);
    for damaged in [flipped, zeroed, others.to_safetensors().unwrap()] {
        // These weights fit the network; only the digest differs.
        Weights::from_safetensors(&damaged, &cnn()).unwrap();
        let error = model.read_weights(&damaged).unwrap_err();
        let WeightsError::Digest { expected, found } = &error else {
            panic!("{error}");
        };
        assert_eq!(model.weights_sha256.as_ref(), Some(expected));
        assert_ne!(expected, found);
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains(found), "{text}");
    }
}

#[test]
fn a_model_file_of_format_1_has_no_digest_and_is_read() {
    let text = model_file().to_toml().unwrap();
    let digest = format!("weights_sha256 = \"{}\"\n", "0".repeat(64));
    let text = text.replace("format_version = 2", "format_version = 1");
    let model = ModelFile::from_toml(&text.replace(&digest, "")).unwrap();
    assert_eq!(model.weights_sha256, None);
    let file = Weights::initial(&cnn(), 7).unwrap().to_safetensors();
    model.read_weights(&file.unwrap()).unwrap();
}

/// A safetensors file of one header, with zeros for values.
fn safetensors_file(header: &str, values: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &vec![0; values * 4]].concat()
}

#[test]
fn a_tensor_that_is_named_twice_is_refused() {
    let spec = "input = [1, 1, 1]\nclasses = 1\npreset = \"mlp\"\nwidths = [1]";
    let spec = NetworkSpec::from_toml(spec).unwrap();
    let bytes = Weights::initial(&spec, 1)
        .unwrap()
        .to_safetensors()
        .unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    let entry = header.trim_end().strip_prefix('{').unwrap();
    let entry = entry.split_inclusive('}').next().unwrap();
    let values = (bytes.len() - 8 - length) / 4;
    let twice = safetensors_file(
        &header.replacen(entry, &format!("{entry},{entry}"), 1),
        values,
    );
    let error = Weights::from_safetensors(&twice, &spec).unwrap_err();
    assert!(matches!(error, WeightsError::Duplicate(_)), "{error}");
    assert!(Weights::from_safetensors(&safetensors_file(&header, values), &spec).is_ok());
}

proptest! {
    #![proptest_config(test_support::damage::cases(256))]

    #[test]
    fn no_damage_to_a_weights_file_passes_its_digest(
        position in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let file = Weights::initial(&cnn(), 7).unwrap().to_safetensors().unwrap();
        let model = model_file().with_weights(&file);
        let mut damaged = file.clone();
        let position = position.index(file.len());
        damaged[position] = value;
        prop_assert_eq!(model.read_weights(&damaged).is_ok(), damaged == file);
        prop_assert!(model.read_weights(&file[..position]).is_err());
    }
}
