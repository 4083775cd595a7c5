//! Boxes in a rendered picture that teacher and student share.

use std::ops::Range;

/// A box of whole pixels of the student's picture, kept as shares of the picture's sides: in a teacher's picture of
/// another size it covers the same part, rounded to whole pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Region {
    rows: [f64; 2],
    columns: [f64; 2],
}

impl Region {
    /// The pixels `rows` × `columns` of a picture of `size` = [height, width].
    pub(crate) fn of_pixels(
        rows: Range<usize>,
        columns: Range<usize>,
        [height, width]: [usize; 2],
    ) -> Self {
        let shares = |range: Range<usize>, side: usize| {
            [range.start, range.end].map(|at| at as f64 / side as f64)
        };
        Self {
            rows: shares(rows, height),
            columns: shares(columns, width),
        }
    }

    /// Rows and columns of the box in a picture of `size` = [height, width].
    pub(crate) fn pixels(self, [height, width]: [usize; 2]) -> [Range<usize>; 2] {
        let pixels = |shares: [f64; 2], side: usize| {
            let [start, end] = shares.map(|share| (share * side as f64).round() as usize);
            start..end
        };
        [pixels(self.rows, height), pixels(self.columns, width)]
    }

    /// Share of the picture's area, 0 to 1.
    pub(crate) fn area(self) -> f64 {
        (self.rows[1] - self.rows[0]) * (self.columns[1] - self.columns[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_keeps_its_pixels_and_covers_the_same_part_at_another_size() {
        for side in 1..70 {
            for (start, end) in
                (0..side).flat_map(|start| (start..=side).map(move |end| (start, end)))
            {
                let region = Region::of_pixels(start..end, 0..1, [side, 1]);
                assert_eq!(region.pixels([side, 1]), [start..end, 0..1]);
                assert_eq!(region.pixels([3 * side, 2]), [3 * start..3 * end, 0..2]);
            }
        }
        let region = Region::of_pixels(2..4, 0..5, [8, 10]);
        assert_eq!(region.area(), 0.125);
        assert_eq!(region.pixels([5, 5]), [1..3, 0..3]);
    }
}
