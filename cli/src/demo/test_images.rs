//! The test images that the demo sends and draws.

use std::sync::Arc;

use datasets::{DatasetError, InMemoryImages, Source, Subset, Values, read_plain};

/// Images of one size, or a sample of them.
#[derive(Debug)]
pub(super) struct TestImages {
    source: Subset,
    shape: [usize; 3],
}

impl TestImages {
    /// All of `images`, or the sample of `count` that `student-trainer evaluate` draws.
    pub(super) fn new(images: InMemoryImages, count: Option<usize>) -> Result<Self, DatasetError> {
        let shape = images.shape();
        let all = Subset::whole(Arc::new(images));
        let source = match count {
            Some(count) => all.sample(count)?,
            None => all,
        };
        Ok(Self { source, shape })
    }

    /// The images.
    pub(super) fn source(&self) -> &dyn Source {
        &self.source
    }

    /// [channels, height, width]
    pub(super) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// In label order.
    pub(super) fn class_names(&self) -> &[String] {
        self.source.class_names()
    }

    /// Pixels of image `index`, [channels, height, width].
    pub(super) fn pixels(&self, index: usize) -> Result<Vec<u8>, DatasetError> {
        match read_plain(&self.source, &[index as u32], &self.shape)? {
            Values::Uint8(pixels) => Ok(pixels),
            Values::Fp32(_) => unreachable!("images have pixels"),
        }
    }

    /// Class of image `index`.
    pub(super) fn label(&self, index: usize) -> Option<usize> {
        Some(self.source.label(index as u32)? as usize)
    }
}
