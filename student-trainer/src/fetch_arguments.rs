//! The `fetch` command: downloads a run from a bucket.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use common::output::Messages;
use object_storage::Location;
use server::program::{OtherExit, USAGE_EXIT_CODE};
use student_trainer::bucket_run;
use tokio_util::sync::CancellationToken;

/// The options of the `fetch` command.
#[derive(Debug, Args)]
pub struct FetchArguments {
    /// The run: s3://BUCKET/PATH/NAME, gs://… or az://…
    url: PathBuf,
    /// Folder for the run; it must not exist or be empty.
    folder: PathBuf,
    /// Seconds to wait for a bucket that does not answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    bucket_patience: u32,
}

impl FetchArguments {
    /// Downloads the run. Cancelling `stop` ends it.
    ///
    /// # Errors
    /// If the URL is none, or the run cannot be read or written.
    pub fn fetch(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        let Ok(Location::Bucket(location)) = Location::parse(&self.url) else {
            let url = self.url.display();
            return Err(OtherExit {
                code: USAGE_EXIT_CODE,
                message: format!(
                    "{url} is not the URL of a run in a bucket, such as s3://BUCKET/PATH/NAME"
                ),
            }
            .into());
        };
        let patience = Duration::from_secs(self.bucket_patience.into());
        bucket_run::fetch(&location, &self.folder, patience, stop)?;
        writeln!(Messages, "the run is in {}", self.folder.display());
        Ok(())
    }
}
