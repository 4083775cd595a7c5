//! Files that are rejected, with the message that says what to do.

use std::{fs, path::Path};

use serde_json::Value;
use torch_programs::{Device, Program};
use zip::CompressionMethod::{Deflated, Stored};

use crate::edited_archive::{archive, edited, golden, golden_bytes};

/// A change of a record in JSON.
type Edit = Box<dyn Fn(&mut Value)>;

#[test]
fn other_files_are_named_for_what_they_are() {
    let save_state_dict = "save_file({name: value.contiguous().clone() for name, value in weights.items()}, 'model.safetensors')";
    for (name, expected) in [
        ("state-dict.pth", save_state_dict),
        ("state-dict.pth", "torch.load('state-dict.pth'"),
        ("state-dict-legacy.pth", save_state_dict),
        (
            "training-mode.pt2",
            "was exported in training mode (torch.ops.aten.batch_norm.default); call model.eval()",
        ),
        (
            "expected.safetensors",
            "looks like safetensors, which holds weights without a program",
        ),
        (
            "make.py",
            "is not an archive of PyTorch; expected a file of torch.export.save or torch.jit.save",
        ),
        ("absent.pt2", "cannot read"),
        ("", "is not a file"),
    ] {
        assert_refused(&golden(name), expected);
    }
}

#[test]
fn incomplete_and_altered_files() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["open-batch.pt2", "scripted.pt"] {
        let bytes = golden_bytes(name);
        let file = folder.path().join(name);
        let cuts = [0, 1, 3, 4, 30, bytes.len() / 2, bytes.len() - 1];
        for length in cuts {
            fs::write(&file, &bytes[..length]).expect("space");
            let expected = match length {
                0 => "is empty",
                1 => "is not an archive of PyTorch",
                _ => "its end or its list of entries is missing or wrong",
            };
            assert_refused(&file, expected);
        }
        // A bit in the first record, which holds weights.
        let mut altered = bytes.clone();
        altered[200] ^= 1;
        fs::write(&file, &altered).expect("space");
        assert_refused(&file, "Invalid checksum");
    }
}

#[test]
fn native_code_and_foreign_archives() {
    let cases = [
        (
            archive(
                &[("data/aotinductor/model/code.wrapper.so", b"\x7fELF")],
                Stored,
            ),
            "holds native code (data/aotinductor/model/code.wrapper.so), as AOTInductor writes it, and is not loaded",
        ),
        (
            archive(
                &[("models/model.json", b"{}"), ("data/extra/code.so", b"")],
                Stored,
            ),
            "holds native code (data/extra/code.so)",
        ),
        (
            archive(&[("readme.txt", b"hello")], Stored),
            "is a ZIP archive without a program",
        ),
        (archive(&[], Stored), "is a ZIP archive without a program"),
        (
            archive(
                &[("models/a.json", b"{}"), ("models/b.json", b"{}")],
                Stored,
            ),
            "holds 2 programs and none is named \"model\"",
        ),
        (
            archive(&[("serialized_exported_program.json", b"{}")], Stored),
            "has a format that PyTorch wrote before 2.8",
        ),
    ];
    for (bytes, expected) in cases {
        let (_folder, file) = written(&bytes);
        assert_refused(&file, expected);
    }
}

/// A small file that inflates to more than the limit, in one entry and in many.
#[test]
fn archives_that_inflate_without_bounds() {
    let zeros = vec![0; 300 << 20];
    let one = archive(&[("models/model.json", &zeros)], Deflated);
    let part = &zeros[..3 << 20];
    let names: Vec<_> = (0..100).map(|number| format!("code/{number}.py")).collect();
    let records: Vec<_> = names.iter().map(|name| (name.as_str(), part)).collect();
    let many = archive(&records, Deflated);
    for bytes in [one, many] {
        assert!(bytes.len() < 2 << 20, "{} bytes", bytes.len());
        let (_folder, file) = written(&bytes);
        assert_refused(&file, "inflate to 314572800 bytes, more than 268435456");
    }
}

#[test]
fn graphs_and_weights_that_do_not_fit() {
    let cases: [(&str, Edit, &str); 7] = [
        (
            "models/model.json",
            Box::new(|json| json["schema_version"]["major"] = 9.into()),
            "has schema version 9.17 (written by PyTorch 2.11.0+cu130), but libtorch 2.11 reads version 8",
        ),
        (
            "models/model.json",
            Box::new(|json| {
                json["graph_module"]["graph"]["tensor_values"]["linear"]["device"]["type"] =
                    "cuda".into()
            }),
            "was exported for the device cuda:0, but is to run on cpu",
        ),
        (
            "models/model.json",
            Box::new(|json| {
                let inputs = json["graph_module"]["graph"]["inputs"].as_array_mut();
                inputs.expect("inputs").remove(0);
            }),
            "its signature does not match the inputs and outputs of its graph",
        ),
        (
            "models/model.json",
            Box::new(|json| json["graph_module"]["signature"]["output_specs"] = "none".into()),
            "is damaged: models/model.json: invalid type",
        ),
        (
            "models/model.json",
            Box::new(|json| {
                let nodes = json["graph_module"]["graph"]["nodes"]
                    .as_array_mut()
                    .expect("nodes");
                nodes[0]["target"] = "torch.ops.mine.unknown.default".into();
            }),
            "libtorch cannot load it",
        ),
        (
            "data/weights/model_weights_config.json",
            Box::new(|json| {
                json["config"]["0.weight"]["tensor_meta"]["sizes"][0]["as_int"] = 9.into()
            }),
            "the tensor 0.weight needs 972 bytes, but its record has 864",
        ),
        (
            "data/weights/model_weights_config.json",
            Box::new(|json| json["config"]["0.weight"]["path_name"] = "weight_99".into()),
            "the tensor 0.weight has no record data/weights/weight_99",
        ),
    ];
    for (edited_record, edit, expected) in cases {
        let bytes = edited_program(|record, bytes| {
            if record != edited_record {
                return Some(bytes);
            }
            let mut json = serde_json::from_slice(&bytes).expect("JSON");
            edit(&mut json);
            Some(serde_json::to_vec(&json).expect("JSON"))
        });
        let (_folder, file) = written(&bytes);
        assert_refused(&file, expected);
    }
}

#[test]
fn missing_records() {
    for missing in [
        "data/weights/model_weights_config.json",
        "data/constants/model_constants_config.json",
        "data/weights/weight_0",
    ] {
        let bytes = edited_program(|record, bytes| (record != missing).then_some(bytes));
        let (_folder, file) = written(&bytes);
        assert_refused(&file, missing);
    }
    let scripted = golden_bytes("scripted.pt");
    let without_weights = edited(&scripted, |record, bytes| {
        (record != "data/0").then_some(bytes)
    });
    let (_folder, file) = written(&without_weights);
    assert_refused(&file, "libtorch cannot load it");
}

fn edited_program(edit: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    edited(&golden_bytes("open-batch.pt2"), edit)
}

fn written(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("program.pt2");
    fs::write(&file, bytes).expect("space");
    (folder, file)
}

fn assert_refused(path: &Path, expected: &str) {
    let error = Program::open(path, Device::Cpu)
        .expect_err(expected)
        .to_string();
    assert!(error.contains(expected), "{expected:?} is not in {error:?}");
    assert!(
        error.contains(&path.display().to_string()),
        "{error:?} does not name the file"
    );
    assert!(!error.contains('\n'), "{error:?}");
}
