//! Images of one size in memory.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::{Layout, Picture, Sample, SampleError, SampleKind, Source};

/// Labelled u8 images of one size, decoded in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct InMemoryImages {
    shape: [usize; 3],
    class_names: Vec<String>,
    pixels: Vec<u8>,
    labels: Vec<Option<u32>>,
    fingerprint: String,
}

impl InMemoryImages {
    /// Puts images together with their labels, each an index into `class_names` or `None`. `pixels` are
    /// [images, channels, height, width], and `shape` is that of one image, each dimension 1 or more.
    ///
    /// # Panics
    /// If the number of pixels does not fit, or a label has no class: the caller has checked its files.
    pub fn new(
        shape: [usize; 3],
        class_names: Vec<String>,
        pixels: Vec<u8>,
        labels: Vec<Option<u32>>,
    ) -> Self {
        assert_eq!(pixels.len(), labels.len() * shape.iter().product::<usize>());
        let has_class = |label: &u32| (*label as usize) < class_names.len();
        assert!(
            labels.iter().flatten().all(has_class),
            "every label has a class"
        );
        let mut hasher = Sha256::new();
        for dimension in shape {
            hasher.update((dimension as u64).to_le_bytes());
        }
        hasher.update(&pixels);
        for label in &labels {
            hasher.update(label.map_or(u32::MAX, |label| label).to_le_bytes());
        }
        Self {
            shape,
            class_names,
            pixels,
            labels,
            fingerprint: hex::encode(hasher.finalize()),
        }
    }

    /// [channels, height, width]
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Pixels of image `index`, [channels, height, width].
    ///
    /// # Panics
    /// If `index` is not below [`Source::len`].
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.shape.iter().product::<usize>();
        &self.pixels[index * size..(index + 1) * size]
    }
}

impl Source for InMemoryImages {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn kind(&self) -> SampleKind {
        let [channels, height, width] = self.shape;
        SampleKind::Image {
            channels,
            size: Some([height, width]),
        }
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn label(&self, sample: u32) -> Option<u32> {
        self.labels[sample as usize]
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn read(&self, sample: u32) -> Result<Sample<'_>, SampleError> {
        Ok(Sample::Image(Picture {
            pixels: Cow::Borrowed(self.image(sample as usize)),
            layout: Layout::Planar,
            shape: self.shape,
        }))
    }

    fn decodes(&self) -> bool {
        false
    }
}

impl std::fmt::Debug for InMemoryImages {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("InMemoryImages")
            .field("len", &self.labels.len())
            .field("shape", &self.shape)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_changes_with_a_pixel_a_label_and_the_shape() {
        let images = |shape, pixels: &[u8], labels: &[Option<u32>]| {
            let names = vec!["a".to_owned(), "b".to_owned()];
            InMemoryImages::new(shape, names, pixels.to_vec(), labels.to_vec())
        };
        let first = images([1, 1, 2], &[0, 1, 2, 3], &[Some(0), Some(1)]);
        assert_eq!(first.fingerprint().len(), 64);
        assert_eq!(first.image(1), [2, 3]);
        for other in [
            images([1, 1, 2], &[0, 1, 2, 4], &[Some(0), Some(1)]),
            images([1, 1, 2], &[0, 1, 2, 3], &[Some(0), Some(0)]),
            images([1, 1, 2], &[0, 1, 2, 3], &[Some(0), None]),
            images([1, 2, 1], &[0, 1, 2, 3], &[Some(0), Some(1)]),
        ] {
            assert_ne!(other.fingerprint(), first.fingerprint());
        }
    }
}
