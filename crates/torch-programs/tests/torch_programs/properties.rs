//! Damaged files: each is rejected, or computes what the original computes.

use std::fs;

use proptest::prelude::*;
use test_support::damage::{cases, damaged};
use torch_programs::{Device, Kind, Program, Tensor};

use crate::edited_archive::{edited, golden_bytes};

/// The logits of a fixed input.
fn logits(bytes: &[u8]) -> Result<Vec<f32>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("program");
    fs::write(&file, bytes).expect("space");
    let program = Program::open(&file, Device::Cpu).map_err(|error| error.to_string())?;
    let input = Tensor::ones([2, 3, 8, 8], (Kind::Float, Device::Cpu));
    let outputs = program.run(&[input]).map_err(|error| error.to_string())?;
    Ok(Vec::try_from(outputs[0].reshape([-1])).expect("f32 values"))
}

fn assert_same_or_rejected(original: &str, bytes: &[u8]) {
    if let Ok(found) = logits(bytes) {
        assert_eq!(
            found,
            logits(&golden_bytes(original)).expect("the original runs")
        );
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn damaged_exported_programs(bytes in damaged(vec![golden_bytes("open-batch.pt2")])) {
        assert_same_or_rejected("open-batch.pt2", &bytes);
    }

    #[test]
    fn damaged_torch_script(bytes in damaged(vec![golden_bytes("scripted.pt")])) {
        assert_same_or_rejected("scripted.pt", &bytes);
    }

    /// The checksums are correct, so libtorch itself reads the code. What it computes then is what the file says.
    #[test]
    fn torch_script_with_other_code(changes in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let original = golden_bytes("scripted.pt");
        let bytes = edited(&original, |record, mut bytes| {
            if record == "code/__torch__/torch/nn/modules/batchnorm.py" {
                let at = changes.index(bytes.len());
                bytes[at] = byte;
            }
            Some(bytes)
        });
        let _computed_or_rejected = logits(&bytes);
    }
}
