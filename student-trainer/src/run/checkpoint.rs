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
pub(super) mod tests;
