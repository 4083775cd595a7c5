//! The options of a worker that records a share of the shards.

use std::{env, num::NonZeroU32};

use clap::Args;
use server::program::{OtherExit, USAGE_EXIT_CODE};
use soft_targets::Worker;

/// Kubernetes sets it in the containers of an Indexed Job.
const JOB_INDEX: &str = "JOB_COMPLETION_INDEX";

/// The options of a worker that records a share of the shards.
#[derive(Debug, Args)]
pub struct WorkerArguments {
    /// Records the share of this worker, from 0 to N - 1, instead of all shards. Workers can record at the same
    /// time into one folder on a shared file system, or into a bucket [default, with --of: the variable
    /// JOB_COMPLETION_INDEX].
    #[arg(long, value_name = "I", requires = "of")]
    index: Option<u32>,
    /// Number of workers that record together.
    #[arg(long, value_name = "N")]
    of: Option<NonZeroU32>,
}

impl WorkerArguments {
    /// The worker that they name; without them, the one that records every shard.
    ///
    /// # Errors
    /// An index that is missing, not a number, or not below the number of workers.
    pub fn worker(&self) -> Result<Worker, OtherExit> {
        let Some(of) = self.of else {
            return Ok(Worker::ALONE);
        };
        let index = match self.index {
            Some(index) => index,
            None => index_in_job()?,
        };
        Worker::new(index, of).map_err(|error| wrong_usage(error.to_string()))
    }
}

fn index_in_job() -> Result<u32, OtherExit> {
    let Some(text) = env::var_os(JOB_INDEX) else {
        return Err(wrong_usage(format!(
            "--of needs --index, or the variable {JOB_INDEX}"
        )));
    };
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| wrong_usage(format!("{JOB_INDEX} = {text:?} is not a worker's number")))
}

fn wrong_usage(message: String) -> OtherExit {
    OtherExit {
        code: USAGE_EXIT_CODE,
        message,
    }
}
