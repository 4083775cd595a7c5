//! `retort targets`: recorded soft targets on this machine.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use common::{
    disk_space::human_bytes,
    output::{Messages, OutputError, Results},
};
use object_storage::Location;
use soft_targets::{Encoding, Fault, Recording, Recordings, StoreError, pack, unpack};

use crate::CliError;

const EXAMPLES: &str = "\
Examples:
  retort targets list targets
  retort targets verify targets               reads and checks every byte
  retort targets pack targets/3f9a1c0b7d2e-f16-0c4f6a5b1e2d --output targets.tar
  retort targets unpack targets.tar --into targets
  retort targets sizes --classes 10,1000,21841";

/// List, verify, pack and unpack recorded soft targets in folders.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TargetsArguments {
    #[command(subcommand)]
    command: TargetsCommand,
}

#[derive(Debug, Subcommand)]
enum TargetsCommand {
    /// List the recordings in a folder. Standard error names damaged ones.
    List {
        /// A `soft_targets.folder`.
        folder: PathBuf,
    },
    /// Verify every byte of a folder's recordings. Exit code 1 if a recording or a shard cannot be used.
    Verify {
        /// A `soft_targets.folder`, or the folder of one recording.
        folder: PathBuf,
    },
    /// Write one recording to one file, to copy it to another machine.
    Pack {
        /// The folder of one recording.
        recording: PathBuf,
        /// The tar file to write.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Unpack a recording from its file, and verify every byte.
    Unpack {
        /// A file that `pack` wrote.
        file: PathBuf,
        /// A `soft_targets.folder`.
        #[arg(long)]
        into: PathBuf,
    },
    /// Print the bytes per sample of each encoding.
    Sizes {
        /// Numbers of classes.
        #[arg(long, value_delimiter = ',', default_values_t = [10, 1000, 21_841])]
        classes: Vec<usize>,
    },
}

/// `retort targets`.
pub(crate) fn execute(arguments: TargetsArguments) -> Result<(), CliError> {
    match arguments.command {
        TargetsCommand::List { folder } => list(&Recordings::list(&local(&folder)?)?),
        TargetsCommand::Verify { folder } => {
            let folder = local(&folder)?;
            let recordings = Recordings::list(&folder)?;
            if recordings.is_empty() {
                verify(&[Recording::open(&folder)?], &[])
            } else {
                verify(&recordings.usable, &recordings.damaged)
            }
        }
        TargetsCommand::Pack { recording, output } => {
            let packed = pack(&Recording::open(&local(&recording)?)?, &local(&output)?)?;
            writeln!(
                Results,
                "{}: {} shards, {}, SHA-256 {}",
                packed.path.display(),
                packed.shards,
                human_bytes(packed.bytes),
                packed.sha256
            )?;
            Ok(())
        }
        TargetsCommand::Unpack { file, into } => {
            let unpacked = unpack(&local(&file)?, &local(&into)?)?;
            writeln!(
                Results,
                "{}: {} shards, all intact; SHA-256 of {}: {}",
                unpacked.path.display(),
                unpacked.shards,
                file.display(),
                unpacked.sha256
            )?;
            Ok(())
        }
        TargetsCommand::Sizes { classes } => Ok(sizes(&classes)?),
    }
}

/// A file or folder of this machine. A URL would be taken for the name of a folder.
fn local(path: &Path) -> Result<PathBuf, CliError> {
    match Location::parse(path) {
        Ok(Location::Folder(path)) => Ok(path),
        Ok(Location::Bucket(_)) | Err(_) => Err(CliError::NotLocal(path.to_owned())),
    }
}

fn list(recordings: &Recordings) -> Result<(), CliError> {
    writeln!(
        Results,
        "{:<42} {:>8} {:>7} {:<13} {:>5} {:>13} {:>10}  AUGMENTATION",
        "RECORDING", "IMAGES", "CLASSES", "ENCODING", "VIEWS", "SHARDS", "SIZE"
    )?;
    for recording in &recordings.usable {
        let views = recording.views()?;
        let (mut shards, mut present, mut bytes) = (0, 0, 0);
        for id in recording.shards(views) {
            shards += 1;
            if let Ok(file) = std::fs::metadata(recording.folder().join(id.path())) {
                present += 1;
                bytes += file.len();
            }
        }
        let identity = recording.identity();
        writeln!(
            Results,
            "{:<42} {:>8} {:>7} {:<13} {:>5} {:>13} {:>10}  {}, view_seed {}",
            recording.name(),
            identity.images.samples,
            identity.images.classes,
            identity.encoding.to_string(),
            views,
            format!("{present} of {shards}"),
            human_bytes(bytes),
            identity.views.augmentation,
            identity.views.seed
        )?;
    }
    for damaged in &recordings.damaged {
        writeln!(Messages, "warning: {damaged}");
    }
    let damaged = recordings.damaged.len();
    if damaged > 0 {
        let all = recordings.usable.len() + damaged;
        writeln!(
            Messages,
            "warning: {damaged} of {all} recordings cannot be read and are not listed"
        );
    }
    Ok(())
}

fn verify(recordings: &[Recording], damaged: &[StoreError]) -> Result<(), CliError> {
    let mut faulty = 0;
    for damaged in damaged {
        writeln!(Results, "{damaged}")?;
    }
    for recording in recordings {
        let views = recording.views()?;
        let faults = recording.faults(views);
        for fault in &faults {
            writeln!(Results, "{}/{fault}", recording.name())?;
        }
        let missing = faults.iter().filter(|fault| fault.fault == Fault::Missing);
        let (all, missing) = (recording.shards(views).count(), missing.count());
        let damaged = faults.len() - missing;
        writeln!(
            Results,
            "{}: {views} views, {} of {all} shards are intact, {missing} missing, {damaged} damaged",
            recording.name(),
            all - faults.len()
        )?;
        faulty += faults.len();
    }
    if damaged.is_empty() && faulty == 0 {
        Ok(())
    } else {
        Err(CliError::FaultyTargets {
            recordings: damaged.len(),
            shards: faulty,
        })
    }
}

fn sizes(classes: &[usize]) -> Result<(), OutputError> {
    write!(Results, "{:<12}", "ENCODING")?;
    for count in classes {
        write!(Results, " {:>16}", format!("{count} classes"))?;
    }
    writeln!(Results, "   bytes per sample")?;
    for text in [
        "f32",
        "f16",
        "top-8",
        "top-32",
        "top-32-f32",
        "top-128",
        "sampled-50",
    ] {
        let Ok(encoding) = text.parse::<Encoding>() else {
            continue;
        };
        write!(Results, "{text:<12}")?;
        for count in classes {
            write!(Results, " {:>16}", encoding.sample_bytes(*count).total())?;
        }
        writeln!(Results)?;
    }
    Ok(())
}
