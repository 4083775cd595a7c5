//! Programs of PyTorch as teachers: the files and logits of `crates/torch-programs/tests/golden/make.py`.

use std::{fs, path::Path};

use safetensors::SafeTensors;
use teacher_service::model::ModelConfig;

use crate::opened::{logits, open, refusal};

/// `MEAN` and `STD` of make.py.
const CARD: &str = r#"
    scale = "unit"
    mean = [0.5, 0.4, 0.3]
    std = [0.2, 0.25, 0.3]
    channel_order = "rgb"
    output = "logits"
    class_names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
"#;
/// What a TorchScript program needs besides.
const TORCH_SCRIPT: &str = r#"
    layout = "nchw"
    size = [8, 8]
"#;
const SAMPLE: usize = 3 * 8 * 8;

fn config(name: &str, card: &str) -> ModelConfig {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/torch-programs/tests/golden");
    let mut config = ModelConfig::at(golden.join(name));
    config.preprocessing = toml::from_str(card).unwrap();
    config
}

/// Pixels of 64 images, and PyTorch's logits.
fn expected() -> (Vec<u8>, Vec<f32>) {
    let file = fs::read(config("expected.safetensors", CARD).path).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let logits = file.tensor("pixel_logits").unwrap();
    let logits = logits
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes));
    (
        file.tensor("pixels").unwrap().data().to_vec(),
        logits.collect(),
    )
}

/// An open batch size, a fixed one of 16, and TorchScript.
#[test]
fn logits_are_those_of_pytorch_for_any_batch_size() {
    let (pixels, expected) = expected();
    let torch_script = format!("{CARD}{TORCH_SCRIPT}");
    for (name, card) in [
        ("open-batch.pt2", CARD),
        ("batch-16.pt2", CARD),
        ("scripted.pt", &torch_script),
        ("traced.pt", &torch_script),
    ] {
        let config = config(name, card);
        let mut teacher = open(&config).unwrap();
        let description = teacher.description().clone();
        assert_eq!(
            description.input.to_string(),
            "`pixels` UINT8 [batch, 3, 8, 8]"
        );
        assert!(
            description.identity.numerics.contains("libtorch"),
            "{:?}",
            description.identity
        );
        for size in [1, 7, 64] {
            let found: Vec<f32> = pixels
                .chunks(size * SAMPLE)
                .flat_map(|batch| logits(&mut *teacher, batch))
                .collect();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() <= 1e-5,
                    "{name}: {found} is not {expected}"
                );
            }
        }
        assert_eq!(
            open(&config).unwrap().description().identity,
            description.identity,
            "{name}"
        );
    }
}

#[test]
fn different_files_are_different_teachers() {
    let identity = |name| {
        open(&config(name, CARD))
            .unwrap()
            .description()
            .identity
            .clone()
    };
    assert_ne!(
        identity("open-batch.pt2").model_id,
        identity("batch-16.pt2").model_id
    );
}

#[test]
fn refusals_say_what_to_do() {
    let with = |more: &str| format!("{CARD}{more}");
    let nine_names = CARD.replace(", \"j\"", "");
    for (name, card, named) in [
        (
            "training-mode.pt2",
            CARD.to_owned(),
            "call model.eval() before torch.export.export",
        ),
        ("state-dict.pth", CARD.to_owned(), "save_file("),
        ("state-dict-legacy.pth", CARD.to_owned(), "save_file("),
        ("two-inputs.pt2", CARD.to_owned(), "a teacher has one input"),
        (
            "open-batch.pt2",
            nine_names,
            "9 names, but the model has 10 classes",
        ),
        (
            "open-batch.pt2",
            with("size = [9, 9]"),
            "the model takes images of [8, 8]",
        ),
        (
            "scripted.pt",
            CARD.to_owned(),
            "set model.preprocessing.layout",
        ),
        (
            "scripted.pt",
            with("layout = \"nchw\""),
            "set model.preprocessing.size",
        ),
    ] {
        let error = refusal(&config(name, &card));
        assert!(error.contains(named), "{name}: {named} is not in: {error}");
    }
}
