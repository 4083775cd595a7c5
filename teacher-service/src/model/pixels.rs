//! Converts the pixels of trainers to the pixels of a model.

use bytes::Bytes;

use super::card::{ChannelOrder, ImageCard, Layout, PixelNormalization, Scale};
use crate::batch::Input;

impl ImageCard {
    /// Converts `samples` images from [batch, channels, height, width] in red, green and blue to the
    /// model's layout, order of channels, and values.
    pub fn prepare(&self, pixels: &Bytes, samples: usize) -> Input {
        match &self.normalization {
            None if self.keeps_bytes() => Input::U8(pixels.clone()),
            None => Input::U8(self.convert(pixels, samples, |_, value| value).into()),
            Some(normalization) => {
                let tables = self.tables(normalization);
                let value = |channel: usize, value: u8| tables[channel][usize::from(value)];
                Input::F32(self.convert(pixels, samples, value))
            }
        }
    }

    /// The shape of one sample as the model takes it.
    pub fn model_shape(&self) -> [usize; 3] {
        let [channels, height, width] = self.shape;
        match self.layout {
            Layout::Nchw => [channels, height, width],
            Layout::Nhwc => [height, width, channels],
        }
    }

    fn keeps_bytes(&self) -> bool {
        self.layout == Layout::Nchw && self.channel_order == ChannelOrder::Rgb
    }

    /// `value` maps a channel of the model and a byte to the model's value.
    fn convert<T: Copy>(
        &self,
        pixels: &[u8],
        samples: usize,
        value: impl Fn(usize, u8) -> T,
    ) -> Vec<T> {
        let [channels, height, width] = self.shape;
        let plane = height * width;
        let source = |channel: usize| match self.channel_order {
            ChannelOrder::Rgb => channel,
            ChannelOrder::Bgr => channels - 1 - channel,
        };
        let mut converted = Vec::with_capacity(pixels.len());
        for image in pixels.chunks_exact(channels * plane).take(samples) {
            match self.layout {
                Layout::Nchw => {
                    for channel in 0..channels {
                        let from = source(channel) * plane;
                        let pixels = &image[from..from + plane];
                        converted.extend(pixels.iter().map(|byte| value(channel, *byte)));
                    }
                }
                Layout::Nhwc => {
                    for position in 0..plane {
                        let pixel = (0..channels).map(|channel| {
                            value(channel, image[source(channel) * plane + position])
                        });
                        converted.extend(pixel);
                    }
                }
            }
        }
        converted
    }

    /// The value of each byte, per channel of the model.
    fn tables(&self, normalization: &PixelNormalization) -> Vec<[f32; 256]> {
        let PixelNormalization { scale, mean, std } = normalization;
        let table = |(mean, std): (&f32, &f32)| {
            std::array::from_fn(|byte| {
                let value = match scale {
                    Scale::Unit => byte as f32 / 255.0,
                    Scale::Byte => byte as f32,
                };
                (value - mean) / std
            })
        };
        mean.iter().zip(std).map(table).collect()
    }
}

#[cfg(test)]
mod tests {
    use datasets::Interpolation;

    use super::*;

    fn card(layout: Layout, channel_order: ChannelOrder) -> ImageCard {
        ImageCard {
            shape: [3, 1, 2],
            layout,
            channel_order,
            normalization: Some(PixelNormalization {
                scale: Scale::Unit,
                mean: vec![0.0, 0.5, 0.25],
                std: vec![1.0, 0.5, 2.0],
            }),
            interpolation: Interpolation::Bilinear,
        }
    }

    /// Two images of two pixels: red, green and blue planes.
    const PIXELS: [u8; 12] = [0, 255, 51, 102, 204, 153, 255, 255, 0, 0, 51, 51];

    fn prepared(card: &ImageCard) -> Vec<f32> {
        match card.prepare(&Bytes::from_static(&PIXELS), 2) {
            Input::F32(values) => values,
            Input::U8(_) => panic!("bytes"),
        }
    }

    #[test]
    fn values_layout_and_order_follow_the_card() {
        // (x / 255 - mean) / std in double precision, rounded.
        let nchw = prepared(&card(Layout::Nchw, ChannelOrder::Rgb));
        let expected = [0.0, 1.0, -0.6, -0.2, 0.275, 0.175];
        let near = |found: &[f32], expected: &[f32]| {
            found
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        };
        assert!(near(&nchw[..6], &expected), "{nchw:?}");
        let nhwc = prepared(&card(Layout::Nhwc, ChannelOrder::Rgb));
        assert!(
            near(&nhwc[..6], &[0.0, -0.6, 0.275, 1.0, -0.2, 0.175]),
            "{nhwc:?}"
        );
        // The first channel of the model is blue and has the first mean.
        let bgr = prepared(&card(Layout::Nchw, ChannelOrder::Bgr));
        assert!(
            near(&bgr[..6], &[0.8, 0.6, -0.6, -0.2, -0.125, 0.375]),
            "{bgr:?}"
        );
        assert_eq!(bgr.len(), 12);
    }

    #[test]
    fn bytes_stay_bytes() {
        let mut card = card(Layout::Nchw, ChannelOrder::Rgb);
        card.normalization = None;
        let pixels = Bytes::from_static(&PIXELS);
        let Input::U8(same) = card.prepare(&pixels, 2) else {
            panic!("values");
        };
        assert_eq!(same.as_ptr(), pixels.as_ptr());
        card.layout = Layout::Nhwc;
        let expected = [0, 51, 204, 255, 102, 153, 255, 0, 51, 255, 0, 51];
        let expected = Input::U8(Bytes::copy_from_slice(&expected));
        assert_eq!(card.prepare(&pixels, 2), expected);
    }
}
