//! Weights: their file, errors, initial values and folding; and `model.toml`.

use networks::{ModelFile, NetworkSpec, WeightTensor, Weights, WeightsError, fold_batch_norm};

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
            "format_version = 1",
            "format_version = 2",
            "format_version = 2, but this version of Retort reads 1",
        ),
        (
            "format_version = 1",
            "version = 1",
            "missing field `format_version`",
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
