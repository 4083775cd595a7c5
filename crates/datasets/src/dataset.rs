//! A set of labelled images in memory.

use std::path::PathBuf;

use rand::seq::SliceRandom;
use sha2::{Digest, Sha256};

use crate::random::{Purpose, RandomStreams};

/// The two halves that a data set comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// For training (and, held out of it, validation).
    Train,
    /// For one look at the end.
    Test,
}

/// Labelled u8 images of one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    shape: [usize; 3],
    class_names: Vec<String>,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

/// Why a data set cannot be used; the text names the file.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file is not there or cannot be read.
    #[error("cannot read {}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file's content is not what its format says.
    #[error("{} is not a usable IDX file: {problem}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Images and labels do not belong together.
    #[error("{} holds {images} images but {} holds {labels} labels", images_file.display(), labels_file.display())]
    CountMismatch {
        /// File of the images.
        images_file: PathBuf,
        /// Its images.
        images: usize,
        /// File of the labels.
        labels_file: PathBuf,
        /// Its labels.
        labels: usize,
    },
    /// A label has no class.
    #[error("{}: label {label} of sample {index} is not below the number of classes, {classes}", file.display())]
    LabelOutOfRange {
        /// File of the labels.
        file: PathBuf,
        /// Position of the sample.
        index: usize,
        /// Its label.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
    /// More samples are asked for than there are.
    #[error("{wanted} samples are asked for, {what}, but the data set has {available}")]
    TooFewSamples {
        /// What for.
        what: &'static str,
        /// How many.
        wanted: usize,
        /// How many there are.
        available: usize,
    },
}

impl Dataset {
    /// Puts together images `[n, channels, height, width]` and their labels. The caller has checked
    /// that the counts agree and that every label is below the number of classes.
    pub(crate) fn new(
        shape: [usize; 3],
        class_names: Vec<String>,
        pixels: Vec<u8>,
        labels: Vec<u8>,
    ) -> Self {
        debug_assert_eq!(pixels.len(), labels.len() * shape.iter().product::<usize>());
        Self {
            shape,
            class_names,
            pixels,
            labels,
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// [channels, height, width]
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// In label order.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Pixels of image `index`, [channels, height, width].
    ///
    /// # Panics
    /// When `index` is not below [`Self::len`].
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.image_size();
        &self.pixels[index * size..(index + 1) * size]
    }

    /// Pixels of all images, [n, channels, height, width].
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Labels of all images.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Bytes of one image.
    pub fn image_size(&self) -> usize {
        self.shape.iter().product()
    }

    /// SHA-256, lower-case hex, of shape, pixels and labels.
    pub fn fingerprint(&self) -> String {
        let mut hasher = Sha256::new();
        for dimension in self.shape {
            hasher.update((dimension as u64).to_le_bytes());
        }
        hasher.update(&self.pixels);
        hasher.update(&self.labels);
        hex::encode(hasher.finalize())
    }

    /// A sample of `count` images, in the order of the data set: of each class in proportion, drawn by a
    /// fixed seed. It does not depend on a run's seed, so that runs of all seeds share a recording of it,
    /// and a teacher's sample is its student's.
    ///
    /// # Errors
    /// [`DatasetError::TooFewSamples`].
    pub fn sample(&self, count: usize) -> Result<Self, DatasetError> {
        self.require("of its images", count)?;
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut RandomStreams::new(0, Purpose::Subset, 0, 0).at(0));
        let mut left = self.shares(count);
        order.retain(|index| {
            let left = &mut left[usize::from(self.labels[*index])];
            let is_kept = *left > 0;
            *left = left.saturating_sub(1);
            is_kept
        });
        order.sort_unstable();
        Ok(self.select(order.into_iter()))
    }

    /// How many of `count` images each class has, in proportion to the images that there are of it: the
    /// largest remainders round up (Hamilton's method), the earlier class where they are equal.
    fn shares(&self, count: usize) -> Vec<usize> {
        let mut sizes = vec![0_usize; usize::from(u8::MAX) + 1];
        for label in &self.labels {
            sizes[usize::from(*label)] += 1;
        }
        let all = self.len().max(1) as u128;
        let exact = |class: usize| sizes[class] as u128 * count as u128;
        // Holds: a share is at most `count`.
        let mut shares: Vec<_> = (0..sizes.len())
            .map(|class| (exact(class) / all) as usize)
            .collect();
        let mut classes: Vec<_> = (0..sizes.len()).collect();
        classes.sort_by_key(|class| std::cmp::Reverse(exact(*class) % all));
        let missing = count - shares.iter().sum::<usize>();
        for class in classes.into_iter().take(missing) {
            shares[class] += 1;
        }
        shares
    }

    /// Holds `count` images out: (the rest, those). Which ones does not depend on a run's seed, so
    /// that a teacher has not seen what its student is validated on.
    ///
    /// # Errors
    /// [`DatasetError::TooFewSamples`] where nothing would remain.
    pub fn hold_out(&self, count: usize) -> Result<(Self, Self), DatasetError> {
        self.require("with one left to train on, to validate on", count + 1)?;
        let mut order: Vec<usize> = (0..self.len()).collect();
        let streams = RandomStreams::new(0, Purpose::ValidationSplit, 0, 0);
        order.shuffle(&mut streams.at(0));
        let (held_out, rest) = order.split_at_mut(count);
        held_out.sort_unstable();
        rest.sort_unstable();
        Ok((
            self.select(rest.iter().copied()),
            self.select(held_out.iter().copied()),
        ))
    }

    fn require(&self, what: &'static str, wanted: usize) -> Result<(), DatasetError> {
        let available = self.len();
        if wanted > available {
            return Err(DatasetError::TooFewSamples {
                what,
                wanted,
                available,
            });
        }
        Ok(())
    }

    fn select(&self, indices: impl Iterator<Item = usize>) -> Self {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for index in indices {
            pixels.extend_from_slice(self.image(index));
            labels.push(self.labels[index]);
        }
        Self::new(self.shape, self.class_names.clone(), pixels, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: u8) -> Dataset {
        let names = (0..count).map(|class| class.to_string()).collect();
        let labels: Vec<u8> = (0..count).collect();
        let pixels = labels.iter().flat_map(|label| [*label, 255]).collect();
        Dataset::new([1, 1, 2], names, pixels, labels)
    }

    #[test]
    fn held_out_images_and_the_rest_are_a_partition() {
        let (rest, held_out) = numbered(20).hold_out(5).unwrap();
        assert_eq!((rest.len(), held_out.len()), (15, 5));
        let mut labels = [rest.labels(), held_out.labels()].concat();
        labels.sort_unstable();
        assert_eq!(labels, (0..20).collect::<Vec<u8>>());
        for index in 0..5 {
            assert_eq!(held_out.image(index)[0], held_out.labels()[index]);
        }
        assert_ne!(held_out.labels(), [15, 16, 17, 18, 19]);
    }

    #[test]
    fn asking_for_more_than_there_is_says_so() {
        let data = numbered(3);
        for error in [data.sample(4).err(), data.hold_out(3).err()] {
            assert!(error.unwrap().to_string().contains("has 3"));
        }
        assert_eq!(data.sample(3).unwrap(), data);
    }

    /// `sizes` images of each class, sorted by class; the pixels number them.
    fn sorted_by_class(sizes: &[usize]) -> Dataset {
        let names = (0..sizes.len()).map(|class| class.to_string()).collect();
        let classes = sizes.iter().enumerate();
        let labels: Vec<u8> = classes
            .flat_map(|(class, size)| vec![class as u8; *size])
            .collect();
        let pixels = (0..labels.len() as u16).flat_map(u16::to_be_bytes);
        Dataset::new([1, 1, 2], names, pixels.collect(), labels)
    }

    fn numbers(data: &Dataset) -> Vec<u16> {
        let (pixels, _) = data.pixels().as_chunks();
        pixels.iter().copied().map(u16::from_be_bytes).collect()
    }

    #[test]
    fn a_sample_has_its_share_of_each_class_also_of_data_sorted_by_class() {
        let data = sorted_by_class(&[60, 30, 0, 10]);
        for (count, shares) in [
            (0, [0, 0, 0, 0]),
            (1, [1, 0, 0, 0]),
            (10, [6, 3, 0, 1]),
            (33, [20, 10, 0, 3]),
            (55, [33, 17, 0, 5]),
            (100, [60, 30, 0, 10]),
        ] {
            let sample = data.sample(count).unwrap();
            let class_size = |class| {
                sample
                    .labels()
                    .iter()
                    .filter(|label| **label == class)
                    .count()
            };
            assert_eq!([0, 1, 2, 3].map(class_size), shares, "{count}");
            // Each at most once, in the order of the data set.
            assert!(numbers(&sample).is_sorted_by(|a, b| a < b), "{count}");
        }
    }

    #[test]
    fn a_sample_is_drawn_from_the_whole_set_and_is_the_same_every_time() {
        let data = sorted_by_class(&[200, 200]);
        let sample = data.sample(20).unwrap();
        assert_eq!(data.sample(20).unwrap(), sample);
        // These bits decide which recordings fit a run: another sample needs another `Purpose`.
        assert_eq!(numbers(&sample), PINNED_SAMPLE);
        assert_ne!(sample.fingerprint(), data.fingerprint());
    }

    const PINNED_SAMPLE: [u16; 20] = [
        46, 87, 92, 94, 114, 117, 120, 150, 153, 197, 207, 229, 230, 240, 244, 286, 342, 348, 363,
        371,
    ];

    #[test]
    fn the_fingerprint_changes_with_a_pixel_and_with_a_label() {
        let data = numbered(3);
        let mut pixel = data.clone();
        pixel.pixels[0] ^= 1;
        let mut label = data.clone();
        label.labels[0] ^= 1;
        assert_ne!(pixel.fingerprint(), data.fingerprint());
        assert_ne!(label.fingerprint(), data.fingerprint());
        assert_eq!(data.fingerprint().len(), 64);
    }
}
