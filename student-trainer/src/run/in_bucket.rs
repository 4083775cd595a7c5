//! Does a run whose output is in a bucket.

use std::{cell::Cell, path::Path};

use torch_distributed::Workers;
use tracing::warn;

use super::{
    agreement::{self, RunState},
    error::RunError,
    execution::{RunContext, RunOutcome, execute},
    manifest::RunManifest,
};
use crate::{
    bucket_run::{BucketOutput, BucketRun, BucketRunError},
    config::RunConfig,
};

/// What becomes of a run whose output another trainer uses, or has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenTaken {
    /// It fails.
    Refuse,
    /// It waits for the other trainer. What is finished there is its result, if that has the same configuration.
    Share,
}

/// Does the run of `config` like [`execute`], from the newest state in the bucket at `output` or from the start, and
/// returns when the bucket has its result. Ignores the folder of `context`. Of several workers, the one with rank 0 alone
/// uses the bucket.
///
/// A run of the same configuration that is complete on this machine, and that an earlier process could not copy to the
/// bucket, is copied. The other workers then end at once. If it is complete in the bucket, several workers have nothing to do: a
/// launcher starts all of them again if it loses one.
///
/// # Errors
/// See [`RunError`]. If the bucket lacks the last state of the run, the error says so, unless the run failed anyway.
pub(super) fn execute_in_bucket(
    config: RunConfig,
    output: &BucketOutput,
    when_taken: WhenTaken,
    context: RunContext<'_>,
) -> Result<RunOutcome, RunError> {
    if context.workers.rank() > 0 {
        return execute(config, context);
    }
    let notices = context.events.notices();
    // Also cancelled if the lease is lost.
    let stop = context.cancel.child_token();
    let finished = Cell::new(None);
    let may_continue = |folder: &Path| {
        finished.set(complete(folder, &config));
        is_withheld(folder)
    };
    let attached = match when_taken {
        WhenTaken::Refuse => BucketRun::attach(output, may_continue, &stop, &notices),
        WhenTaken::Share => BucketRun::attach_when_free(output, may_continue, &stop, &notices),
    };
    let is_shared = when_taken == WhenTaken::Share || context.workers.count() > 1;
    let mut run = match (attached, finished.take()) {
        (Err(BucketRunError::AlreadyFinished { url }), Some(outcome)) if is_shared => {
            notices.notice(format!("the run is complete in {url}"));
            dismiss_followers(context.workers);
            return Ok(outcome);
        }
        (attached, _) => attached?,
    };
    let ended = match complete(run.folder(), &config) {
        Some(outcome) => {
            notices.notice(format!(
                "the run is complete; copies it to {}",
                output.url()
            ));
            dismiss_followers(context.workers);
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

/// Tells the workers that wait for the start of the run in [`execute`] that it is complete.
fn dismiss_followers(workers: &dyn Workers) {
    if let Err(error) = agreement::meet(workers, RunState::Complete) {
        // What is left needs no other worker.
        warn!(%error, "the run is complete, but another worker does not know it");
    }
}

/// The outcome of the run of `config` in `folder`, if it is complete and its model was not withheld.
pub(super) fn complete(folder: &Path, config: &RunConfig) -> Option<RunOutcome> {
    let manifest = RunManifest::read(folder).ok()?;
    let is_same = manifest.is_of(&config.to_toml());
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

#[cfg(test)]
mod tests {
    use common::digest::Sha256;
    use test_support::run_toml::RunToml;

    use super::*;
    use crate::run::manifest::tests::withheld;

    #[test]
    fn only_a_run_of_the_same_configuration_that_was_not_withheld_is_complete() {
        let config = |data: &str| {
            let tables = format!("[data]\npath = \"{data}\"");
            let toml = RunToml {
                tables: &tables,
                ..RunToml::default()
            };
            RunConfig::from_toml(&toml.to_string()).unwrap()
        };
        let (config, other) = (config("here"), config("elsewhere"));
        let folder = tempfile::tempdir().unwrap();
        let complete = |config: &RunConfig| complete(folder.path(), config).is_some();
        assert!(!complete(&config), "it has no manifest");
        let mut manifest = withheld();
        manifest["config_sha256"] = Sha256::of(config.to_toml().as_bytes()).as_str().into();
        for (is_met, is_complete) in [(false, false), (true, true)] {
            manifest["publish_gate"][0]["met"] = is_met.into();
            std::fs::write(folder.path().join("manifest.json"), manifest.to_string()).unwrap();
            assert_eq!(complete(&config), is_complete);
            assert_eq!(is_withheld(folder.path()), !is_met);
        }
        assert!(!complete(&other));
    }
}
