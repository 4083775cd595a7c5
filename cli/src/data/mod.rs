//! `retort data`: what a data set holds.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use common::{
    atomic_file,
    output::{Messages, Results},
};
use datasets::{DataSpec, Format, Ground};
use page::Page;
use report::Report;

use crate::{CliError, data_set::with_bar};

mod page;
mod report;

/// Data sets.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DataArguments {
    #[command(subcommand)]
    command: DataCommand,
}

const EXAMPLES: &str = "\
Examples:
  retort data inspect photos/
  retort data inspect photos/ --html photos.html
  retort data inspect train.parquet --format parquet --json";

#[derive(Debug, Subcommand)]
enum DataCommand {
    Inspect(InspectArguments),
}

/// Print counts, balance, sizes, mean and standard deviation, duplicates, and files that cannot be used.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct InspectArguments {
    /// Folder or file of the data.
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Format of the data [default: detected].
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Color that shows through transparent pixels of pictures: white, black, gray or '#rrggbb'.
    #[arg(long, value_name = "COLOR", default_value_t = Ground::WHITE)]
    ground: Ground,
    /// Write a page with thumbnails of each class to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// `retort data`.
///
/// # Errors
/// If the data cannot be opened or the page cannot be written.
pub(crate) fn execute(arguments: DataArguments) -> Result<(), CliError> {
    let DataCommand::Inspect(arguments) = arguments.command;
    let spec = DataSpec {
        format: arguments.format,
        ground: arguments.ground,
        // Everything is listed here; training refuses data with more than its permitted share.
        max_unreadable: 1.0,
        ..DataSpec::new(&arguments.data)
    };
    let opened = with_bar("reading the data", |progress| {
        datasets::open(&spec, progress)
    })?;
    let inspection = with_bar("comparing the samples", |progress| {
        datasets::inspect(&opened, progress)
    })?;
    let report = Report {
        path: arguments.data.display().to_string(),
        inspection: &inspection,
        warnings: inspection.warnings(),
    };
    if let Some(file) = &arguments.html {
        let page = Page::new(&report, &opened)?;
        let html = page.to_html();
        atomic_file::write(file, html.as_bytes()).map_err(CliError::file(file))?;
        writeln!(Messages, "page: {}", file.display());
    }
    if arguments.json {
        writeln!(Results, "{}", report.to_json())?;
    } else {
        write!(Results, "{report}")?;
    }
    Ok(())
}
