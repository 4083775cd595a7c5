//! Does a run whose output is in a bucket.

use std::path::Path;

use common::digest::Sha256;
use tracing::warn;

use super::{
    error::RunError,
    execution::{RunContext, RunOutcome, execute},
    manifest::RunManifest,
};
use crate::{
    bucket_run::{BucketOutput, BucketRun, BucketRunError},
    config::RunConfig,
};

/// Does the run of `config` like [`execute`], from the newest state in the bucket at `output` or from the start, and
/// returns when the bucket has its result. Ignores the folder of `context`. Of several workers, the one with rank 0 alone
/// uses the bucket.
///
/// A run of the same configuration that is complete on this machine, and that an earlier process could not copy to the
/// bucket, is copied.
///
/// # Errors
/// See [`RunError`]. If the bucket lacks the last state of the run, the error says so, unless the run failed anyway.
pub fn execute_in_bucket(
    config: RunConfig,
    output: &BucketOutput,
    context: RunContext<'_>,
) -> Result<RunOutcome, RunError> {
    if context.workers.rank() > 0 {
        return execute(config, context);
    }
    let notices = context.events.notices();
    // Also cancelled if the lease is lost.
    let stop = context.cancel.child_token();
    let mut run = BucketRun::attach(output, is_withheld, &stop, &notices)?;
    let ended = match complete(run.folder(), &config) {
        Some(outcome) => {
            notices.notice(format!(
                "the run is complete; copies it to {}",
                output.url()
            ));
            Ok(outcome)
        }
        None => execute(
            config,
            RunContext {
                folder: run.folder(),
                cancel: &stop,
                bucket: Some(&run),
                ..context
            },
        ),
    };
    match (run.finish(context.cancel), &ended) {
        (Ok(()), Ok(_)) => run.remove_scratch(),
        (Ok(()), Err(_)) => {}
        (Err(unsaved), Ok(_) | Err(RunError::Cancelled { .. } | RunError::Withheld(_)))
        | (Err(unsaved @ BucketRunError::LostLease { .. }), Err(_)) => return Err(unsaved.into()),
        (Err(unsaved), Err(_)) => {
            warn!(error = %unsaved, "the run has failed, and its bucket lacks the end")
        }
    }
    ended
}

/// The outcome of the run of `config` in `folder`, if it is complete and its model was not withheld.
fn complete(folder: &Path, config: &RunConfig) -> Option<RunOutcome> {
    let manifest = RunManifest::read(folder).ok()?;
    let is_same = manifest.config_sha256 == Sha256::of(config.to_toml().as_bytes());
    (is_same && !manifest.is_withheld()).then(|| RunOutcome {
        validation_accuracy: manifest.validation_accuracy(),
        onnx_sha256: manifest.onnx_sha256,
        published_version: manifest.published_version,
    })
}

/// Whether the publish gate withheld the model of the finished run in `folder`: the run may continue.
fn is_withheld(folder: &Path) -> bool {
    RunManifest::read(folder).is_ok_and(|manifest| manifest.is_withheld())
}
