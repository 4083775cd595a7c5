//! Opens a data set for a command.

use std::path::Path;

use datasets::{DataSpec, Opened};
use indicatif::ProgressBar;

use crate::CliError;

/// Opens the data set at `path`, which reads every sample once, and shows the progress. `format` is the name of
/// its format, which is detected otherwise.
pub(crate) fn open(path: &Path, format: Option<&str>) -> Result<Opened, CliError> {
    let mut spec = DataSpec::new(path);
    if let Some(format) = format {
        let parsed = format.parse();
        spec.format =
            Some(parsed.map_err(|error| CliError::Usage(format!("--format {format}: {error}")))?);
    }
    let bar = ProgressBar::new(0).with_message("reading the data");
    let opened = datasets::open(&spec, &|progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    });
    bar.finish_and_clear();
    Ok(opened?)
}
