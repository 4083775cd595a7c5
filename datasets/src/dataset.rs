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
        let digest = hasher.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The first `count` images.
    ///
    /// # Errors
    /// [`DatasetError::TooFewSamples`].
    pub fn take(&self, count: usize) -> Result<Self, DatasetError> {
        self.require("to train on", count)?;
        Ok(self.select(0..count))
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
        for error in [data.take(4).err(), data.hold_out(3).err()] {
            assert!(error.unwrap().to_string().contains("has 3"));
        }
        assert_eq!(data.take(3).unwrap(), data);
    }

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
