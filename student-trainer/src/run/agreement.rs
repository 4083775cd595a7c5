//! What the workers of a run must have in common, checked before they train.

use std::collections::BTreeMap;

use networks::{
    NetworkSpec,
    onnx::{Range, Ranges},
};
use serde_json::{Value, json};
use torch_distributed::{LostWorker, Workers};
use torch_networks::{Device, gpu_uuid};

use super::{
    checkpoint::{Checkpoint, CheckpointError, Circumstances},
    resume::{self, ResumePolicy},
    teachers::{RunTeachers, UsedTeacher},
};
use crate::config::{RunConfig, SoftTargetsMode};

/// Why workers cannot train together.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// The batches of a step cannot be divided among the workers.
    #[error(
        "phases[{phase}].accumulate is {accumulate}, which {workers} workers cannot divide among them: set it to a \
         multiple of {workers}, or start another number of workers"
    )]
    Indivisible {
        /// Position of the phase, 0-based.
        phase: usize,
        /// Batches per optimizer step.
        accumulate: usize,
        /// Number of workers.
        workers: usize,
    },
    /// Several workers would record the same soft targets.
    #[error(
        "soft_targets.mode = \"record\" needs a run of one worker: record with `student-trainer record` first, and \
         train with mode = \"recorded\""
    )]
    Records,
    /// Two workers differ.
    #[error(
        "worker {rank} has {what} = {value}, but worker 0 has {first}: make them alike and start all workers again"
    )]
    Differs {
        /// The worker that is not like the one with rank 0.
        rank: usize,
        /// What differs.
        what: String,
        /// What this worker has.
        value: String,
        /// What the worker with rank 0 has.
        first: String,
    },
    /// What a worker sent cannot be read.
    #[error(
        "what worker {rank} sent cannot be read: {problem}; start the same version on all machines"
    )]
    Unreadable {
        /// The worker.
        rank: usize,
        /// The problem.
        problem: String,
    },
    /// Workers train on GPUs, but this build cannot exchange what they compute.
    #[error(
        "this build has no NCCL, so only one worker can train on a GPU: build with the libtorch of make setup DEVICE=cuda, \
         or set device = \"cpu\""
    )]
    NoNccl,
    /// Two workers have the same GPU.
    #[error(
        "workers {first} and {second} have the same GPU, but NCCL needs one for each: set another `device` for one of them, \
         or start fewer workers"
    )]
    SharedGpu {
        /// A worker.
        first: usize,
        /// Another worker.
        second: usize,
    },
    /// A worker is lost.
    #[error(transparent)]
    Lost(#[from] LostWorker),
}

/// What is left of a run when its workers meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunState {
    /// They have to do it, or the rest of it.
    Unfinished,
    /// It is complete: the workers that only train have nothing to do.
    Complete,
}

/// Checks that several workers can do the run of `config`.
///
/// # Errors
/// [`WorkersError::Indivisible`], [`WorkersError::Records`].
pub(super) fn check(workers: &dyn Workers, config: &RunConfig) -> Result<(), WorkersError> {
    let workers = workers.count();
    if workers > 1
        && config.needs_soft_targets()
        && config.soft_targets_mode() == SoftTargetsMode::Record
    {
        return Err(WorkersError::Records);
    }
    let mut phases = config.phases.iter().enumerate();
    match phases.find(|(_, phase)| !phase.accumulate.is_multiple_of(workers)) {
        None => Ok(()),
        Some((phase, config)) => Err(WorkersError::Indivisible {
            phase,
            accumulate: config.accumulate,
            workers,
        }),
    }
}

/// The first exchange of the workers: checks that all have the same version. Returns the state that the run has for the worker
/// with rank 0, whatever `own` is on the others.
///
/// # Errors
/// [`WorkersError::Differs`], [`WorkersError::Unreadable`], [`WorkersError::Lost`].
pub(super) fn meet(workers: &dyn Workers, own: RunState) -> Result<RunState, WorkersError> {
    if workers.count() == 1 {
        return Ok(own);
    }
    agree(
        workers,
        &json!({ "Retort's version": env!("CARGO_PKG_VERSION") }),
    )?;
    let is_complete = json!(own == RunState::Complete).to_string();
    let answer = workers.broadcast(is_complete.into_bytes())?;
    let is_complete: bool =
        serde_json::from_slice(&answer).map_err(|error| unreadable(0, &error))?;
    Ok(if is_complete {
        RunState::Complete
    } else {
        RunState::Unfinished
    })
}

/// Checks that all workers have, in all keys that affect the bits, the same configuration. Returns the checkpoint of the
/// worker with rank 0, from which all of them resume; the others have none of their own.
///
/// # Errors
/// [`WorkersError::Differs`], [`WorkersError::Unreadable`], [`WorkersError::Lost`].
pub(super) fn on_start(
    workers: &dyn Workers,
    config: &RunConfig,
    own: Option<Checkpoint>,
) -> Result<Option<Checkpoint>, WorkersError> {
    if workers.count() == 1 {
        return Ok(own);
    }
    let texts = workers.gather_bytes(config.to_toml().as_bytes())?;
    let mut first: Option<RunConfig> = None;
    for (rank, text) in texts.iter().enumerate() {
        let config = RunConfig::from_toml(&String::from_utf8_lossy(text));
        let config = config.map_err(|error| unreadable(rank, &error))?;
        let Some(first) = &first else {
            first = Some(config);
            continue;
        };
        if let Some((what, first, value)) = difference(first, &config) {
            return Err(WorkersError::Differs {
                rank,
                what,
                value,
                first,
            });
        }
    }
    shared_checkpoint(workers, own, &config.network).map_err(|error| match error {
        SharingError::Lost(error) => error.into(),
        SharingError::Checkpoint(error) => unreadable(0, &error),
    })
}

/// The first key that may not differ between workers but does, with both values. Device, precision and threads are
/// compared as they are resolved, by [`on_circumstances`]: workers on one machine need devices of their own.
fn difference(first: &RunConfig, other: &RunConfig) -> Option<(String, String, String)> {
    resume::first_difference(first, other, ResumePolicy::OtherBits)
}

/// Checks that all workers compute with the same data and the same bits.
///
/// # Errors
/// [`WorkersError::Differs`], [`WorkersError::Unreadable`], [`WorkersError::Lost`].
pub(super) fn on_circumstances(
    workers: &dyn Workers,
    circumstances: &Circumstances,
    validation: Option<&str>,
) -> Result<(), WorkersError> {
    let Circumstances {
        threads,
        numerics,
        probe_sha256,
        dataset,
        initial_weights,
    } = circumstances;
    agree(
        workers,
        &json!({
            "compute threads": threads,
            "numerics": numerics,
            "SHA-256 of the logits of a probe": probe_sha256,
            "fingerprint of the training data": dataset,
            "fingerprint of the validation data": validation,
            "SHA-256 of the initial weights": initial_weights,
        }),
    )
}

/// Checks that workers on GPUs, as [`on_circumstances`] found all or none of them to be, can exchange what they compute: each
/// has its own GPU.
///
/// # Errors
/// [`WorkersError::NoNccl`], [`WorkersError::SharedGpu`], [`WorkersError::Lost`].
pub(super) fn on_gpus(workers: &dyn Workers, device: Device) -> Result<(), WorkersError> {
    if workers.count() == 1 || !device.is_cuda() {
        return Ok(());
    }
    if !torch_distributed::has_nccl() {
        return Err(WorkersError::NoNccl);
    }
    let own = gpu_uuid(device).unwrap_or_default();
    each_has_its_own(&workers.gather_bytes(own.as_bytes())?)
}

/// Compares the UUIDs of the workers' GPUs; one that is not known is empty.
fn each_has_its_own(gpus: &[Vec<u8>]) -> Result<(), WorkersError> {
    for (second, gpu) in gpus.iter().enumerate() {
        let first = gpus[..second].iter().position(|other| other == gpu);
        if let Some(first) = first.filter(|_| !gpu.is_empty()) {
            return Err(WorkersError::SharedGpu { first, second });
        }
    }
    Ok(())
}

/// Checks that all workers have the same teachers.
///
/// # Errors
/// [`WorkersError::Differs`], [`WorkersError::Unreadable`], [`WorkersError::Lost`].
pub(super) fn on_teachers(
    workers: &dyn Workers,
    config: &RunConfig,
    teachers: &RunTeachers,
) -> Result<(), WorkersError> {
    let described = |name: Option<&str>, teacher: &UsedTeacher| {
        let identity = &teacher.identity;
        let numerics =
            (!config.mixes_numerics(name)).then_some((&identity.numerics, &identity.probe_sha256));
        json!([identity.model_id, numerics, teacher.class_order])
    };
    let single = teachers.single.iter();
    let single = single.map(|it| ("the teacher".to_owned(), described(None, it)));
    let named = teachers.named.iter();
    let named = named.map(|(name, it)| (format!("teacher {name}"), described(Some(name), it)));
    agree(workers, &Value::Object(single.chain(named).collect()))
}

/// The ranges of the worker with rank 0, whatever `own` is on the others: the bits of a calibration depend on the processor
/// and on ONNX Runtime, which nothing compares.
///
/// # Errors
/// [`WorkersError::Unreadable`], [`WorkersError::Lost`].
pub(super) fn shared_ranges(workers: &dyn Workers, own: Ranges) -> Result<Ranges, WorkersError> {
    if workers.count() == 1 {
        return Ok(own);
    }
    let bits = own.iter().map(|(name, range)| {
        let Range { min, max } = range;
        (name, [min.to_bits(), max.to_bits()])
    });
    let bits: BTreeMap<&String, [u32; 2]> = bits.collect();
    let bytes = workers.broadcast(json!(bits).to_string().into_bytes())?;
    let bits: BTreeMap<String, [u32; 2]> =
        serde_json::from_slice(&bytes).map_err(|error| unreadable(0, &error))?;
    let ranges = bits.into_iter().map(|(name, bits)| {
        let [min, max] = bits.map(f32::from_bits);
        (name, Range { min, max })
    });
    Ok(ranges.collect())
}

/// Compares the fields of `own`, an object, with those of all workers.
fn agree(workers: &dyn Workers, own: &Value) -> Result<(), WorkersError> {
    let all = workers.gather_bytes(own.to_string().as_bytes())?;
    let all = all
        .iter()
        .enumerate()
        .map(|(rank, text)| serde_json::from_slice(text).map_err(|error| unreadable(rank, &error)));
    let all: Vec<serde_json::Map<String, Value>> = all.collect::<Result<_, _>>()?;
    let Some((first, others)) = all.split_first() else {
        return Ok(());
    };
    for (rank, other) in (1..).zip(others) {
        let mut fields = first.keys().chain(other.keys());
        if let Some(what) = fields.find(|field| first.get(*field) != other.get(*field)) {
            let shown = |fields: &serde_json::Map<String, Value>| {
                fields.get(what).unwrap_or(&Value::Null).to_string()
            };
            return Err(WorkersError::Differs {
                rank,
                what: what.clone(),
                value: shown(other),
                first: shown(first),
            });
        }
    }
    Ok(())
}

enum SharingError {
    Lost(LostWorker),
    Checkpoint(CheckpointError),
}

/// The checkpoint of the worker with rank 0.
fn shared_checkpoint(
    workers: &dyn Workers,
    own: Option<Checkpoint>,
    network: &NetworkSpec,
) -> Result<Option<Checkpoint>, SharingError> {
    let bytes = own.as_ref().map(Checkpoint::to_bytes).transpose();
    let bytes = bytes.map_err(SharingError::Checkpoint)?;
    let bytes = workers.broadcast(bytes.unwrap_or_default());
    let bytes = bytes.map_err(SharingError::Lost)?;
    if workers.rank() == 0 {
        return Ok(own);
    }
    let checkpoint = (!bytes.is_empty()).then(|| Checkpoint::parse(&bytes, network));
    checkpoint.transpose().map_err(SharingError::Checkpoint)
}

fn unreadable(rank: usize, problem: &dyn std::fmt::Display) -> WorkersError {
    WorkersError::Unreadable {
        rank,
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests;
