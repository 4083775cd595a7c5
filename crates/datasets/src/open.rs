//! Opens a data set, whatever its format.

use crate::{
    DataSpec, DatasetError, Format, Opened, Progress, Source, UnreadableFile,
    detect::detect,
    formats::{cifar, csv, idx, image_folder, numpy, web_dataset},
};

/// Opens the data set that `spec` describes. Reads every sample once, so that files that cannot be used are
/// found here and not during training; `progress` is called from several threads.
///
/// # Errors
/// See [`DatasetError`].
pub fn open(spec: &DataSpec, progress: &(dyn Fn(Progress) + Sync)) -> Result<Opened, DatasetError> {
    let format = match spec.format {
        Some(format) => format,
        None => detect(&spec.path)?,
    };
    let opened = match format {
        Format::Idx => idx::open(spec),
        Format::ImageFolder => image_folder::open(spec, progress),
        Format::Numpy => numpy::open(spec),
        Format::Csv => csv::open(spec),
        Format::Cifar => cifar::open(spec),
        #[cfg(feature = "parquet")]
        Format::Parquet => crate::formats::parquet::open(spec, progress),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => {
            let problem = "this program was built without the feature `parquet`";
            Err(DatasetError::layout(&spec.path, problem))
        }
        Format::WebDataset => web_dataset::open(spec, progress),
    }?;
    let usable: usize = opened.splits().map(|(_, source)| source.len()).sum();
    check_share(&opened.unreadable, usable, spec)?;
    if opened.train.is_empty() {
        let problem = format!("it has no usable sample to train on (read as {format})");
        return Err(DatasetError::layout(&spec.path, problem));
    }
    // IDX files state their splits by their names: without a test file there is no test split.
    let states_splits = format == Format::Idx;
    let is_whole = opened.validation.is_none() && opened.test.is_none();
    if !states_splits && is_whole && is_labelled(&*opened.train) {
        return spec.shares.part(opened);
    }
    Ok(opened)
}

fn is_labelled(source: &dyn Source) -> bool {
    (0..source.len() as u32).any(|sample| source.label(sample).is_some())
}

/// Stops if more than the permitted share of files cannot be used.
fn check_share(
    unreadable: &[UnreadableFile],
    usable: usize,
    spec: &DataSpec,
) -> Result<(), DatasetError> {
    let files = unreadable.len() + usable;
    if unreadable.len() as f64 <= spec.max_unreadable * files as f64 {
        return Ok(());
    }
    Err(DatasetError::TooManyUnreadable {
        path: spec.path.clone(),
        unreadable: unreadable.len(),
        files,
        allowed: spec.max_unreadable,
        first: first_few(unreadable),
    })
}

fn first_few(unreadable: &[UnreadableFile]) -> String {
    const NAMED: usize = 5;
    let named: Vec<_> = unreadable
        .iter()
        .take(NAMED)
        .map(UnreadableFile::to_string)
        .collect();
    let more = unreadable.len().saturating_sub(NAMED);
    let rest = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    named.join("; ") + &rest
}

#[cfg(test)]
#[cfg(feature = "parquet")]
mod faults;
