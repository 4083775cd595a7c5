//! Executes the runs of the queue.

use tokio::runtime::Handle;
use torch_distributed::Alone;

use super::queue::{ExecuteRun, RunResult};
use crate::{
    bucket_run::BucketRunError,
    config::{AllowedFolders, RunConfig},
    run::{FolderError, ResumePolicy, RunContext, RunError, RunOutput},
};

/// Executes runs whose files are below `allowed_folders`, with their network traffic on `runtime`.
pub(super) fn execute_run(allowed_folders: AllowedFolders, runtime: Handle) -> ExecuteRun {
    Box::new(move |assignment| {
        let config = match RunConfig::from_toml(assignment.config_toml) {
            Ok(config) => config,
            Err(error) => return RunResult::Failed(error.to_string()),
        };
        // Checked again: the restarted service may allow fewer folders.
        if let Err(error) = allowed_folders.check(&config) {
            return RunResult::Failed(error.to_string());
        }
        let context = RunContext {
            folder: assignment.output.folder(),
            resume: ResumePolicy::SameBits,
            events: &assignment.events,
            cancel: &assignment.cancel,
            workers: &Alone,
            bucket: None,
            runtime: &runtime,
        };
        match assignment.output.execute_queued(config, context) {
            Ok(_) => RunResult::Succeeded,
            Err(
                RunError::Folder(FolderError::AlreadyFinished(_))
                | RunError::Bucket(BucketRunError::AlreadyFinished { .. }),
            ) => RunResult::Failed(taken_by_another_run(assignment.output)),
            Err(RunError::Cancelled { .. } | RunError::Bucket(BucketRunError::Stopped { .. })) => {
                RunResult::Stopped
            }
            // Its newest state is on this machine, from which it resumes.
            Err(RunError::Bucket(BucketRunError::Unsaved { .. }))
                if assignment.cancel.is_cancelled() =>
            {
                RunResult::Stopped
            }
            Err(unsaved @ RunError::Bucket(BucketRunError::Unsaved { .. })) => RunResult::Failed(
                format!("{unsaved}; here, `retort runs resume` is this command"),
            ),
            Err(RunError::Withheld(withheld)) => RunResult::Withheld(withheld.to_string()),
            Err(error) => RunResult::Failed(error.to_string()),
        }
    })
}

/// The queue chose the output: a client cannot choose another one.
fn taken_by_another_run(output: &RunOutput) -> String {
    format!(
        "{output} already holds a finished run of another configuration, or one that cannot continue; submit this run \
         again, which gives it another name, or remove the finished one and use `retort runs resume`"
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc};

    use common::digest::Sha256;
    use test_support::run_toml::RunToml;
    use tokio::runtime::Builder;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        events::{EventSink, RunEvent},
        run::tests::withheld,
        service::queue::Assignment,
    };

    #[test]
    fn a_finished_run_is_the_waiting_one_only_with_the_same_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let tables = format!("[data]\npath = \"{}\"", folder.path().display());
        let config = |seed: u64| {
            let keys = format!("seed = {seed}\nexport = {{ onnx = false }}");
            let toml = RunToml {
                keys: &keys,
                tables: &tables,
                ..RunToml::default()
            };
            RunConfig::from_toml(&toml.to_string()).unwrap().to_toml()
        };
        let runtime = Builder::new_current_thread().build().unwrap();
        let allowed = serde_json::json!([folder.path()]);
        let allowed: AllowedFolders = serde_json::from_value(allowed).unwrap();
        let execute = execute_run(allowed, runtime.handle().clone());

        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        let mut manifest = withheld();
        manifest["publish_gate"][0]["met"] = true.into();
        manifest["config_sha256"] = Sha256::of(config(1).as_bytes()).as_str().into();
        fs::write(run.join("manifest.json"), manifest.to_string()).unwrap();
        let output = RunOutput::Folder(run.clone());
        let result = |config_toml: &str| {
            let (sender, notices) = mpsc::channel();
            let result = execute(Assignment {
                config_toml,
                output: &output,
                events: EventSink::new(move |event| sender.send(event).unwrap()),
                cancel: CancellationToken::new(),
            });
            (result, notices.try_iter().collect::<Vec<_>>())
        };
        let text = format!("the run is complete in {output}");
        let expected = (RunResult::Succeeded, vec![RunEvent::Notice { text }]);
        assert_eq!(result(&config(1)), expected);
        let (RunResult::Failed(reason), _) = result(&config(2)) else {
            panic!("it is the result of another run");
        };
        for part in [run.to_str().unwrap(), "another configuration", "submit"] {
            assert!(reason.contains(part), "{part} is not in: {reason}");
        }
        assert_eq!(fs::read_dir(&run).unwrap().count(), 1);
    }
}
