//! What a data set holds, as text and as JSON.

use std::fmt::{self, Display};

use datasets::{ClassCount, DataWarning, Inspection, Position, SplitInspection, Statistics};
use indicatif::HumanCount;
use serde::Serialize;

/// What a data set holds.
#[derive(Debug, Serialize)]
pub(super) struct Report<'r> {
    /// The data set.
    pub(super) path: String,
    #[serde(flatten)]
    pub(super) inspection: &'r Inspection,
    pub(super) warnings: Vec<DataWarning>,
}

/// Classes, duplicates and files that are listed.
const LISTED: usize = 20;
/// Channels, or values of a row, whose mean is listed.
const CHANNELS: usize = 8;
/// Width of the longest bar.
const BAR: usize = 30;

impl Report<'_> {
    /// The report as one JSON object.
    pub(super) fn to_json(&self) -> String {
        // Holds: all keys are text.
        serde_json::to_string_pretty(self).expect("it can be written as JSON")
    }
}

impl Display for Report<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.path)?;
        for split in &self.inspection.splits {
            fmt_split(out, split)?;
        }
        let duplicates = &self.inspection.duplicates;
        if !duplicates.is_empty() {
            let count = HumanCount(duplicates.len() as u64);
            writeln!(out, "\nsamples that are there more than once: {count}")?;
            for duplicate in duplicates.iter().take(LISTED) {
                let places: Vec<_> = duplicate.samples.iter().map(shown).collect();
                let differ = if duplicate.labels_differ {
                    " (with several labels)"
                } else {
                    ""
                };
                writeln!(out, "  {}{differ}", places.join(" = "))?;
            }
            fmt_more(out, duplicates.len())?;
        }
        let unreadable = &self.inspection.unreadable;
        if !unreadable.is_empty() {
            let count = HumanCount(unreadable.len() as u64);
            writeln!(out, "\nfiles that cannot be used: {count}")?;
            for file in unreadable.iter().take(LISTED) {
                writeln!(out, "  {file}")?;
            }
            fmt_more(out, unreadable.len())?;
        }
        if !self.warnings.is_empty() {
            writeln!(out, "\nwarnings")?;
        }
        for warning in &self.warnings {
            writeln!(out, "- {warning}")?;
        }
        Ok(())
    }
}

fn fmt_split(out: &mut fmt::Formatter<'_>, split: &SplitInspection) -> fmt::Result {
    let samples = HumanCount(split.samples as u64);
    write!(out, "\n{}: {samples} samples", split.split)?;
    if split.unlabelled > 0 {
        write!(
            out,
            ", {} without a label",
            HumanCount(split.unlabelled as u64)
        )?;
    }
    writeln!(out)?;
    if let Some(sizes) = &split.sizes {
        let [[low, middle, high], [left, center, right]] = [sizes.height, sizes.width];
        if sizes.different == 1 {
            writeln!(out, "  size (height × width): {low} × {left}")?;
        } else {
            writeln!(
                out,
                "  {} sizes: height {low} to {high} (median {middle}), width {left} to {right} (median {center})",
                HumanCount(sizes.different as u64)
            )?;
            let frequent = sizes.most_frequent.iter().take(3);
            let frequent =
                frequent.map(|([height, width], count)| format!("{height} × {width} ({count})"));
            writeln!(
                out,
                "  most frequent: {}",
                frequent.collect::<Vec<_>>().join(", ")
            )?;
        }
    }
    writeln!(out, "  {}", statistics(&split.channels))?;
    let largest = split
        .classes
        .iter()
        .map(|class| class.samples)
        .max()
        .unwrap_or(0);
    let name_width = split
        .classes
        .iter()
        .take(LISTED)
        .map(|class| class.name.chars().count())
        .max();
    for ClassCount { name, samples } in split.classes.iter().take(LISTED) {
        let bar = "█".repeat((samples * BAR).div_ceil(largest.max(1)));
        let width = name_width.unwrap_or(0);
        writeln!(
            out,
            "  {name:<width$} {:>9} {bar}",
            HumanCount(*samples as u64).to_string()
        )?;
    }
    fmt_more(out, split.classes.len())
}

/// Mean and standard deviation of each channel, as `mean` and `std` of a normalization.
pub(super) fn statistics(channels: &[Statistics]) -> String {
    let list = |value: fn(&Statistics) -> f64| {
        let values = channels.iter().take(CHANNELS);
        let values: Vec<_> = values
            .map(|channel| format!("{:.4}", value(channel)))
            .collect();
        let more = if channels.len() > CHANNELS {
            ", …"
        } else {
            ""
        };
        format!("[{}{more}]", values.join(", "))
    };
    format!("mean {}, std {}", list(|it| it.mean), list(|it| it.std))
}

/// The file of a sample, or its split and position.
pub(super) fn shown(position: &Position) -> String {
    match &position.place {
        Some(place) => place.clone(),
        None => format!("{} sample {}", position.split, position.sample),
    }
}

fn fmt_more(out: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    match count.saturating_sub(LISTED) {
        0 => Ok(()),
        more => writeln!(out, "  … and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datasets::{InMemoryImages, Opened, inspect};

    use super::*;

    #[test]
    fn counts_statistics_duplicates_and_warnings_are_listed() {
        let names = ["cat", "dog"].map(str::to_owned).to_vec();
        let images = |pixels: &[u8], labels: &[u32]| {
            let labels = labels.iter().map(|label| Some(*label)).collect();
            Arc::new(InMemoryImages::new(
                [1, 1, 2],
                names.clone(),
                pixels.to_vec(),
                labels,
            ))
        };
        let opened = Opened {
            train: images(&[0, 51, 102, 153, 204, 255], &[0, 0, 1]),
            validation: None,
            test: Some(images(&[102, 153], &[1])),
            unreadable: vec![],
        };
        let inspection = inspect(&opened, &|_| ()).unwrap();
        let report = Report {
            path: "pets".to_owned(),
            inspection: &inspection,
            warnings: inspection.warnings(),
        };
        let text = report.to_string();
        for line in [
            "training: 3 samples",
            "  size (height × width): 1 × 2",
            "  mean [0.5000], std [0.3416]",
            "  cat         2 ██████████████████████████████",
            "  dog         1 ███████████████",
            "  training sample 1 = test sample 0 (with several labels)",
            "- 1 of 1 test samples are also training samples: what they measure was trained on",
            "- the test samples lack classes: cat",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line:?} is not in {text}"
            );
        }
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["splits"][0]["classes"][0]["samples"], 2);
        assert_eq!(json["warnings"][0]["warning"], "leakage");
    }
}
