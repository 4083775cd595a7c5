//! Small pictures of samples, inlined into a page.

use std::io::Cursor;

use base64::{Engine, prelude::BASE64_STANDARD};
use datasets::{DatasetError, SampleKind, Source, Values, read_plain};
use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};

/// Longest side of a thumbnail.
const SIDE: usize = 72;
const QUALITY: u8 = 80;

/// Thumbnails of the samples of a source.
#[derive(Debug)]
pub(crate) struct Thumbnails<'s> {
    source: &'s dyn Source,
    /// [channels, height, width] of a thumbnail.
    shape: [usize; 3],
}

impl<'s> Thumbnails<'s> {
    /// `None` if the samples are no images. Small images keep their size; of others, the middle is shown.
    pub(crate) fn of(source: &'s dyn Source) -> Option<Self> {
        let SampleKind::Image { channels, size } = source.kind() else {
            return None;
        };
        let [height, width] = size
            .filter(|size| size.iter().all(|side| *side <= SIDE))
            .unwrap_or([SIDE; 2]);
        Some(Self {
            source,
            shape: [channels, height, width],
        })
    }

    /// The picture of `sample` as the address of an `img` element: small images without loss, others as JPEG.
    ///
    /// # Errors
    /// If the sample cannot be read.
    pub(crate) fn data_uri(&self, sample: u32) -> Result<String, DatasetError> {
        let Values::Uint8(planes) = read_plain(self.source, &[sample], &self.shape)? else {
            unreachable!("a source of images gives images");
        };
        let [channels, height, width] = self.shape;
        let plane = height * width;
        let pixels: Vec<u8> = (0..plane)
            .flat_map(|pixel| (0..channels).map(move |channel| channel * plane + pixel))
            .map(|at| planes[at])
            .collect();
        let color = if channels == 1 {
            ExtendedColorType::L8
        } else {
            ExtendedColorType::Rgb8
        };
        let (width, height) = (width as u32, height as u32);
        let mut file = Cursor::new(Vec::new());
        let (kind, written) = if plane < SIDE * SIDE {
            (
                "png",
                PngEncoder::new(&mut file).write_image(&pixels, width, height, color),
            )
        } else {
            let encoder = JpegEncoder::new_with_quality(&mut file, QUALITY);
            ("jpeg", encoder.write_image(&pixels, width, height, color))
        };
        // Holds: the pixels fill the picture, and memory takes it.
        written.expect("the picture can be encoded");
        Ok(format!(
            "data:image/{kind};base64,{}",
            BASE64_STANDARD.encode(file.into_inner())
        ))
    }
}
