//! Renders what a view makes of an image.

use crate::{Picture, Renderer, augmentation::Transform, render::brightness, targets::Target};

/// Renders transformed images; keeps buffers between them.
#[derive(Debug, Default)]
pub(crate) struct ViewRenderer {
    renderer: Renderer,
    /// A picture in the channels of its source.
    unconverted: Vec<u8>,
    scratch: Vec<u8>,
}

impl ViewRenderer {
    /// Writes what `transform` makes of `picture` to `out`, u8 of `target`, an input for images.
    ///
    /// Operations change the rendered pixels in the channels of the source: a change of hue or saturation also changes
    /// what a gray network sees.
    ///
    /// # Panics
    /// As [`Renderer::render`].
    pub(crate) fn render(
        &mut self,
        picture: &Picture<'_>,
        transform: &Transform,
        target: &Target,
        out: &mut [u8],
    ) {
        let Transform {
            geometry,
            operations,
        } = transform;
        let (wanted, interpolation) = (target.image_shape(), target.interpolation);
        let (channels, [wanted_channels, height, width]) = (picture.channels(), wanted);
        if operations.is_empty() || channels == wanted_channels {
            self.renderer
                .render(picture, *geometry, wanted, interpolation, out);
            for operation in operations {
                operation.apply(out, wanted, &mut self.scratch);
            }
            return;
        }
        let shape = [channels, height, width];
        self.unconverted.resize(shape.iter().product(), 0);
        self.renderer.render(
            picture,
            *geometry,
            shape,
            interpolation,
            &mut self.unconverted,
        );
        for operation in operations {
            operation.apply(&mut self.unconverted, shape, &mut self.scratch);
        }
        convert(&self.unconverted, height * width, out);
    }
}

/// Gray planes of `plane` pixels from color, or color from gray.
fn convert(from: &[u8], plane: usize, to: &mut [u8]) {
    if from.len() == plane {
        to.chunks_exact_mut(plane)
            .for_each(|to| to.copy_from_slice(from));
    } else {
        for (pixel, value) in to.iter_mut().enumerate() {
            *value = brightness([0, 1, 2].map(|channel| from[channel * plane + pixel]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Geometry, Layout, operations::Operation};

    fn render(picture: &Picture<'_>, operations: &[Operation], channels: usize) -> Vec<u8> {
        let transform = Transform {
            geometry: Geometry::centered(picture.size(), [2, 2]),
            operations: operations.to_vec(),
        };
        let mut out = vec![9; channels * 4];
        let mut renderer = ViewRenderer::default();
        renderer.render(
            picture,
            &transform,
            &Target::student(&[channels, 2, 2]),
            &mut out,
        );
        out
    }

    #[test]
    fn a_gray_network_sees_the_gray_of_the_changed_colors() {
        let red = Picture {
            pixels: [200, 0, 0].repeat(4).into(),
            layout: Layout::Interleaved,
            shape: [3, 2, 2],
        };
        let third = [Operation::Hue(1.0 / 3.0)];
        assert_eq!(render(&red, &[], 1), [brightness([200, 0, 0]); 4]);
        let changed = render(&red, &third, 3);
        let green = [changed[0], changed[4], changed[8]];
        assert!(
            green[1] == 200 && green[0] < 10 && green[2] < 10,
            "{green:?}"
        );
        assert_eq!(render(&red, &third, 1), [brightness(green); 4]);
    }

    #[test]
    fn a_color_network_sees_a_changed_gray_picture() {
        let gray = Picture {
            pixels: vec![100; 4].into(),
            layout: Layout::Planar,
            shape: [1, 2, 2],
        };
        let operations = [Operation::Brightness(0.5), Operation::Hue(0.5)];
        assert_eq!(render(&gray, &operations, 3), [50; 12]);
        assert_eq!(render(&gray, &operations, 1), [50; 4]);
    }
}
