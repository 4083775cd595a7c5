//! Draws the part of an image that a view shows, at the size of a network's input.

use std::borrow::Cow;

use fast_image_resize::{
    PixelTrait, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::{U8, U8x3},
};

use crate::{
    Interpolation,
    source::{Layout, Picture},
    view::Geometry,
};

/// Renders images; keeps buffers between them.
#[derive(Debug, Default)]
pub struct Renderer {
    resizer: Resizer,
    boxed: Vec<u8>,
    resized: Vec<u8>,
}

impl Renderer {
    /// Writes the part `geometry` of `picture` to `out`, u8 of `target` = [channels, height, width]. Gray and
    /// color are converted into each other, as [`crate::Image::to_gray`] does.
    ///
    /// A box of exactly the target's size is copied; any other is resized with `interpolation`. Pixels outside the
    /// image are black.
    ///
    /// # Panics
    /// If `out` has another length than `target` says, or a number of channels is neither 1 nor 3.
    pub fn render(
        &mut self,
        picture: &Picture<'_>,
        geometry: Geometry,
        target: [usize; 3],
        interpolation: Interpolation,
        out: &mut [u8],
    ) {
        let [channels, height, width] = target;
        assert_eq!(out.len(), channels * height * width, "the target's size");
        if let Some((top, left)) = geometry.whole_pixels([height, width])
            && picture.layout == Layout::Planar
            && picture.channels() == channels
        {
            let size = picture.size();
            copy_planes(&picture.pixels, size, (top, left), [height, width], out);
        } else {
            self.resize(picture, geometry, target, interpolation, out);
        }
        if geometry.flip {
            out.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
    }

    fn resize(
        &mut self,
        picture: &Picture<'_>,
        geometry: Geometry,
        target: [usize; 3],
        interpolation: Interpolation,
        out: &mut [u8],
    ) {
        let [channels, height, width] = target;
        let pixels = interleaved(picture, channels);
        let bounds = Bounds::around(geometry, picture.size());
        let (pixels, [rows, columns]) = if bounds.exceeds {
            cut_out(&pixels, picture.size(), channels, &bounds, &mut self.boxed);
            (self.boxed.as_slice(), bounds.size)
        } else {
            (&*pixels, picture.size())
        };
        self.resized.resize(out.len(), 0);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(interpolation.filter()))
            .use_alpha(false)
            .crop(bounds.left, bounds.top, bounds.width, bounds.height);
        let job = Resize {
            resizer: &mut self.resizer,
            options: &options,
            from: (pixels, [rows, columns]),
            to: (&mut self.resized, [height, width]),
        };
        if channels == 1 {
            job.run::<U8>();
        } else {
            job.run::<U8x3>();
        }
        for (channel, plane) in out.chunks_exact_mut(height * width).enumerate() {
            let values = self.resized.iter().skip(channel).step_by(channels);
            plane
                .iter_mut()
                .zip(values)
                .for_each(|(to, from)| *to = *from);
        }
    }
}

/// One image to resize, and where it goes. Sizes are [height, width].
struct Resize<'r> {
    resizer: &'r mut Resizer,
    options: &'r ResizeOptions,
    from: (&'r [u8], [usize; 2]),
    to: (&'r mut [u8], [usize; 2]),
}

impl Resize<'_> {
    /// The untyped functions of the library would compile every kind of pixel that it knows, which takes minutes.
    fn run<P: PixelTrait>(self) {
        let (pixels, [rows, columns]) = self.from;
        let (buffer, [height, width]) = self.to;
        // Holds: the lengths are computed from the sizes, and the box lies within the image.
        let from = TypedImageRef::<P>::from_buffer(columns as u32, rows as u32, pixels)
            .expect("the pixels fill the image");
        let mut to = TypedImage::<P>::from_buffer(width as u32, height as u32, buffer)
            .expect("the buffer fills the target");
        self.resizer
            .resize_typed(&from, &mut to, self.options)
            .expect("the box lies within the image");
    }
}

impl Geometry {
    /// The first row and column, if the box has exactly `size` = [height, width] and begins at a whole pixel.
    fn whole_pixels(self, size: [usize; 2]) -> Option<(isize, isize)> {
        let is_whole = self.top.fract() == 0.0 && self.left.fract() == 0.0;
        let same_size = [self.height, self.width] == size.map(|side| side as f64);
        (is_whole && same_size).then_some((self.top as isize, self.left as isize))
    }
}

/// The whole pixels that a box touches, if it exceeds the image; otherwise the image.
struct Bounds {
    exceeds: bool,
    /// First row and column of the pixels.
    first: (isize, isize),
    /// [height, width] of the pixels.
    size: [usize; 2],
    /// The box, from the first pixel.
    top: f64,
    left: f64,
    height: f64,
    width: f64,
}

impl Bounds {
    fn around(geometry: Geometry, size: [usize; 2]) -> Self {
        // Rounding may move a box that fills the image beyond its border.
        const ROUNDING: f64 = 1e-6;
        let Geometry {
            top,
            left,
            height,
            width,
            ..
        } = geometry;
        let [rows, columns] = size.map(|side| side as f64);
        let is_inside = |first: f64, length: f64, side: f64| {
            first > -ROUNDING && first + length < side + ROUNDING
        };
        if is_inside(top, height, rows) && is_inside(left, width, columns) {
            let (top, left) = (top.max(0.0), left.max(0.0));
            return Self {
                exceeds: false,
                first: (0, 0),
                size,
                top,
                left,
                height: height.min(rows - top),
                width: width.min(columns - left),
            };
        }
        let first = (top.floor(), left.floor());
        let last = ((top + height).ceil(), (left + width).ceil());
        Self {
            exceeds: true,
            first: (first.0 as isize, first.1 as isize),
            size: [(last.0 - first.0) as usize, (last.1 - first.1) as usize],
            top: top - first.0,
            left: left - first.1,
            height,
            width,
        }
    }
}

/// Copies the box of `size` at (`top`, `left`) from every plane; pixels outside the image are 0.
fn copy_planes(
    pixels: &[u8],
    [rows, columns]: [usize; 2],
    (top, left): (isize, isize),
    [height, width]: [usize; 2],
    out: &mut [u8],
) {
    let planes = pixels.chunks_exact(rows * columns);
    for (from, to) in planes.zip(out.chunks_exact_mut(height * width)) {
        for (row, line) in to.chunks_exact_mut(width).enumerate() {
            match row.checked_add_signed(top).filter(|row| *row < rows) {
                Some(row) => shift(&from[row * columns..(row + 1) * columns], left, line),
                None => line.fill(0),
            }
        }
    }
}

/// Copies `from[i + by]` to `to[i]`, 0 where there is none.
fn shift(from: &[u8], by: isize, to: &mut [u8]) {
    let first = by.unsigned_abs();
    let (skipped, black) = if by < 0 {
        (0, first.min(to.len()))
    } else {
        (first.min(from.len()), 0)
    };
    let kept = (from.len() - skipped).min(to.len() - black);
    to[..black].fill(0);
    to[black..black + kept].copy_from_slice(&from[skipped..skipped + kept]);
    to[black + kept..].fill(0);
}

/// Copies the pixels of `bounds` from an interleaved image to `out`; pixels outside the image are 0.
fn cut_out(
    pixels: &[u8],
    [rows, columns]: [usize; 2],
    channels: usize,
    bounds: &Bounds,
    out: &mut Vec<u8>,
) {
    let ([height, width], (top, left)) = (bounds.size, bounds.first);
    out.resize(height * width * channels, 0);
    let line = width * channels;
    for (row, to) in out.chunks_exact_mut(line).enumerate() {
        match row.checked_add_signed(top).filter(|row| *row < rows) {
            Some(row) => {
                let from = &pixels[row * columns * channels..(row + 1) * columns * channels];
                shift(from, left * channels as isize, to);
            }
            None => to.fill(0),
        }
    }
}

/// The pixels as [height, width, `channels`].
fn interleaved<'p>(picture: &'p Picture<'_>, channels: usize) -> Cow<'p, [u8]> {
    let (pixels, found) = (&*picture.pixels, picture.channels());
    let plane = pixels.len() / found;
    // Value of a pixel in a channel.
    let at = |pixel: usize, channel: usize| match picture.layout {
        Layout::Planar => pixels[channel * plane + pixel],
        Layout::Interleaved => pixels[pixel * found + channel],
    };
    match (found, channels) {
        (1, 1) => Cow::Borrowed(pixels),
        (3, 3) if picture.layout == Layout::Interleaved => Cow::Borrowed(pixels),
        (3, 3) => (0..plane)
            .flat_map(|pixel| [0, 1, 2].map(|channel| at(pixel, channel)))
            .collect(),
        (3, 1) => (0..plane)
            .map(|pixel| brightness([0, 1, 2].map(|channel| at(pixel, channel))))
            .collect(),
        (1, 3) => pixels.iter().flat_map(|value| [*value; 3]).collect(),
        (found, wanted) => panic!("{found} channels cannot become {wanted}"),
    }
}

/// Brightness after ITU-R 601-2, rounded as by Pillow's `convert("L")`.
pub(crate) fn brightness(rgb: [u8; 3]) -> u8 {
    let [red, green, blue] = rgb.map(u32::from);
    // The weights are of 2^16, so the sum fits a u8 again.
    ((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests;
