//! Whether the disk has the space that a run needs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use common::disk_space::{FileSystem, human_bytes};
use networks::Weights;
use soft_targets::{ShardSpace, StoreError};

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
    /// The disk has too little space for the run and what it records, together.
    #[error(transparent)]
    Recordings(StoreError),
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
    let needed = missing_bytes(folder, config, weights);
    let FileSystem { free, .. } = disk_of(folder)?;
    if needed <= free {
        return Ok(());
    }
    Err(DiskSpaceError::NoSpace {
        folder: folder.path().to_owned(),
        needed,
        free,
    })
}

/// Fails if a disk has too little space for the recordings that the run makes, with the folders and needs `recordings`, and for
/// the rest of the run if it is on the same disk.
///
/// # Errors
/// See [`DiskSpaceError`].
pub(super) fn check_with_recordings<'p>(
    folder: &'p RunFolder,
    config: &RunConfig,
    weights: &Weights,
    mut recordings: Vec<(&'p Path, ShardSpace)>,
) -> Result<(), DiskSpaceError> {
    recordings.retain(|(_, space)| space.needed > 0);
    if recordings.is_empty() {
        return Ok(());
    }
    let disk = disk_of(folder)?;
    let is_here = |space: &ShardSpace| space.disk.is_some_and(|it| it.device == disk.device);
    if recordings.iter().any(|(_, space)| is_here(space)) {
        let run = ShardSpace {
            needed: missing_bytes(folder, config, weights),
            disk: Some(disk),
        };
        recordings.push((folder.path(), run));
    }
    ShardSpace::check_together(&recordings).map_err(DiskSpaceError::Recordings)
}

fn disk_of(folder: &RunFolder) -> Result<FileSystem, DiskSpaceError> {
    FileSystem::of(folder.path()).map_err(|error| DiskSpaceError::Io {
        folder: folder.path().to_owned(),
        error,
    })
}

/// What the run still writes, without recordings.
fn missing_bytes(folder: &RunFolder, config: &RunConfig, weights: &Weights) -> u64 {
    let existing = bytes_of_files(&folder.checkpoints());
    needed_bytes(config, weights).saturating_sub(existing)
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

    #[test]
    fn a_run_and_the_recordings_on_its_disk_need_space_together() {
        let config = RunConfig::from_toml(&RunToml::default().to_string()).unwrap();
        let weights = Weights::initial(&config.network, 1).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder::take(&parent.path().join("run")).unwrap();
        let disk = disk_of(&folder).unwrap();
        let check = |needed: u64, disk: FileSystem| {
            let space = ShardSpace {
                needed,
                disk: Some(disk),
            };
            let recordings = vec![(Path::new("targets"), space)];
            check_with_recordings(&folder, &config, &weights, recordings)
        };
        // Complete recordings need nothing, however full the disk is.
        check(0, FileSystem { free: 0, ..disk }).unwrap();
        let error = check(disk.free, disk).unwrap_err().to_string();
        let run = folder.path().display().to_string();
        assert!(error.contains(&run) && error.contains("targets"), "{error}");
        let other = FileSystem {
            device: disk.device + 1,
            ..disk
        };
        let error = check(disk.free, other).unwrap_err().to_string();
        assert!(!error.contains(&run), "{error}");
        assert!(error.starts_with("targets has "), "{error}");
    }
}
