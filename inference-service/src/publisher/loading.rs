//! From bytes to warm sessions that answer as their exporter said, or a reason why not.

use std::{sync::Arc, thread, time::Duration};

use bytes::Bytes;
use common::manifest::ArtifactManifest;
use datasets::Normalization;
use onnx_runtime::{Interrupt, Limits, ModelInterface, Session, SessionOptions, check_model};
use tokio::{sync::oneshot, time::timeout};
use tracing::error;

use crate::{catalog::Sessions, config::RuntimeConfig, error::PublishError};

/// What a model is held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checks {
    pub(super) max_model_bytes: usize,
    pub(super) max_batch_size: usize,
    pub(super) max_activation_bytes: u64,
    pub(super) runtime: RuntimeConfig,
}

/// Checks and loads a model, within `limit`.
pub(super) async fn prepare(
    onnx: Bytes,
    manifest: Arc<ArtifactManifest>,
    checks: Checks,
    limit: Duration,
) -> Result<Sessions, PublishError> {
    let interrupt = Interrupt::new()?;
    let work = {
        let interrupt = interrupt.clone();
        move || load(&onnx, &manifest, &checks, &interrupt)
    };
    let loaded = within(limit, work).await;
    if matches!(loaded, Err(PublishError::LoadTimedOut { .. })) {
        // What is left of it ends by itself soon: the graph's size was checked first.
        interrupt.interrupt();
    }
    loaded
}

/// Runs `work` on a thread of its own, so that a model that never finishes holds up nothing but
/// itself.
async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, PublishError> + Send + 'static,
) -> Result<T, PublishError> {
    let (done, result) = oneshot::channel();
    let work = move || {
        // An error means that the time was up, and nobody waits for it any more.
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

fn load(
    onnx: &[u8],
    manifest: &ArtifactManifest,
    checks: &Checks,
    interrupt: &Interrupt,
) -> Result<Sessions, PublishError> {
    let limits = Limits {
        bytes: checks.max_model_bytes,
        batch: checks.max_batch_size,
        activation_bytes: checks.max_activation_bytes,
        ..Limits::default()
    };
    let interface = check_model(onnx, &limits)?;
    compare_interface(&interface, manifest)?;
    let options = SessionOptions {
        threads: checks.runtime.threads,
    };
    let mut sessions = Vec::new();
    for _ in 0..checks.runtime.sessions {
        let mut session = Session::load(onnx, options)?;
        warm_up(&mut session, checks.max_batch_size, interrupt)?;
        compare_golden_batch(&mut session, manifest, checks.max_batch_size, interrupt)?;
        sessions.push(session);
    }
    Ok(Sessions {
        interface,
        sessions,
    })
}

fn compare_interface(
    interface: &ModelInterface,
    manifest: &ArtifactManifest,
) -> Result<(), PublishError> {
    if interface.input_shape != manifest.input_shape {
        let (found, model) = (manifest.input_shape, interface.input_shape);
        return Err(PublishError::ManifestMismatch {
            field: "input_shape",
            problem: format!("is {found:?}, but the model takes {model:?}"),
        });
    }
    if interface.classes != manifest.class_names.len() {
        let (found, model) = (manifest.class_names.len(), interface.classes);
        return Err(PublishError::ManifestMismatch {
            field: "class_names",
            problem: format!("are {found}, but the model has {model} logits"),
        });
    }
    Ok(())
}

/// The first run of a size allocates; no caller is to wait for it.
fn warm_up(
    session: &mut Session,
    max_batch_size: usize,
    interrupt: &Interrupt,
) -> Result<(), PublishError> {
    let sample_values = session.interface().sample_values();
    for batch in [1, max_batch_size] {
        session.run_unless(interrupt, &vec![0.0; batch * sample_values], batch)?;
    }
    Ok(())
}

fn compare_golden_batch(
    session: &mut Session,
    manifest: &ArtifactManifest,
    max_batch_size: usize,
    interrupt: &Interrupt,
) -> Result<(), PublishError> {
    let [_, height, width] = manifest.input_shape;
    let golden = &manifest.golden_batch;
    let normalization = Normalization {
        mean: manifest.preprocessing.mean.clone(),
        std: manifest.preprocessing.std.clone(),
    };
    let mut input = Vec::new();
    normalization.apply(&golden.images, height * width, &mut input);
    let sample_values = session.interface().sample_values();
    let mut found = Vec::new();
    for batch in input.chunks(max_batch_size * sample_values) {
        let samples = batch.len() / sample_values;
        found.extend(session.run_unless(interrupt, batch, samples)?);
    }
    let classes = session.interface().classes;
    let expected = golden.logits.iter().flatten();
    for (position, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        // NaN is a difference, too.
        if difference.is_nan() || difference > golden.tolerance {
            return Err(PublishError::GoldenBatch {
                image: position / classes,
                class: position % classes,
                found: *found,
                expected: *expected,
                tolerance: golden.tolerance,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
