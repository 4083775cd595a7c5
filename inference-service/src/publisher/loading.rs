//! Loads a model: checks its files, creates sessions, warms them up and verifies the golden batch.

use std::{iter, sync::Arc, thread, time::Duration};

use artifacts::{
    manifest::{ArtifactManifest, ImageInput},
    model_store::SignedManifest,
};
use bytes::Bytes;
use datasets::Normalization;
use onnx_runtime::{
    Interrupt, Limits, ModelInterface, Session, SessionError, SessionOptions, check_model,
};
use tokio::{sync::oneshot, time::timeout};
use tracing::error;

use crate::{
    config::{ModelConfig, PublishConfig},
    error::PublishError,
    loaded_version::Prepared,
};

/// Memory of a session per byte of its ONNX file: the file's weights, a copy of them in the layout of the
/// kernels, and the structures of the graph.
const MEMORY_PER_BYTE: u64 = 3;

/// A model's files, whose signature was checked, with the limits and the configuration that apply to them.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) onnx: Bytes,
    pub(super) manifest: Arc<ArtifactManifest>,
    /// `None` if the model is not signed.
    pub(super) signed: Option<Arc<SignedManifest>>,
    pub(super) limits: PublishConfig,
    pub(super) config: Arc<ModelConfig>,
}

/// A candidate that passed the checks before loading.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    candidate: Candidate,
    interface: ModelInterface,
    /// Estimated memory of all its sessions.
    pub(super) memory_bytes: u64,
}

impl Candidate {
    /// Checks the files without loading the model.
    pub(super) async fn check(self) -> Result<Checked, PublishError> {
        let limit = self.limits.load_timeout();
        within(limit, move || self.check_files()).await
    }

    fn check_files(self) -> Result<Checked, PublishError> {
        let batch = self.largest_batch();
        let limits = Limits {
            bytes: self.limits.max_model_bytes,
            batch,
            activation_bytes: self.limits.max_activation_bytes,
            ..Limits::default()
        };
        let checked = check_model(&self.onnx, &limits)?;
        compare_interface(&checked.interface, &self.manifest)?;
        let weights = MEMORY_PER_BYTE * self.onnx.len() as u64;
        let session = weights.saturating_add(checked.activation_bytes);
        let sessions = self.config.runtime.instances.count() as u64;
        Ok(Checked {
            interface: checked.interface,
            memory_bytes: session.saturating_mul(sessions),
            candidate: self,
        })
    }

    /// Samples of the largest batch that ONNX Runtime computes.
    fn largest_batch(&self) -> usize {
        if self.config.runtime.deterministic {
            1
        } else {
            self.config.batching.max_batch_size
        }
    }
}

impl Checked {
    /// Loads the model's sessions, warms each up and verifies its golden batch.
    pub(super) async fn load(self) -> Result<Prepared, PublishError> {
        let interrupt = Interrupt::new()?;
        let limit = self.candidate.limits.load_timeout();
        let work = {
            let interrupt = interrupt.clone();
            move || self.load_sessions(&interrupt)
        };
        let loaded = within(limit, work).await;
        if matches!(loaded, Err(PublishError::LoadTimedOut { .. })) {
            // The thread ends soon, because the graph's cost was checked before.
            interrupt.interrupt();
        }
        loaded
    }

    fn load_sessions(self, interrupt: &Interrupt) -> Result<Prepared, PublishError> {
        let Candidate {
            onnx,
            manifest,
            config,
            ..
        } = &self.candidate;
        let options = SessionOptions {
            threads: config.runtime.threads,
        };
        let largest_batch = self.candidate.largest_batch();
        let mut sessions = Vec::new();
        for _ in 0..config.runtime.instances.count() {
            let mut session = Session::load(onnx, options)?;
            warm_up(&mut session, largest_batch, interrupt)?;
            compare_golden_batch(&mut session, manifest, largest_batch, interrupt)?;
            sessions.push(session);
        }
        Ok(Prepared {
            interface: self.interface,
            manifest: Arc::clone(manifest),
            config: Arc::clone(config),
            sessions,
            memory_bytes: self.memory_bytes,
        })
    }
}

/// Runs `work` on its own thread, so that a model that never finishes blocks nothing else.
async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, PublishError> + Send + 'static,
) -> Result<T, PublishError> {
    let (done, result) = oneshot::channel();
    let work = move || {
        // The receiver is dropped after a time-out.
        let _ = done.send(work());
    };
    let thread = thread::Builder::new().name("load".to_owned()).spawn(work);
    if let Err(error) = thread {
        error!("cannot start a thread to load a model: {error}");
        return Err(PublishError::Internal);
    }
    match timeout(limit, result).await {
        Ok(Ok(result)) => result,
        // The thread panicked.
        Ok(Err(_)) => Err(PublishError::Internal),
        Err(_) => Err(PublishError::LoadTimedOut {
            seconds: limit.as_secs(),
        }),
    }
}

fn compare_interface(
    interface: &ModelInterface,
    manifest: &ArtifactManifest,
) -> Result<(), PublishError> {
    if interface.signature() == manifest.signature {
        return Ok(());
    }
    let found = &manifest.signature;
    Err(PublishError::ManifestMismatch {
        field: "signature",
        problem: format!("is {found}, but that of the model is {interface}"),
    })
}

/// Runs the largest batch, which allocates all memory that any batch needs, then every smaller power of two.
///
/// Other batch sizes need no warm-up: [`Session::load`] turns off ONNX Runtime's memory planning per size, and
/// `retort-bench serve` prints the ratio of first to later runs. The largest batch of a deterministic model is 1.
///
/// # Errors
/// Those of [`Session::run_unless`].
pub fn warm_up(
    session: &mut Session,
    largest_batch: usize,
    interrupt: &Interrupt,
) -> Result<(), SessionError> {
    let sample_values = session.interface().sample_values();
    let input = vec![0.0; largest_batch * sample_values];
    let powers = (0..usize::BITS).map(|exponent| 1 << exponent);
    let smaller: Vec<usize> = powers.take_while(|batch| *batch < largest_batch).collect();
    for batch in iter::once(largest_batch).chain(smaller.into_iter().rev()) {
        session.run_unless(interrupt, &input[..batch * sample_values], batch)?;
    }
    Ok(())
}

fn compare_golden_batch(
    session: &mut Session,
    manifest: &ArtifactManifest,
    largest_batch: usize,
    interrupt: &Interrupt,
) -> Result<(), PublishError> {
    let golden = &manifest.golden_batch;
    let input = golden_input(manifest);
    let sample_values = session.interface().sample_values();
    let mut found = Vec::new();
    for batch in input.chunks(largest_batch * sample_values) {
        let samples = batch.len() / sample_values;
        found.extend(session.run_unless(interrupt, batch, samples)?);
    }
    let classes = session.interface().classes;
    let rows = found.chunks_exact(classes).zip(&golden.logits);
    for (sample, (found, expected)) in rows.enumerate() {
        let tolerance = golden.allowed_difference(expected);
        for (class, (found, expected)) in found.iter().zip(expected).enumerate() {
            let difference = (found - expected).abs();
            // A NaN counts as a difference.
            if difference.is_nan() || difference > tolerance {
                return Err(PublishError::GoldenBatch {
                    sample,
                    class,
                    found: *found,
                    expected: *expected,
                    tolerance,
                });
            }
        }
    }
    Ok(())
}

/// The golden batch as the model's input.
fn golden_input(manifest: &ArtifactManifest) -> Vec<f32> {
    let golden = &manifest.golden_batch;
    let Some(ImageInput {
        shape: [_, height, width],
        preprocessing,
    }) = manifest.images()
    else {
        // Holds: the manifest was checked, so samples that are no images are f32.
        return golden.f32_values().unwrap_or_default();
    };
    let normalization = Normalization {
        mean: preprocessing.mean.clone(),
        std: preprocessing.std.clone(),
    };
    let mut input = Vec::new();
    normalization.apply(&golden.samples, height * width, &mut input);
    input
}

#[cfg(test)]
mod tests;
