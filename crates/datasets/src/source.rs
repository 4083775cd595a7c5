//! Where samples come from.

use std::{borrow::Cow, fmt, path::PathBuf};

use tensors::{DataType, Dimension, Dimensions, TensorSpec};

/// Samples at the resolution in which they are stored. One implementation per file format.
///
/// A source holds no more in memory than its format needs: samples are read one by one, from any thread.
pub trait Source: fmt::Debug + Send + Sync {
    /// Number of samples, below 2^32.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a sample is.
    fn kind(&self) -> SampleKind;

    /// Names of the classes in label order; empty if the samples have no labels.
    fn class_names(&self) -> &[String];

    /// The label of `sample`: an index into [`Self::class_names`], or `None` if the sample is unlabelled.
    ///
    /// # Panics
    /// If `sample` is not below [`Self::len`].
    fn label(&self, sample: u32) -> Option<u32>;

    /// SHA-256, lower-case hex, of everything that decides samples and labels. Computed once.
    fn fingerprint(&self) -> &str;

    /// The position of `sample` in the data as stored: that in the source which this is a part of, if it is a part.
    ///
    /// # Panics
    /// If `sample` is not below [`Self::len`].
    fn stored_position(&self, sample: u32) -> u32 {
        sample
    }

    /// Number of samples of the data as stored, above each [`Self::stored_position`].
    fn stored_len(&self) -> usize {
        self.len()
    }

    /// Reads and decodes `sample`.
    ///
    /// # Errors
    /// [`SampleError`] if the sample's file changed or disappeared since the source was opened.
    ///
    /// # Panics
    /// If `sample` is not below [`Self::len`].
    fn read(&self, sample: u32) -> Result<Sample<'_>, SampleError>;

    /// The file of `sample`, or file and position in it; `None` if all samples are in memory.
    ///
    /// # Panics
    /// If `sample` is not below [`Self::len`].
    fn place(&self, _sample: u32) -> Option<PathBuf> {
        None
    }

    /// Whether [`Self::read`] takes so long that batches are worth reading on several threads.
    fn decodes(&self) -> bool {
        true
    }
}

/// What the samples of a source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleKind {
    /// u8 images.
    Image {
        /// 1 for gray, 3 for red, green and blue.
        channels: usize,
        /// [height, width], if all images have the same.
        size: Option<[usize; 2]>,
    },
    /// Rows of f32 values.
    Row {
        /// Number of values.
        values: usize,
    },
}

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample<'s> {
    /// An image.
    Image(Picture<'s>),
    /// A row of finite values.
    Row(Cow<'s, [f32]>),
}

/// The pixels of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture<'s> {
    /// u8 values, row-major in the order of `layout`.
    pub pixels: Cow<'s, [u8]>,
    /// Order of the dimensions.
    pub layout: Layout,
    /// [channels, height, width], each 1 or more, whatever the layout.
    pub shape: [usize; 3],
}

/// Order of an image's dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// [channels, height, width], as networks take images.
    Planar,
    /// [height, width, channels], as decoders give them.
    Interleaved,
}

/// Why a sample cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("sample {sample} ({place}): {problem}")]
pub struct SampleError {
    /// Position in the source.
    pub sample: u32,
    /// File of the sample, or file and position in it.
    pub place: String,
    /// What is wrong.
    pub problem: String,
}

impl SampleKind {
    /// A batch of samples as a tensor called `name`.
    pub fn tensor(self, name: impl Into<String>) -> TensorSpec {
        let (data_type, sample) = match self {
            Self::Image { channels, size } => {
                let sides = size.map_or([Dimension::Open; 2], |size| size.map(Dimension::Fixed));
                let [height, width] = sides;
                let channels = Dimension::Fixed(channels);
                (DataType::Uint8, vec![channels, height, width])
            }
            Self::Row { values } => (DataType::Fp32, vec![Dimension::Fixed(values)]),
        };
        let dimensions = std::iter::once(Dimension::Batch).chain(sample).collect();
        TensorSpec {
            name: name.into(),
            data_type,
            dimensions: Dimensions(dimensions),
        }
    }

    /// The shape of one sample, if all samples have the same.
    pub fn shape(self) -> Option<Vec<usize>> {
        self.tensor("").dimensions.sample_shape()
    }
}

impl Picture<'_> {
    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.shape[0]
    }

    /// [height, width]
    pub fn size(&self) -> [usize; 2] {
        let [_, height, width] = self.shape;
        [height, width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_described_as_tensors() {
        let photos = SampleKind::Image {
            channels: 3,
            size: None,
        };
        assert_eq!(
            photos.tensor("x").to_string(),
            "`x` UINT8 [batch, 3, any, any]"
        );
        assert_eq!(photos.shape(), None);
        let rows = SampleKind::Row { values: 30 };
        assert_eq!(rows.tensor("x").to_string(), "`x` FP32 [batch, 30]");
        assert_eq!(rows.shape(), Some(vec![30]));
    }
}
