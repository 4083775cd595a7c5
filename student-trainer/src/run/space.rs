//! Whether the disk holds what a run leaves, before it trains.

use std::{fs, path::Path};

use networks::Weights;
use soft_targets::free_bytes;

use super::{Run, RunError};
use crate::config::RunConfig;

impl Run<'_> {
    /// # Errors
    /// [`RunError::NoSpace`]; I/O errors.
    pub(super) fn check_space(&self, initial: &Weights) -> Result<(), RunError> {
        let there = bytes_of_files(&self.folder.checkpoints());
        let needed = needed_bytes(&self.config, initial).saturating_sub(there);
        let free = free_bytes(self.context.folder)?;
        if needed <= free {
            return Ok(());
        }
        Err(RunError::NoSpace {
            folder: self.context.folder.to_owned(),
            needed,
            free,
        })
    }
}

/// What checkpoints, the weights of each phase, and the artifact take at most at one time.
fn needed_bytes(config: &RunConfig, weights: &Weights) -> u64 {
    let values: usize = weights.iter().map(|(_, tensor)| tensor.data.len()).sum();
    let network = (values * size_of::<f32>()) as u64;
    // Weights and the optimizer's state. A new one is written before the oldest is removed.
    let checkpoint = 2 * network;
    let kept = (config.checkpoints.keep_last + config.checkpoints.keep_best + 1) as u64;
    let onnx = if config.export.onnx { 1 } else { 0 };
    let copies = config.phases.len() as u64 + 1 + onnx;
    kept * checkpoint + copies * network
}

/// Of the files in a folder; 0 where there is no such folder.
fn bytes_of_files(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok());
    files
        .filter(fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_and_copies_of_the_weights_are_reckoned() {
        let config = RunConfig::from_toml(
            r#"
            [network]
            input = [1, 2, 2]
            classes = 10
            preset = "mlp"
            widths = [8]
            [[phases]]
            epochs = 1
            batch_size = 32
            loss = { kind = "cross_entropy" }
            optimizer = { kind = "sgd" }
            schedule = { kind = "constant", learning_rate = 0.1 }
            [data.augmentation]
            pad = 0
            [checkpoints]
            keep_last = 2
            keep_best = 1
            "#,
        )
        .unwrap();
        let weights = Weights::initial(&config.network, 1).unwrap();
        let bytes = needed_bytes(&config, &weights);
        // 4 × 8 + 8 + 8 × 10 + 10 values: four checkpoints of two, the phase, the artifact and its ONNX file.
        assert_eq!(bytes, 130 * 4 * (4 * 2 + 3));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(bytes_of_files(&folder.path().join("none")), 0);
        std::fs::write(folder.path().join("step-1"), [0; 100]).unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        assert_eq!(bytes_of_files(folder.path()), 100);
    }
}
