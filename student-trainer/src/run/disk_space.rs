//! Whether the disk has the space that a run needs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use common::disk_space::{free_bytes, human_bytes};
use networks::Weights;

use super::folder::RunFolder;
use crate::config::RunConfig;

/// Why a run does not start on this disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskSpaceError {
    /// The disk has too little space.
    #[error(
        "{} has {} free, but the checkpoints and weights of this run take about {}; free some space, or lower \
         checkpoints.keep_last and checkpoints.keep_best",
        folder.display(), human_bytes(*free), human_bytes(*needed)
    )]
    NoSpace {
        /// The run's folder.
        folder: PathBuf,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The free space is not known.
    #[error("{}: {error}", folder.display())]
    Io {
        /// The run's folder.
        folder: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
}

/// Fails if the disk has too little space for the rest of a run.
///
/// # Errors
/// See [`DiskSpaceError`].
pub(super) fn check(
    folder: &RunFolder,
    config: &RunConfig,
    weights: &Weights,
) -> Result<(), DiskSpaceError> {
    let existing = bytes_of_files(&folder.checkpoints());
    let needed = needed_bytes(config, weights).saturating_sub(existing);
    let free = free_bytes(folder.path()).map_err(|error| DiskSpaceError::Io {
        folder: folder.path().to_owned(),
        error,
    })?;
    if needed <= free {
        return Ok(());
    }
    Err(DiskSpaceError::NoSpace {
        folder: folder.path().to_owned(),
        needed,
        free,
    })
}

/// The most that checkpoints, the weights of each phase, and the artifact take at one time.
fn needed_bytes(config: &RunConfig, weights: &Weights) -> u64 {
    let values: usize = weights.iter().map(|(_, tensor)| tensor.data.len()).sum();
    let network = (values * size_of::<f32>()) as u64;
    let phases = config.phases.iter().map(|phase| {
        let ema = usize::from(phase.ema.is_some());
        let best = usize::from(phase.early_stopping.is_some());
        phase.optimizer.slots() + ema + best
    });
    // A checkpoint holds the weights, and what else the phase needs. It is written before the oldest one is
    // removed.
    let checkpoint = (1 + phases.max().unwrap_or_default() as u64) * network;
    let kept = (config.checkpoints.keep_last + config.checkpoints.keep_best + 1) as u64;
    let onnx = u64::from(config.export.onnx);
    // A quarter, and scales.
    let int8 = u64::from(config.export.int8.is_some());
    let copies = config.phases.len() as u64 + 1 + onnx + int8;
    kept * checkpoint + copies * network
}

/// Size of the files in a folder; 0 if the folder does not exist.
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
    use test_support::run_toml::RunToml;

    use super::*;

    #[test]
    fn checkpoints_and_copies_of_the_weights_are_counted() {
        let toml = RunToml {
            network: "input = [1, 2, 2]\nclasses = 10\npreset = \"mlp\"\nwidths = [8]",
            tables: "[data.augmentation]\npad = 0\n[checkpoints]\nkeep_last = 2\nkeep_best = 1",
            ..RunToml::default()
        };
        let config = RunConfig::from_toml(&toml.to_string()).unwrap();
        let weights = Weights::initial(&config.network, 1).unwrap();
        let bytes = needed_bytes(&config, &weights);
        // 4 × 8 + 8 + 8 × 10 + 10 values: four checkpoints of two, the phase, the artifact and its ONNX file.
        assert_eq!(bytes, 130 * 4 * (4 * 2 + 3));
        let mut config = config;
        let phase = &mut config.phases[0];
        phase.optimizer = toml::from_str("kind = \"adamw\"").unwrap();
        phase.ema = Some(toml::from_str("decay = 0.9").unwrap());
        phase.early_stopping = Some(toml::from_str("patience = 1").unwrap());
        // Two slots of the optimizer, the average, the best weights.
        assert_eq!(needed_bytes(&config, &weights), 130 * 4 * (4 * 5 + 3));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(bytes_of_files(&folder.path().join("none")), 0);
        std::fs::write(folder.path().join("step-1"), [0; 100]).unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        assert_eq!(bytes_of_files(folder.path()), 100);
    }
}
