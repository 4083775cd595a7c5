//! Where a run writes: a folder, or a bucket.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use object_storage::Location;
use server::program::{OtherExit, USAGE_EXIT_CODE};
use student_trainer::{bucket_run::BucketOutput, run::RunOutput};

const LEASE_SECONDS: u32 = 30;
const PATIENCE_SECONDS: u32 = 300;

/// The options for the output of a run.
#[derive(Debug, Args)]
pub struct OutputArguments {
    /// Folder for everything that the run writes, or its URL in a bucket: s3://BUCKET/PATH/NAME, gs://… or az://…
    /// [default: runs/<name of the file>].
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// With a bucket: the folder of this machine below which the run works [default: retort-UID in the system's folder
    /// for temporary files].
    #[arg(long, value_name = "FOLDER")]
    scratch: Option<PathBuf>,
    /// With a bucket: seconds after which another trainer may continue a run whose trainer no longer reaches the bucket
    /// [default: 30].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    lease: Option<u32>,
    /// With a bucket: seconds to wait, before the run begins and after it ends, for a bucket that does not answer
    /// [default: 300].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    bucket_patience: Option<u32>,
}

impl OutputArguments {
    /// The output of the run that is configured in `config`.
    ///
    /// # Errors
    /// An invalid URL, or options for a bucket without one.
    pub fn of_run(&self, config: &Path) -> Result<RunOutput, OtherExit> {
        let output = match &self.output {
            Some(output) => output.clone(),
            None => Path::new("runs").join(config.file_stem().unwrap_or_default()),
        };
        let location = Location::parse(&output)
            .map_err(|problem| wrong_usage(format!("--output {}: {problem}", output.display())))?;
        let folder = match location {
            Location::Bucket(location) => {
                let seconds = |given: Option<u32>, default| u64::from(given.unwrap_or(default));
                return Ok(RunOutput::Bucket(BucketOutput {
                    location,
                    scratch: self.scratch.clone(),
                    lease_seconds: seconds(self.lease, LEASE_SECONDS),
                    patience: Duration::from_secs(seconds(self.bucket_patience, PATIENCE_SECONDS)),
                }));
            }
            Location::Folder(folder) => folder,
        };
        for (option, is_given) in [
            ("--scratch", self.scratch.is_some()),
            ("--lease", self.lease.is_some()),
            ("--bucket-patience", self.bucket_patience.is_some()),
        ] {
            if is_given {
                let needed = "needs the URL of a bucket as --output";
                return Err(wrong_usage(format!("{option} {needed}")));
            }
        }
        Ok(RunOutput::Folder(folder))
    }
}

fn wrong_usage(message: String) -> OtherExit {
    OtherExit {
        code: USAGE_EXIT_CODE,
        message,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        output: OutputArguments,
    }

    fn output(arguments: &[&str]) -> Result<RunOutput, OtherExit> {
        let arguments = std::iter::once(&"run").chain(arguments);
        let cli = Cli::try_parse_from(arguments).unwrap();
        cli.output.of_run(Path::new("configs/student.toml"))
    }

    #[test]
    fn an_output_is_a_folder_or_a_bucket() {
        let cases: [(&[&str], &str); 4] = [
            (&[], "runs/student"),
            (&["--output", "a/b"], "a/b"),
            (&["--output", "file:///a/b"], "/a/b"),
            (&["--output", "s3://b/a/c/"], "s3://b/a/c"),
        ];
        for (arguments, expected) in cases {
            let found = output(arguments).ok().unwrap();
            assert_eq!(found.to_string(), expected);
        }
        let arguments = ["--output", "gs://b/a", "--scratch", "x", "--lease", "7"];
        let Ok(RunOutput::Bucket(bucket)) = output(&arguments) else {
            panic!("a bucket");
        };
        assert_eq!(bucket.scratch.as_deref(), Some(Path::new("x")));
        assert_eq!(bucket.lease_seconds, 7);
        assert_eq!(bucket.patience, Duration::from_secs(300));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let cases: [(&[&str], &str); 5] = [
            (&["--output", "ftp://b/a"], "ftp://b/a: must be a folder"),
            (&["--output", "s3://"], "s3://: must be a folder"),
            (&["--scratch", "x"], "--scratch needs the URL"),
            (&["--output", "a", "--lease", "9"], "--lease needs the URL"),
            (
                &["--bucket-patience", "9"],
                "--bucket-patience needs the URL",
            ),
        ];
        for (arguments, part) in cases {
            let error = output(arguments).err().unwrap();
            assert_eq!(error.code, USAGE_EXIT_CODE);
            assert!(error.message.contains(part), "{error}");
        }
    }
}
