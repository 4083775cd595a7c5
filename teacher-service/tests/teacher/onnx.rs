//! ONNX files as teachers: the same network in the shapes that other programs write.

use std::{fs, path::Path};

use datasets::Interpolation;
use networks::{
    NetworkSpec, Weights,
    onnx::schema::{
        AttributeProto, DataLocation, Dimension, DimensionValue, ModelProto, NodeProto,
        StringStringEntryProto, TypeValue, ValueInfoProto,
    },
};
use prost::Message;
use teacher_service::model::ModelConfig;
use tempfile::TempDir;

use crate::opened::{assert_close, logits, open, refusal};

const SPEC: &str = "input = [3, 8, 6]\nclasses = 5\npreset = \"resnet\"\nwidths = [8, 16]";

const CARD: &str = r#"
    scale = "unit"
    mean = [0.5, 0.4, 0.3]
    std = [0.2, 0.25, 0.3]
    channel_order = "rgb"
    output = "logits"
    class_names = ["a", "b", "c", "d", "e"]
"#;

const SAMPLE: usize = 3 * 8 * 6;

fn model() -> ModelProto {
    let spec = NetworkSpec::from_toml(SPEC).unwrap();
    let weights = Weights::initial(&spec, 7).unwrap();
    let onnx = networks::onnx::export(&spec, &weights).unwrap();
    ModelProto::decode(&onnx[..]).unwrap()
}

fn write(folder: &Path, model: &ModelProto) -> ModelConfig {
    let path = folder.join("model.onnx");
    fs::write(&path, model.encode_to_vec()).unwrap();
    let mut config = ModelConfig::at(path);
    config.preprocessing = toml::from_str(CARD).unwrap();
    config
}

fn pixels(samples: usize) -> Vec<u8> {
    (0..samples * SAMPLE)
        .map(|i| (i * 37 % 251) as u8)
        .collect()
}

/// The logits of the unchanged model for 64 images.
fn expected() -> Vec<f32> {
    let folder = TempDir::new().unwrap();
    let config = write(folder.path(), &model());
    logits(&mut *open(&config).unwrap(), &pixels(64))
}

#[test]
fn a_sample_has_the_same_logits_in_batches_of_any_size() {
    let folder = TempDir::new().unwrap();
    let config = write(folder.path(), &model());
    let mut teacher = open(&config).unwrap();
    let description = teacher.description().clone();
    assert_eq!(
        description.input.to_string(),
        "`pixels` UINT8 [batch, 3, 8, 6]"
    );
    assert_eq!(description.class_names, ["a", "b", "c", "d", "e"]);
    assert!(description.identity.numerics.contains("ONNX Runtime"));
    let expected = expected();
    let pixels = pixels(64);
    for size in [1, 7, 64] {
        let found: Vec<f32> = pixels
            .chunks(size * SAMPLE)
            .flat_map(|batch| logits(&mut *teacher, batch))
            .collect();
        assert_close(&found, &expected);
    }
    let again = open(&config).unwrap();
    assert_eq!(again.description().identity, description.identity);
}

/// What onnxruntime in Python answers for the same file and input is what the teacher answers: the card
/// does what the training program's transforms do.
#[test]
fn the_card_normalizes_as_libtorch_does() {
    let spec = NetworkSpec::from_toml(SPEC).unwrap();
    let weights = Weights::initial(&spec, 7).unwrap();
    let network =
        torch_networks::TorchNetwork::new(&spec, &weights, torch_networks::Device::Cpu).unwrap();
    let mean = [0.5, 0.4, 0.3];
    let std = [0.2, 0.25, 0.3];
    let input = torch_networks::normalize(&pixels(64), [64, 3, 8, 6], &mean, &std).unwrap();
    let logits = tch::no_grad(|| {
        network.forward(
            &input,
            torch_networks::Mode::Evaluate,
            torch_networks::Precision::F32,
        )
    });
    let logits: Vec<f32> = Vec::try_from(logits.unwrap().reshape([-1])).unwrap();
    assert_close(&expected(), &logits);
}

/// Moves the weights into `model.onnx.data`, as PyTorch since 2.9 does.
fn with_external_data(mut model: ModelProto, location: &str) -> (ModelProto, Vec<u8>) {
    let mut data = Vec::new();
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        let Some(raw) = tensor.raw_data.take() else {
            continue;
        };
        let entry = |key: &str, value: String| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value),
        };
        tensor.external_data = vec![
            entry("location", location.to_owned()),
            entry("offset", data.len().to_string()),
            entry("length", raw.len().to_string()),
        ];
        tensor.data_location = Some(DataLocation::External.into());
        data.extend(raw);
    }
    (model, data)
}

#[test]
fn weights_may_lie_in_a_second_file() {
    let folder = TempDir::new().unwrap();
    let (two_files, data) = with_external_data(model(), "model.onnx.data");
    assert!(data.len() > 1000);
    let config = write(folder.path(), &two_files);
    let error = refusal(&config);
    for part in ["model.onnx.data", "cannot be read", "several files"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let data_file = folder.path().join("model.onnx.data");
    fs::write(&data_file, &data).unwrap();
    let mut teacher = open(&config).unwrap();
    assert_close(&logits(&mut *teacher, &pixels(64)), &expected());
    // Other weights are another model, although model.onnx is the same.
    let mut changed = data.clone();
    changed[2] ^= 1;
    fs::write(&data_file, changed).unwrap();
    let other = open(&config)
        .unwrap()
        .description()
        .identity
        .model_id
        .clone();
    assert_ne!(teacher.description().identity.model_id, other);
    fs::write(&data_file, &data[..100]).unwrap();
    assert!(refusal(&config).contains("ONNX Runtime cannot load the model"));

    let (outside, _) = with_external_data(model(), "../model.onnx.data");
    let error = refusal(&write(folder.path(), &outside));
    assert!(
        error.contains("only files in the model's folder"),
        "{error}"
    );
}

/// Puts a Transpose before the model, so that it takes [batch, height, width, channels].
fn with_channels_last(mut model: ModelProto) -> ModelProto {
    let graph = model.graph.as_mut().unwrap();
    for node in &mut graph.node {
        for input in &mut node.input {
            if input == "input" {
                *input = "planar".to_owned();
            }
        }
    }
    let order = AttributeProto {
        name: Some("perm".to_owned()),
        r#type: Some(7), // INTS
        ints: vec![0, 3, 1, 2],
        ..AttributeProto::default()
    };
    let transpose = NodeProto {
        op_type: Some("Transpose".to_owned()),
        input: vec!["input".to_owned()],
        output: vec!["planar".to_owned()],
        attribute: vec![order],
        ..NodeProto::default()
    };
    graph.node.insert(0, transpose);
    let dimensions = dimensions(&mut graph.input[0]);
    let channels = dimensions.remove(1);
    dimensions.push(channels);
    model
}

fn dimensions(value: &mut ValueInfoProto) -> &mut Vec<Dimension> {
    match value.r#type.as_mut().unwrap().value.as_mut().unwrap() {
        TypeValue::Tensor(tensor) => &mut tensor.shape.as_mut().unwrap().dim,
        other => panic!("{other:?}"),
    }
}

#[test]
fn channels_may_be_the_last_dimension_and_in_the_other_order() {
    let folder = TempDir::new().unwrap();
    let mut config = write(folder.path(), &with_channels_last(model()));
    let mut teacher = open(&config).unwrap();
    let expected = expected();
    assert_close(&logits(&mut *teacher, &pixels(64)), &expected);
    // The mean and the std of the first channel are blue's.
    let swapped = CARD.replace("\"rgb\"", "\"bgr\"");
    config.preprocessing = toml::from_str(&swapped).unwrap();
    let mut teacher = open(&config).unwrap();
    let mut blue_first = pixels(64);
    for image in blue_first.chunks_exact_mut(SAMPLE) {
        let (red, rest) = image.split_at_mut(SAMPLE / 3);
        red.swap_with_slice(&mut rest[SAMPLE / 3..]);
    }
    assert_close(&logits(&mut *teacher, &blue_first), &expected);
}

#[test]
fn a_fixed_batch_is_filled_up() {
    let folder = TempDir::new().unwrap();
    let expected = expected();
    for size in [1, 10] {
        let mut model = model();
        let graph = model.graph.as_mut().unwrap();
        for value in [&mut graph.input[0], &mut graph.output[0]] {
            dimensions(value)[0].value = Some(DimensionValue::Value(size));
        }
        let config = write(folder.path(), &model);
        let mut teacher = open(&config).unwrap();
        let input = teacher.description().input.to_string();
        assert_eq!(input, "`pixels` UINT8 [batch, 3, 8, 6]");
        assert_close(&logits(&mut *teacher, &pixels(64)), &expected);
        assert_close(&logits(&mut *teacher, &pixels(3)), &expected[..15]);
    }
}

/// Appends a Softmax.
fn with_softmax(mut model: ModelProto) -> ModelProto {
    let graph = model.graph.as_mut().unwrap();
    graph.node.push(NodeProto {
        op_type: Some("Softmax".to_owned()),
        input: vec!["logits".to_owned()],
        output: vec!["probabilities".to_owned()],
        ..NodeProto::default()
    });
    graph.output[0].name = Some("probabilities".to_owned());
    model
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let rows = logits.chunks(5).flat_map(|row| {
        let exp: Vec<_> = row.iter().map(|logit| f64::from(*logit).exp()).collect();
        let sum: f64 = exp.iter().sum();
        exp.into_iter().map(move |exp| (exp / sum) as f32)
    });
    rows.collect()
}

#[test]
fn probabilities_become_logits_and_a_wrong_card_is_found() {
    let folder = TempDir::new().unwrap();
    let mut config = write(folder.path(), &with_softmax(model()));
    let error = refusal(&config);
    assert!(error.contains("set output = \"probabilities\""), "{error}");
    let card = CARD.replace("output = \"logits\"", "output = \"probabilities\"");
    config.preprocessing = toml::from_str(&card).unwrap();
    let mut teacher = open(&config).unwrap();
    let found = logits(&mut *teacher, &pixels(64));
    assert_close(&softmax(&found), &softmax(&expected()));

    let mut config = write(folder.path(), &model());
    config.preprocessing = toml::from_str(&card).unwrap();
    let error = refusal(&config);
    assert!(error.contains("set output = \"logits\""), "{error}");
}

#[test]
fn groups_have_the_probabilities_of_their_classes() {
    let folder = TempDir::new().unwrap();
    let mut config = write(folder.path(), &model());
    let whole = open(&config).unwrap().description().clone();
    config.classes = toml::from_str("first = [\"0-1\"]\nother = [\"d\", 4]").unwrap();
    let mut teacher = open(&config).unwrap();
    let description = teacher.description();
    assert_eq!(description.class_names, ["first", "other"]);
    assert_ne!(description.identity.model_id, whole.identity.model_id);
    let found = logits(&mut *teacher, &pixels(64));
    for (pair, row) in found.chunks(2).zip(softmax(&expected()).chunks(5)) {
        let odds = (pair[0] - pair[1]).exp();
        let expected = (row[0] + row[1]) / (row[3] + row[4]);
        assert!(
            (odds - expected).abs() < 1e-4 * expected,
            "{odds} {expected}"
        );
    }
    config.classes = toml::from_str("first = [0]\nother = [\"tiger\"]").unwrap();
    let error = refusal(&config);
    assert!(error.contains("the model has no class `tiger`"), "{error}");
}

#[test]
fn the_files_of_hugging_face_beside_the_model_are_used() {
    let folder = TempDir::new().unwrap();
    let mut config = write(folder.path(), &model());
    let whole = open(&config).unwrap().description().clone();
    config.preprocessing = toml::from_str("").unwrap();
    let error = refusal(&config);
    assert!(error.contains("set model.preprocessing."), "{error}");
    let processor = r#"{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3],
        "do_rescale": true, "rescale_factor": 0.00392156862745098, "size": {"height": 8, "width": 6}}"#;
    fs::write(folder.path().join("preprocessor_config.json"), processor).unwrap();
    let classes = r#"{"id2label": {"0": "a", "1": "b", "2": "c", "3": "d", "4": "e"}}"#;
    fs::write(folder.path().join("config.json"), classes).unwrap();
    assert_eq!(*open(&config).unwrap().description(), whole);

    // Numbers of Pillow's `Resampling`. Only what is not bilinear is part of the model id.
    let resampled = |number: usize| {
        let processor = processor.replace("\"size\"", &format!("\"resample\": {number}, \"size\""));
        fs::write(folder.path().join("preprocessor_config.json"), processor).unwrap();
    };
    resampled(2);
    assert_eq!(*open(&config).unwrap().description(), whole);
    resampled(3);
    let bicubic = open(&config).unwrap().description().clone();
    assert_eq!(bicubic.interpolation, Interpolation::Bicubic);
    assert_ne!(bicubic.identity.model_id, whole.identity.model_id);
    resampled(1);
    let error = refusal(&config);
    assert!(
        error.contains("preprocessor_config.json")
            && error.contains("\"lanczos\" is not supported"),
        "{error}"
    );
}

#[test]
fn files_that_are_no_model_are_named() {
    let folder = TempDir::new().unwrap();
    let mut config = write(folder.path(), &model());
    let whole = fs::read(&config.path).unwrap();
    for (content, named) in [
        (&b""[..], "cannot load the model"),
        (b"PK\x03\x04 a zip", "not an ONNX file"),
        (&whole[..whole.len() / 2], "not an ONNX file"),
    ] {
        fs::write(&config.path, content).unwrap();
        let error = refusal(&config);
        assert!(
            error.contains(named) && error.contains("model.onnx"),
            "{error}"
        );
    }
    fs::write(&config.path, &whole).unwrap();
    config.output = Some("features".to_owned());
    let error = refusal(&config);
    assert!(error.contains("no output `features`"), "{error}");
    assert!(error.contains("`logits` FP32 [batch, 5]"), "{error}");
    config.path = folder.path().join("missing.onnx");
    assert!(refusal(&config).contains("missing.onnx"));
}
