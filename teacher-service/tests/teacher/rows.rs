//! Retort's own networks of rows as teachers, compared with the ONNX models that are exported from them.

use std::fs;

use networks::onnx::{Standardization, export_standardized};
use teacher_service::{
    backend::Backend,
    batch::{Batch, Input},
    model::ModelConfig,
};
use tempfile::TempDir;

use crate::{
    opened::{assert_close, open},
    support::write_artifact,
};

const NETWORK: &str = "input = [3]\nclasses = 2\npreset = \"mlp\"\nwidths = [16]";

#[test]
fn a_network_of_rows_standardizes_them_like_its_exported_model() {
    let folder = TempDir::new().unwrap();
    let artifact = folder.path().join("artifact");
    let (model, weights) = write_artifact(&artifact, NETWORK, 1);
    let mut network = open(&ModelConfig::at(artifact)).unwrap();

    let standardization = Standardization {
        mean: &model.normalization_mean,
        std: &model.normalization_std,
    };
    let onnx = export_standardized(&model.network, &weights, standardization).unwrap();
    let file = folder.path().join("model.onnx");
    fs::write(&file, onnx).unwrap();
    let mut config = ModelConfig::at(file);
    let card = "output = \"logits\"\nclass_names = [\"a\", \"b\"]";
    config.preprocessing = toml::from_str(card).unwrap();
    let mut exported = open(&config).unwrap();

    let specs = [&network, &exported].map(|teacher| teacher.description().input.clone());
    assert_eq!(specs[0].to_string(), "`rows` FP32 [batch, 3]");
    assert_eq!(
        (specs[0].data_type, &specs[0].dimensions),
        (specs[1].data_type, &specs[1].dimensions)
    );
    for samples in [1, 7] {
        let rows = (0..3 * samples).map(|i| (i as f32 * 0.7).sin() * 3.0);
        let batch = Batch {
            samples,
            input: Input::F32(rows.collect()),
        };
        let logits = |teacher: &mut dyn Backend| teacher.logits(&batch).unwrap();
        assert_close(&logits(&mut *network), &logits(&mut *exported));
    }
}
