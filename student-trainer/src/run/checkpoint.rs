//! One checkpoint: a safetensors file with the run's state in its metadata.
//!
//! A single file, so that a rename writes it atomically. `network.NAME` are the weights, `ema.NAME` their moving
//! average, and `best.NAME` those of the best epoch; `activation_range.NAME` is the range of an activation in a
//! quantization-aware phase; `SLOT.NAME`, such as `velocity.NAME`, is the optimizer's state. The metadata entry
//! `retort_checkpoint` is JSON: the state, and a SHA-256 of state and tensors that detects a damaged file.

mod ranges;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
};

use artifacts::manifest::TeacherIdentity;
use common::{
    atomic_file,
    digest::{RollingSha256, Sha256},
    folders,
};
use networks::{NetworkSpec, WeightTensor, Weights, WeightsError};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    manifest::PhaseRecord,
    teachers::{RunTeachers, UsedTeacher},
};
use crate::{
    config::PhaseKind,
    engine::{OptimizerState, PhaseProgress, PhaseState},
};

/// The format that is written, and the newest that is read.
pub(super) const FORMAT_VERSION: u32 = 1;

const METADATA: &str = "retort_checkpoint";
const NETWORK: &str = "network";
const EMA: &str = "ema";
const BEST: &str = "best";
const RANGES: &str = "activation_range";

/// Everything that a run needs to resume.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checkpoint {
    pub(super) run: RunProgress,
    pub(super) phase: PhaseState,
}

/// The position and the history of a run, without its current phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunProgress {
    /// Optimizer steps over all phases, as if no phase stopped early; the checkpoint's number.
    pub(super) step: u64,
    /// The current phase: position in the run, 0-based.
    pub(super) phase: usize,
    /// What that phase does.
    pub(super) kind: PhaseKind,
    /// The phases before it.
    pub(super) phases: Vec<PhaseRecord>,
    pub(super) circumstances: Circumstances,
    /// The teacher whose soft targets were used so far, if it has no name.
    pub(super) teacher: Option<TeacherIdentity>,
    /// Digest of the order into which that teacher's classes were brought, if it is not that of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) class_order: Option<Sha256>,
    /// The named teachers whose soft targets were used so far.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) teachers: BTreeMap<String, UsedTeacher>,
    /// False if the run allowed anything that may change the bits.
    pub(super) bit_reproducible: bool,
    /// Length of `metrics.jsonl` at this point.
    pub(super) metrics_bytes: u64,
    /// Wall-clock time of the run so far.
    pub(super) seconds: f64,
}

impl RunProgress {
    /// The teachers whose soft targets were used so far.
    pub(super) fn used_teachers(&self) -> RunTeachers {
        let identity = self.teacher.clone();
        RunTeachers {
            single: identity.map(|identity| UsedTeacher {
                identity,
                class_order: self.class_order.clone(),
            }),
            named: self.teachers.clone(),
        }
    }
}

/// The circumstances that affect the bits of a run, besides its configuration and its teachers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Circumstances {
    /// Compute threads.
    pub(super) threads: usize,
    /// Precision, device, instruction set and libtorch version, as text.
    pub(super) numerics: String,
    /// SHA-256 of the untrained network's logits of a fixed probe batch.
    pub(super) probe_sha256: String,
    /// Fingerprint of the training split, or of the sample of it that the run trains on.
    pub(super) dataset: String,
    /// SHA-256 of the file with the initial weights; `None` if they were random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) initial_weights: Option<Sha256>,
}

/// Why a checkpoint cannot be read or written; the text does not name the file.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is truncated or damaged, or is not a checkpoint.
    #[error("damaged or no checkpoint: {0}")]
    Damaged(String),
    /// A newer Retort wrote it.
    #[error(
        "format_version {found} is newer than {FORMAT_VERSION}, the newest that this build reads"
    )]
    NewerFormat {
        /// The version in the file.
        found: u32,
    },
    /// An older version trained without a teacher for a while, which this one cannot continue.
    #[error(
        "the run trained on hard labels alone while it had no teacher (teacher.when_gone = \
         \"hard_labels\"), which this version of Retort does not support"
    )]
    TrainedWithoutTeacher,
    /// The tensors belong to another network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// The metadata entry. The state comes last: see [`read_envelope`].
#[derive(Serialize, Deserialize)]
struct Envelope<S> {
    format_version: u32,
    /// Digest of the state as JSON, then of name and bytes of every tensor in the order of their names.
    sha256: Sha256,
    state: S,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    run: RunProgress,
    phase: PhaseProgress,
}

impl Checkpoint {
    /// Writes the file atomically.
    pub(super) fn write(&self, file: &Path) -> Result<(), CheckpointError> {
        Ok(atomic_file::write(file, &self.to_bytes()?)?)
    }

    /// The bytes of the file.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, CheckpointError> {
        let ranges = self.phase.ranges.as_ref().map(ranges::to_tensors);
        let ranges = ranges.unwrap_or_default();
        let tensors = self.tensors(&ranges);
        let state = State {
            run: self.run.clone(),
            phase: self.phase.progress.clone(),
        };
        let views = tensors
            .iter()
            .map(|(name, tensor)| (&**name, tensor.to_le_bytes()));
        let envelope = Envelope {
            format_version: FORMAT_VERSION,
            sha256: digest(&to_json(&state), views),
            state,
        };
        let metadata = HashMap::from([(METADATA.to_owned(), to_json(&envelope))]);
        safetensors::serialize(tensors, Some(metadata))
            .map_err(|error| CheckpointError::Damaged(error.to_string()))
    }

    /// Reads a file; verifies its digest and that it belongs to a run of `network`.
    pub(super) fn read(file: &Path, network: &NetworkSpec) -> Result<Self, CheckpointError> {
        Self::parse(&folders::read(file)?, network)
    }

    /// Reads the bytes of a file, as [`Self::read`].
    pub(super) fn parse(bytes: &[u8], network: &NetworkSpec) -> Result<Self, CheckpointError> {
        let damaged = |error: &dyn std::fmt::Display| CheckpointError::Damaged(error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(&error))?;
        let metadata = header.metadata().as_ref();
        let text = metadata
            .and_then(|metadata| metadata.get(METADATA))
            .ok_or_else(|| damaged(&format!("metadata entry `{METADATA}` is missing")))?;
        let (sha256, state_json, state) = read_envelope(text)?;

        let tensors = SafeTensors::deserialize(bytes).map_err(|error| damaged(&error))?;
        let views: BTreeMap<_, _> = tensors.iter().collect();
        let found = digest(
            state_json,
            views.iter().map(|(name, view)| (*name, view.data())),
        );
        if found != sha256 {
            return Err(damaged(&format!("its SHA-256 is {found}, not {sha256}")));
        }
        let mut slots: OptimizerState = BTreeMap::new();
        for (name, view) in views {
            if view.dtype() != Dtype::F32 {
                return Err(damaged(&format!("tensor `{name}` is {:?}", view.dtype())));
            }
            let (values, _) = view.data().as_chunks::<4>();
            let tensor = WeightTensor {
                shape: view.shape().to_vec(),
                data: values.iter().copied().map(f32::from_le_bytes).collect(),
            };
            let (slot, name) = name
                .split_once('.')
                .ok_or_else(|| damaged(&format!("tensor `{name}` has no slot")))?;
            let slot = slots.entry(slot.to_owned()).or_default();
            slot.insert(name.to_owned(), tensor);
        }
        let weights = |tensors| Weights::from_tensors(tensors, network);
        let ranges = slots.remove(RANGES);
        Ok(Self {
            run: state.run,
            phase: PhaseState {
                progress: state.phase,
                weights: weights(slots.remove(NETWORK).unwrap_or_default())?,
                ema: slots.remove(EMA).map(weights).transpose()?,
                best: slots.remove(BEST).map(weights).transpose()?,
                ranges: ranges.map(ranges::read).transpose()?,
                optimizer: slots,
            },
        })
    }

    /// All tensors, with those of the ranges, by name in the file.
    fn tensors<'t>(
        &'t self,
        ranges: &'t BTreeMap<String, WeightTensor>,
    ) -> BTreeMap<String, &'t WeightTensor> {
        let PhaseState {
            weights,
            optimizer,
            ema,
            best,
            ..
        } = &self.phase;
        let copies = [
            (NETWORK, Some(weights)),
            (EMA, ema.as_ref()),
            (BEST, best.as_ref()),
        ];
        let copies = copies.into_iter().flat_map(|(slot, weights)| {
            let tensors = weights.into_iter().flat_map(Weights::iter);
            tensors.map(move |(name, tensor)| (format!("{slot}.{name}"), tensor))
        });
        let optimizer = optimizer.iter().flat_map(|(slot, tensors)| {
            let tensors = tensors.iter();
            tensors.map(move |(name, tensor)| (format!("{slot}.{name}"), tensor))
        });
        let ranges = ranges.iter();
        let ranges = ranges.map(|(name, tensor)| (format!("{RANGES}.{name}"), tensor));
        copies.chain(optimizer).chain(ranges).collect()
    }
}

/// The digest that the metadata entry names, the state as it was written, and the state.
fn read_envelope(text: &str) -> Result<(Sha256, &str, State), CheckpointError> {
    /// Parsed first: a newer file may have other fields.
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let damaged = |error: serde_json::Error| CheckpointError::Damaged(error.to_string());
    let Version { format_version } = serde_json::from_str(text).map_err(damaged)?;
    if format_version > FORMAT_VERSION {
        return Err(CheckpointError::NewerFormat {
            found: format_version,
        });
    }
    let envelope: Envelope<Value> = serde_json::from_str(text).map_err(damaged)?;
    let Envelope {
        sha256, mut state, ..
    } = envelope;
    remove_hard_label_steps(&mut state)?;
    let state = serde_json::from_value(state).map_err(damaged)?;
    // A text that is written otherwise gives another digest, so the checkpoint counts as damaged.
    let state_json = text.split_once("\"state\":");
    let state_json = state_json.and_then(|(_, state)| state.strip_suffix('}'));
    Ok((sha256, state_json.unwrap_or_default(), state))
}

/// Removes the steps that older versions trained without a teacher from a checkpoint's state.
///
/// # Errors
/// [`CheckpointError::TrainedWithoutTeacher`] if there are any.
fn remove_hard_label_steps(state: &mut Value) -> Result<(), CheckpointError> {
    let phase = state.get_mut("phase").and_then(Value::as_object_mut);
    let steps = phase.and_then(|phase| phase.remove("hard_label_steps"));
    let now = steps.is_some_and(|steps| steps != Value::Array(Vec::new()));
    let mut phases = state["run"]["phases"].as_array().into_iter().flatten();
    let before = phases.any(|phase| phase.get("hard_label_batches").is_some());
    if now || before {
        return Err(CheckpointError::TrainedWithoutTeacher);
    }
    Ok(())
}

/// Covers every bit of state and tensors.
fn digest<'t, B: AsRef<[u8]>>(
    state_json: &str,
    tensors: impl Iterator<Item = (&'t str, B)>,
) -> Sha256 {
    let mut digest = RollingSha256::default();
    digest.update(state_json.as_bytes());
    for (name, bytes) in tensors {
        digest.update(name.as_bytes());
        digest.update(bytes.as_ref());
    }
    digest.finish()
}

fn to_json(value: &impl Serialize) -> String {
    // Holds: keys are strings, and numbers are finite because the engine stops at others.
    serde_json::to_string(value).expect("a checkpoint's state serializes")
}

#[cfg(test)]
mod properties;

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use networks::onnx::{Range, Ranges};

    use super::*;

    pub fn network() -> NetworkSpec {
        let spec = "input = [1, 4, 4]\nclasses = 2\npreset = \"cnn\"\nwidths = [3]";
        toml::from_str(spec).unwrap()
    }

    /// A state after `step` steps, `score` the validation accuracy of an epoch that ends there.
    pub fn checkpoint(step: u64, score: Option<f64>) -> Checkpoint {
        let weights = Weights::initial(&network(), step).unwrap();
        let tensors = weights.iter();
        let velocities = tensors.map(|(name, tensor)| (name.to_owned(), tensor.clone()));
        let optimizer = BTreeMap::from([("velocity".to_owned(), velocities.collect())]);
        let last_epoch = crate::engine::EpochSummary {
            train_loss: 1.0 / 3.0,
            train_accuracy: Some(0.1),
            validation_accuracy: score,
        };
        Checkpoint {
            run: RunProgress {
                step,
                phase: 0,
                kind: PhaseKind::Distill,
                phases: Vec::new(),
                circumstances: Circumstances {
                    threads: 1,
                    numerics: "f32 on cpu".into(),
                    probe_sha256: "p".into(),
                    dataset: "d".into(),
                    initial_weights: Some(Sha256::of(b"w")),
                },
                teacher: None,
                class_order: None,
                teachers: BTreeMap::new(),
                bit_reproducible: true,
                metrics_bytes: 12,
                seconds: 0.1 + 0.2,
            },
            phase: PhaseState {
                progress: PhaseProgress {
                    epoch: 1,
                    step: u64::from(score.is_none()),
                    last_epoch: Some(last_epoch),
                    ..PhaseProgress::default()
                },
                optimizer,
                ema: None,
                best: None,
                ranges: None,
                weights,
            },
        }
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.safetensors");
        let written = checkpoint(7, None);
        written.write(&file).unwrap();
        assert_eq!(Checkpoint::read(&file, &network()).unwrap(), written);
    }

    /// With everything that a checkpoint may contain.
    fn full(step: u64) -> Checkpoint {
        let mut checkpoint = checkpoint(step, Some(0.5));
        let PhaseState {
            progress,
            optimizer,
            ema,
            best,
            ranges,
            ..
        } = &mut checkpoint.phase;
        let velocities = optimizer.remove("velocity").unwrap();
        let squares = ("exp_avg_sq".to_owned(), velocities.clone());
        *optimizer = BTreeMap::from([("exp_avg".to_owned(), velocities), squares]);
        let identity = TeacherIdentity {
            model_id: "m".to_owned(),
            numerics: "n".to_owned(),
            probe_sha256: "p".to_owned(),
        };
        let used = UsedTeacher {
            identity,
            class_order: Some(Sha256::of(b"o")),
        };
        checkpoint.run.teachers = BTreeMap::from([("big".to_owned(), used)]);
        *ema = Some(Weights::initial(&network(), step + 1).unwrap());
        *best = Some(Weights::initial(&network(), step + 2).unwrap());
        let range = Range {
            min: -1.0 / 3.0,
            max: f32::MIN_POSITIVE / 3.0,
        };
        *ranges = Some(Ranges::from([("layers.0.output".to_owned(), range)]));
        progress.best_epoch = Some(crate::engine::BestEpoch {
            epoch: 1,
            summary: progress.last_epoch.unwrap(),
        });
        checkpoint
    }

    #[test]
    fn averages_best_weights_and_every_slot_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.safetensors");
        full(7).write(&file).unwrap();
        assert_eq!(Checkpoint::read(&file, &network()).unwrap(), full(7));
    }

    #[test]
    fn a_phase_without_them_has_the_tensors_and_the_state_of_older_versions() {
        let checkpoint = checkpoint(7, Some(0.5));
        let none = BTreeMap::new();
        let tensors = checkpoint.tensors(&none);
        let slots = tensors.keys().map(|name| name.split('.').next().unwrap());
        let slots: std::collections::BTreeSet<_> = slots.collect();
        assert!(slots.into_iter().eq(["network", "velocity"]));
        let progress = serde_json::to_value(&checkpoint.phase.progress).unwrap();
        assert!(progress.get("best_epoch").is_none(), "{progress}");
        let run = serde_json::to_value(&checkpoint.run).unwrap();
        assert!(run.get("teachers").is_none(), "{run}");
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.safetensors");
        checkpoint(7, None).write(&file).unwrap();
        let whole = fs::read(&file).unwrap();
        for position in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[position] ^= 1;
            match Checkpoint::parse(&flipped, &network()) {
                Err(_) => {}
                // JSON between tokens, and padding, may be written otherwise.
                Ok(read) => assert_eq!(read, checkpoint(7, None), "byte {position}"),
            }
        }
        for length in (0..whole.len()).step_by(7) {
            let read = Checkpoint::parse(&whole[..length], &network());
            assert!(read.is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_checkpoint_of_an_older_version_is_read_unless_it_trained_without_a_teacher() {
        let Checkpoint { run, phase } = checkpoint(7, None);
        let state = to_json(&State {
            run,
            phase: phase.progress.clone(),
        });
        let read = |from: &str, to: &str| {
            assert!(state.contains(from), "{state}");
            let state = state.replacen(from, to, 1);
            let sha256 = Sha256::of(state.as_bytes());
            let text =
                format!("{{\"format_version\":1,\"sha256\":\"{sha256}\",\"state\":{state}}}");
            read_envelope(&text).map(|(_, read_json, read)| {
                assert_eq!(read_json, state);
                read.phase
            })
        };
        let older = "\"hard_label_steps\":[],\"epoch_seconds\"";
        assert_eq!(read("\"epoch_seconds\"", older).unwrap(), phase.progress);
        let steps = "\"hard_label_steps\":[[3,5]],\"epoch_seconds\"";
        let phases = "\"phases\":[{\"hard_label_batches\":2}]";
        for (from, to) in [("\"epoch_seconds\"", steps), ("\"phases\":[]", phases)] {
            let error = read(from, to).unwrap_err().to_string();
            assert!(error.contains("teacher.when_gone"), "{error}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let text = r#"{"format_version": 2, "what": "ever"}"#;
        let error = read_envelope(text).err().unwrap().to_string();
        assert!(
            error.contains("format_version 2 is newer than 1"),
            "{error}"
        );
    }
}
