//! Opens a data set for a command.

use std::path::Path;

use datasets::{DataSpec, Ground, Opened, Progress};
use indicatif::{ProgressBar, ProgressStyle};

use crate::CliError;

/// Opens the data set at `path`, which reads every sample once, and shows the progress. `format` is the name of
/// its format, which is detected otherwise; transparent pixels show `ground`.
pub(crate) fn open(path: &Path, format: Option<&str>, ground: Ground) -> Result<Opened, CliError> {
    let mut spec = DataSpec {
        ground,
        ..DataSpec::new(path)
    };
    if let Some(format) = format {
        let parsed = format.parse();
        spec.format =
            Some(parsed.map_err(|error| CliError::Usage(format!("--format {format}: {error}")))?);
    }
    let open = |progress: &(dyn Fn(Progress) + Sync)| datasets::open(&spec, progress);
    Ok(with_bar("reading the data", open)?)
}

/// Calls `work` with a callback that moves a progress bar.
pub(crate) fn with_bar<T>(
    message: &'static str,
    work: impl FnOnce(&(dyn Fn(Progress) + Sync)) -> T,
) -> T {
    // Holds: the template is valid.
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}").expect("it is valid");
    let bar = ProgressBar::new(0).with_style(style).with_message(message);
    let done = work(&|progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    });
    bar.finish_and_clear();
    done
}
