//! The file of a run in the queue.

use std::path::Path;

use common::folders;
use proto::runs::v1::RunState;
use serde::{Deserialize, Serialize};
use traces::TraceContext;

use super::run_id::RunId;

/// The newest format that is read, and that of files with a trace. Other files have the format before, which an
/// older trainer reads.
const FORMAT_VERSION: u32 = 2;
const FORMAT_WITHOUT_TRACE: u32 = 1;

/// The content of a run's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredRun {
    pub(super) format_version: u32,
    /// Position in the order of submission.
    pub(super) number: u64,
    pub(super) run_id: String,
    pub(super) name: String,
    pub(super) state: StoredState,
    pub(super) reason: String,
    /// The resolved configuration.
    pub(super) config_toml: String,
    /// The span of the call that submitted or resumed the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<TraceContext>,
}

/// [`RunState`] as text; [`Withheld`](Self::Withheld) is a failure of its own kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoredState {
    Queued,
    Running,
    Succeeded,
    Failed,
    /// The run is complete, and its publish gate withheld its model.
    Withheld,
    Cancelled,
}

impl StoredRun {
    /// A waiting run.
    pub(super) fn queued(number: u64, run_id: &RunId, name: &str, config_toml: String) -> Self {
        Self {
            format_version: FORMAT_WITHOUT_TRACE,
            number,
            run_id: run_id.to_string(),
            name: name.to_owned(),
            state: StoredState::Queued,
            reason: String::new(),
            config_toml,
            trace: None,
        }
    }

    /// The same run as part of another trace, or of none.
    pub(super) fn in_trace(self, trace: Option<TraceContext>) -> Self {
        let format_version = match trace {
            None => FORMAT_WITHOUT_TRACE,
            Some(_) => FORMAT_VERSION,
        };
        Self {
            format_version,
            trace,
            ..self
        }
    }
}

impl StoredState {
    /// Whether a run that ended like this can continue.
    pub(super) fn can_resume(self) -> bool {
        match self {
            Self::Failed | Self::Withheld | Self::Cancelled => true,
            Self::Queued | Self::Running | Self::Succeeded => false,
        }
    }
}

impl From<StoredState> for RunState {
    fn from(state: StoredState) -> Self {
        match state {
            StoredState::Queued => Self::Queued,
            StoredState::Running => Self::Running,
            StoredState::Succeeded => Self::Succeeded,
            StoredState::Failed | StoredState::Withheld => Self::Failed,
            StoredState::Cancelled => Self::Cancelled,
        }
    }
}

/// Reads the file of the run `run_id`. The error says what is wrong with it.
pub(super) fn read(file: &Path, run_id: &str) -> Result<StoredRun, String> {
    /// The version first: the rest of a newer file may be anything.
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let bytes = folders::read(file).map_err(|error| error.to_string())?;
    let json = |error: serde_json::Error| error.to_string();
    let Version { format_version } = serde_json::from_slice(&bytes).map_err(json)?;
    if format_version > FORMAT_VERSION {
        return Err(format!(
            "format_version {format_version} is newer than {FORMAT_VERSION}, the newest that this \
             build reads"
        ));
    }
    let run: StoredRun = serde_json::from_slice(&bytes).map_err(json)?;
    // The id names the run's folder. A copy of a file must not execute a run twice.
    if run.run_id == run_id && !run_id.starts_with('.') {
        Ok(run)
    } else {
        Err(format!("it holds the run `{}`", run.run_id))
    }
}

#[cfg(test)]
mod properties;
