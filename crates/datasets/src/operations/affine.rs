//! Rotation, shift and shear.

/// An affine map from the places of the changed picture to those of the picture before, in shares of its sides: row 0
/// gives x (to the right), row 1 y (down), each from (x, y, 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AffineMap([[f64; 3]; 2]);

/// Where a pixel comes from: four pixels of a plane, and the place between them.
struct Source {
    upper: [usize; 2],
    lower: [usize; 2],
    across: f64,
    down: f64,
}

impl AffineMap {
    /// Turns a picture of `size` = [height, width] about its center, clockwise, and then shifts it by `shift` pixels to
    /// the right and down: torchvision's `affine` with its `angle` and `translate`.
    pub(crate) fn rotation(degrees: f64, shift: [f64; 2], size: [usize; 2]) -> Self {
        let [y, x] = size.map(|side| side as f64 * 0.5);
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (right, down) = (-x - shift[0], -y - shift[1]);
        let pixels = [
            [cos, sin, cos * right + sin * down + x],
            [-sin, cos, -sin * right + cos * down + y],
        ];
        Self::of_pixels(pixels, size)
    }

    /// Shears a picture of `size` = [height, width] about its upper left corner: torchvision's `affine` with a `shear`
    /// whose tangents are `x` and `y`, one of which is 0.
    pub(crate) fn shear(x: f64, y: f64, size: [usize; 2]) -> Self {
        Self::of_pixels([[1.0, x, 0.0], [y, 1.0, 0.0]], size)
    }

    /// A map in pixels of a picture of `size` = [height, width].
    fn of_pixels(pixels: [[f64; 3]; 2], size: [usize; 2]) -> Self {
        let [height, width] = size.map(|side| side as f64);
        let [[xx, xy, x], [yx, yy, y]] = pixels;
        Self([
            [xx, xy * (height / width), x / width],
            [yx * (width / height), yy, y / height],
        ])
    }

    fn pixels(self, size: [usize; 2]) -> [[f64; 3]; 2] {
        let [height, width] = size.map(|side| side as f64);
        let [[xx, xy, x], [yx, yy, y]] = self.0;
        [
            [xx, xy * (width / height), x * width],
            [yx * (height / width), yy, y * height],
        ]
    }

    /// Writes the changed planes of `from`, u8 [channels, height, width], to `to`, for `size` = [height, width]:
    /// Pillow's `transform(size, AFFINE, map, BILINEAR)`, which cuts fractions off.
    pub(super) fn warp(self, from: &[u8], to: &mut [u8], size: [usize; 2]) {
        let [height, width] = size;
        let plane = height * width;
        let map = self.pixels(size);
        for row in 0..height {
            for column in 0..width {
                let source = source(map, [row, column], size);
                let to = to[row * width + column..].iter_mut().step_by(plane);
                for (to, from) in to.zip(from.chunks_exact(plane)) {
                    *to = source.as_ref().map_or(0, |source| source.of(from));
                }
            }
        }
    }
}

/// The source of the pixel at `[row, column]`; `None` outside the picture of `size` = [height, width].
fn source(map: [[f64; 3]; 2], at: [usize; 2], size: [usize; 2]) -> Option<Source> {
    // The middle of the pixel.
    let [y, x] = at.map(|at| at as f64 + 0.5);
    let [x, y] = map.map(|row| row[0] * x + row[1] * y + row[2]);
    let [height, width] = size.map(|side| side as f64);
    if x < 0.0 || x >= width || y < 0.0 || y >= height {
        return None;
    }
    let (x, y) = (x - 0.5, y - 0.5);
    let (left, top) = (x.floor(), y.floor());
    // At the border, the pixel beyond is the one before.
    let clip = |at: f64, side: f64| at.clamp(0.0, side - 1.0) as usize;
    let line = |row: f64| {
        let start = clip(row, height) * size[1];
        [left, left + 1.0].map(|column| start + clip(column, width))
    };
    Some(Source {
        upper: line(top),
        lower: line(top + 1.0),
        across: x - left,
        down: y - top,
    })
}

impl Source {
    fn of(&self, plane: &[u8]) -> u8 {
        let between = |low: f64, high: f64, share: f64| low + (high - low) * share;
        let [upper, lower] = [self.upper, self.lower].map(|line| {
            let [left, right] = line.map(|at| f64::from(plane[at]));
            between(left, right, self.across)
        });
        // Where the map hits the middle of a pixel but for its own rounding, the pixel keeps its value.
        const ROUNDING: f64 = 1e-9;
        (between(upper, lower, self.down) + ROUNDING) as u8
    }
}
