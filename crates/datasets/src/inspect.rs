//! What a data set holds: counts, balance, sizes, channel statistics, duplicates.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicUsize, Ordering},
};

use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    DatasetError, Layout, Opened, Progress, Sample, SampleKind, Source, SplitName, UnreadableFile,
};

/// Reads every sample of `data` on all threads and describes the data set; `progress` is called from several threads.
///
/// # Errors
/// The first sample that cannot be read.
pub fn inspect(
    data: &Opened,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Inspection, DatasetError> {
    let mut splits = Vec::new();
    let mut same = HashMap::<[u8; 32], Vec<Position>>::new();
    let total: usize = data.splits().map(|(_, source)| source.len()).sum();
    let done = AtomicUsize::new(0);
    for (name, source) in data.splits() {
        let summaries = (0..source.len() as u32).into_par_iter().map(|sample| {
            let summary = summary(&**source, sample);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress(Progress { done, total });
            summary
        });
        let summaries = summaries.collect::<Result<Vec<_>, DatasetError>>()?;
        for (sample, summary) in summaries.iter().enumerate() {
            same.entry(summary.digest).or_default().push(Position {
                split: name,
                // Holds: a source has fewer than 2^32 samples.
                sample: sample as u32,
                label: source.label(sample as u32),
                place: None,
            });
        }
        splits.push(describe(name, &**source, &summaries));
    }
    let mut duplicates: Vec<_> = same
        .into_values()
        .filter(|positions| positions.len() > 1)
        .collect();
    duplicates.sort_by(|these, others| these[0].cmp(&others[0]));
    for position in duplicates.iter_mut().flatten() {
        let mut splits = data.splits();
        let source = splits.find(|(split, _)| *split == position.split);
        let place = source.and_then(|(_, source)| source.place(position.sample));
        position.place = place.map(|place| place.display().to_string());
    }
    Ok(Inspection {
        splits,
        duplicates: duplicates.into_iter().map(Duplicate::new).collect(),
        unreadable: data.unreadable.clone(),
    })
}

/// What a data set holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Training, validation and test, as far as they are there.
    pub splits: Vec<SplitInspection>,
    /// Samples that are the same value by value.
    pub duplicates: Vec<Duplicate>,
    /// Files that were left out.
    pub unreadable: Vec<UnreadableFile>,
}

/// What a split holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitInspection {
    /// Which split.
    pub split: SplitName,
    /// Number of samples.
    pub samples: usize,
    /// Samples without a label.
    pub unlabelled: usize,
    /// Samples of each class, in label order.
    pub classes: Vec<ClassCount>,
    /// Sizes of the pictures; absent for rows.
    pub sizes: Option<Sizes>,
    /// Of pictures, one for each channel, as fractions of 255 over all pixels; of rows, one for each value.
    pub channels: Vec<Statistics>,
}

/// Samples of a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// Name of the class.
    pub name: String,
    /// Number of samples.
    pub samples: usize,
}

/// Sizes of pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Smallest, median and largest height.
    pub height: [usize; 3],
    /// Smallest, median and largest width.
    pub width: [usize; 3],
    /// Number of different sizes.
    pub different: usize,
    /// The most frequent sizes [height, width] with their numbers of pictures, ten at most.
    pub most_frequent: Vec<([usize; 2], usize)>,
}

/// Mean and standard deviation (of the population).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Statistics {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
}

/// Samples that are the same value by value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// Where they are, two or more.
    pub samples: Vec<Position>,
    /// Whether they are in more than one split: a test then measures what was trained on.
    pub between_splits: bool,
    /// Whether their labels differ.
    pub labels_differ: bool,
}

/// Where a sample is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// Its split.
    pub split: SplitName,
    /// Position in the split.
    pub sample: u32,
    /// Its label.
    pub label: Option<u32>,
    /// Its file, or file and position in it; `None` if all samples are in memory.
    pub place: Option<String>,
}

impl Duplicate {
    /// How often the sample is in `split`.
    pub fn count(&self, split: SplitName) -> usize {
        let samples = self.samples.iter();
        samples.filter(|position| position.split == split).count()
    }

    fn new(samples: Vec<Position>) -> Self {
        let first = &samples[0];
        Self {
            between_splits: samples.iter().any(|position| position.split != first.split),
            labels_differ: samples.iter().any(|position| position.label != first.label),
            samples,
        }
    }
}

/// What is kept of a sample.
struct Summary {
    digest: [u8; 32],
    size: Option<[usize; 2]>,
    /// For each channel of a picture or value of a row.
    sums: Vec<Sums>,
}

/// Sums over values: exact for pixels, whatever their order.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: u64,
    sum: f64,
    squares: f64,
}

fn summary(source: &dyn Source, sample: u32) -> Result<Summary, DatasetError> {
    let mut hasher = Sha256::new();
    match source.read(sample)? {
        Sample::Image(picture) => {
            let [channels, height, width] = picture.shape;
            hasher.update(format!("{channels} {height} {width}\n"));
            let plane = height * width;
            let at = |channel: usize, pixel: usize| match picture.layout {
                Layout::Planar => picture.pixels[channel * plane + pixel],
                Layout::Interleaved => picture.pixels[pixel * channels + channel],
            };
            let mut sums = Vec::with_capacity(channels);
            for channel in 0..channels {
                let values: Vec<u8> = (0..plane).map(|pixel| at(channel, pixel)).collect();
                hasher.update(&values);
                let sum = values.iter().map(|value| u64::from(*value)).sum::<u64>();
                let squares = values
                    .iter()
                    .map(|value| u64::from(*value).pow(2))
                    .sum::<u64>();
                sums.push(Sums {
                    count: plane as u64,
                    sum: sum as f64,
                    squares: squares as f64,
                });
            }
            Ok(Summary {
                digest: hasher.finalize().into(),
                size: Some([height, width]),
                sums,
            })
        }
        Sample::Row(row) => {
            row.iter()
                .for_each(|value| hasher.update(value.to_le_bytes()));
            let sums = row.iter().map(|value| {
                let value = f64::from(*value);
                Sums {
                    count: 1,
                    sum: value,
                    squares: value * value,
                }
            });
            Ok(Summary {
                digest: hasher.finalize().into(),
                size: None,
                sums: sums.collect(),
            })
        }
    }
}

fn describe(split: SplitName, source: &dyn Source, summaries: &[Summary]) -> SplitInspection {
    let mut counts = vec![0; source.class_names().len()];
    let mut unlabelled = 0;
    for sample in 0..source.len() as u32 {
        match source.label(sample) {
            Some(label) => counts[label as usize] += 1,
            None => unlabelled += 1,
        }
    }
    let names = source.class_names().iter().cloned();
    let classes = names
        .zip(counts)
        .map(|(name, samples)| ClassCount { name, samples });
    // Fractions of the largest pixel.
    let scale = match source.kind() {
        SampleKind::Image { .. } => 255.0,
        SampleKind::Row { .. } => 1.0,
    };
    let channels = summaries.first().map_or(0, |summary| summary.sums.len());
    SplitInspection {
        split,
        samples: source.len(),
        unlabelled,
        classes: classes.collect(),
        sizes: sizes(summaries),
        channels: (0..channels)
            .map(|channel| statistics(summaries, channel, scale))
            .collect(),
    }
}

fn statistics(summaries: &[Summary], channel: usize, scale: f64) -> Statistics {
    let all = summaries.iter().map(|summary| summary.sums[channel]);
    let total = all.fold(Sums::default(), |total, sums| Sums {
        count: total.count + sums.count,
        sum: total.sum + sums.sum,
        squares: total.squares + sums.squares,
    });
    let mean = total.sum / total.count as f64;
    let variance = (total.squares / total.count as f64 - mean * mean).max(0.0);
    Statistics {
        mean: mean / scale,
        std: variance.sqrt() / scale,
    }
}

fn sizes(summaries: &[Summary]) -> Option<Sizes> {
    const LISTED: usize = 10;
    let mut counts = BTreeMap::<[usize; 2], usize>::new();
    for size in summaries.iter().filter_map(|summary| summary.size) {
        *counts.entry(size).or_default() += 1;
    }
    let spread = |side: usize| {
        let mut sides: Vec<_> = summaries
            .iter()
            .filter_map(|it| Some(it.size?[side]))
            .collect();
        sides.sort_unstable();
        Some([*sides.first()?, sides[sides.len() / 2], *sides.last()?])
    };
    let mut most_frequent: Vec<_> = counts.iter().map(|(size, count)| (*size, *count)).collect();
    most_frequent.sort_by_key(|(size, count)| (std::cmp::Reverse(*count), *size));
    most_frequent.truncate(LISTED);
    Some(Sizes {
        height: spread(0)?,
        width: spread(1)?,
        different: counts.len(),
        most_frequent,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{InMemoryImages, InMemoryRows};

    fn images(pixels: &[u8], labels: &[Option<u32>]) -> Arc<dyn Source> {
        let names = vec!["a".to_owned(), "b".to_owned()];
        Arc::new(InMemoryImages::new(
            [1, 1, 2],
            names,
            pixels.to_vec(),
            labels.to_vec(),
        ))
    }

    #[test]
    fn counts_statistics_and_duplicates_are_found() {
        let data = Opened {
            train: images(
                &[0, 51, 102, 153, 0, 51, 5, 6],
                &[Some(0), Some(1), Some(1), None],
            ),
            validation: None,
            test: Some(images(&[102, 153], &[Some(1)])),
            unreadable: vec![],
        };
        let found = inspect(&data, &|_| ()).unwrap();
        let train = &found.splits[0];
        assert_eq!((train.samples, train.unlabelled), (4, 1));
        assert_eq!(
            train.classes[1],
            ClassCount {
                name: "b".to_owned(),
                samples: 2
            }
        );
        let test = &found.splits[1];
        assert_eq!(test.split, SplitName::Test);
        // numpy: (numpy.array([102, 153]) / 255).mean(), .std()
        let [Statistics { mean, std }] = test.channels[..] else {
            panic!("one channel")
        };
        assert!(
            (mean - 0.5).abs() < 1e-12 && (std - 0.1).abs() < 1e-12,
            "{mean} {std}"
        );
        assert_eq!(test.sizes.as_ref().unwrap().most_frequent, [([1, 2], 1)]);
        let flags: Vec<_> = found
            .duplicates
            .iter()
            .map(|it| (it.samples.len(), it.between_splits, it.labels_differ))
            .collect();
        assert_eq!(flags, [(2, false, true), (2, true, false)]);
    }

    #[test]
    fn rows_have_statistics_for_each_value() {
        let names = vec!["a".to_owned()];
        let rows = InMemoryRows::new(2, names, vec![1.0, 5.0, 3.0, 5.0], vec![Some(0), Some(0)]);
        let data = Opened {
            train: Arc::new(rows),
            validation: None,
            test: None,
            unreadable: vec![],
        };
        let found = inspect(&data, &|_| ()).unwrap();
        assert_eq!(
            found.splits[0].channels,
            [
                Statistics {
                    mean: 2.0,
                    std: 1.0
                },
                Statistics {
                    mean: 5.0,
                    std: 0.0
                }
            ]
        );
        assert_eq!(found.splits[0].sizes, None);
    }
}
