//! Covers a box of a picture.

use crate::region::Region;

/// A box, and what covers it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Erasing {
    pub(crate) region: Region,
    pub(crate) fill: Fill,
}

/// What covers an erased box.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fill {
    /// Zeros.
    Black,
    /// One value for each pixel of the student and each channel. A teacher with a larger input sees larger spots.
    Noise {
        /// u8 [3, height, width]; gray pictures use the first plane.
        values: Vec<u8>,
        /// [height, width]
        size: [usize; 2],
    },
}

impl Erasing {
    /// Covers the box in `pixels`, u8 of `shape` = [channels, height, width].
    pub(super) fn apply(&self, pixels: &mut [u8], [_, height, width]: [usize; 3]) {
        let [rows, columns] = self.region.pixels([height, width]);
        for (channel, plane) in pixels.chunks_exact_mut(height * width).enumerate() {
            for (row, line) in rows
                .clone()
                .zip(plane.chunks_exact_mut(width).skip(rows.start))
            {
                let line = &mut line[columns.clone()];
                match &self.fill {
                    Fill::Black => line.fill(0),
                    Fill::Noise { values, size } => {
                        let spot_row = (row - rows.start) * size[0] / rows.len();
                        let spots = &values[(channel * size[0] + spot_row) * size[1]..][..size[1]];
                        let length = line.len();
                        for (at, value) in line.iter_mut().enumerate() {
                            *value = spots[at * size[1] / length];
                        }
                    }
                }
            }
        }
    }
}
