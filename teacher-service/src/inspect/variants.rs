//! Other cards that a model could need.

use datasets::Normalization;
use serde::Serialize;
use tensors::{Dimension, TensorSpec};

use super::completion::{IMAGENET_MEAN, IMAGENET_STD};
use crate::model::card::{ChannelOrder, ImageCard, Layout, PixelNormalization, Scale};

/// What a hint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HintKind {
    /// Red and blue are swapped.
    ChannelOrder,
    /// The model needs a normalization, and the card has none.
    NormalizationMissing,
    /// The model normalizes its pixels itself, and the card does too.
    NormalizationDoubled,
    /// The model needs another normalization.
    Normalization,
    /// The dimensions are in another order.
    Layout,
    /// The model needs images of another size.
    Size,
    /// Logits are taken for probabilities, or probabilities for logits.
    Output,
    /// The classes are moved by one position.
    LabelsShifted,
    /// The classes are in another order.
    LabelsPermuted,
}

/// Another card for the same model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Variant {
    /// What it changes, one or two things.
    pub(super) kinds: Vec<HintKind>,
    pub(super) card: ImageCard,
}

/// Largest side of the images that a variant may take: more takes too long for an inspection.
const LARGEST_SIDE: usize = 512;

/// The cards that differ from `card` in one respect, of a model with the input `input`. `data` are mean and deviation
/// of the data, `stored` is the size of its pictures if they have one.
pub(super) fn variants(
    card: &ImageCard,
    input: &TensorSpec,
    data: &Normalization,
    stored: Option<[usize; 2]>,
) -> Vec<Variant> {
    let mut found = Vec::new();
    let mut add = |kind, other: ImageCard| {
        let is_new = other != *card && found.iter().all(|known: &Variant| known.card != other);
        if is_new {
            let kinds = vec![kind];
            found.push(Variant { kinds, card: other });
        }
    };
    if let Some(other) = swapped(card) {
        add(HintKind::ChannelOrder, other);
    }
    for (kind, other) in normalized(card, data) {
        add(kind, other);
    }
    if has_open_layout(input) {
        let other = ImageCard {
            layout: card.layout.other(),
            ..card.clone()
        };
        add(HintKind::Layout, other);
    }
    if has_open_size(input, card.layout) {
        let [channels, height, width] = card.shape;
        let sizes = [
            stored,
            Some([height * 2, width * 2]),
            Some([height / 2, width / 2]),
            Some([224, 224]),
        ];
        for [height, width] in sizes.into_iter().flatten() {
            if (8..=LARGEST_SIDE).contains(&height) && (8..=LARGEST_SIDE).contains(&width) {
                let other = ImageCard {
                    shape: [channels, height, width],
                    ..card.clone()
                };
                add(HintKind::Size, other);
            }
        }
    }
    found
}

/// The cards that differ from `card` in the order of the channels and in the normalization. Neither change alone may
/// show that it is needed.
pub(super) fn pairs(card: &ImageCard, data: &Normalization) -> Vec<Variant> {
    let swapped = swapped(card).into_iter();
    let pairs = swapped.flat_map(|swapped| normalized(&swapped, data));
    let pairs = pairs.filter(|(_, other)| other.normalization != card.normalization);
    let variant = |(kind, card)| Variant {
        kinds: vec![HintKind::ChannelOrder, kind],
        card,
    };
    pairs.map(variant).collect()
}

/// The card with red and blue swapped, if there are colors.
fn swapped(card: &ImageCard) -> Option<ImageCard> {
    let channel_order = match card.channel_order {
        ChannelOrder::Rgb => ChannelOrder::Bgr,
        ChannelOrder::Bgr => ChannelOrder::Rgb,
    };
    (card.shape[0] == 3).then(|| ImageCard {
        channel_order,
        ..card.clone()
    })
}

/// The card with other normalizations, unless the model takes bytes.
fn normalized(card: &ImageCard, data: &Normalization) -> Vec<(HintKind, ImageCard)> {
    let Some(own) = &card.normalization else {
        return Vec::new();
    };
    let others = normalizations(own, card, data).into_iter();
    let other = |normalization| {
        let kind = match (is_none(own), is_none(&normalization)) {
            (true, false) => HintKind::NormalizationMissing,
            (false, true) => HintKind::NormalizationDoubled,
            _ => HintKind::Normalization,
        };
        let card = ImageCard {
            normalization: Some(normalization),
            ..card.clone()
        };
        (kind, card)
    };
    others.map(other).collect()
}

/// The usual normalizations, the one of the data, and the card's own with the other scale.
fn normalizations(
    own: &PixelNormalization,
    card: &ImageCard,
    data: &Normalization,
) -> Vec<PixelNormalization> {
    let channels = card.shape[0];
    let is_bgr = channels == 3 && card.channel_order == ChannelOrder::Bgr;
    // Mean and deviation are in the order of the model's channels.
    let ordered = |values: &[f32]| -> Vec<f32> {
        if is_bgr {
            values.iter().rev().copied().collect()
        } else {
            values.to_vec()
        }
    };
    let with = |scale, mean: Vec<f32>, std: Vec<f32>| PixelNormalization { scale, mean, std };
    let all = |value: f32| vec![value; channels];
    let mut found = vec![
        with(Scale::Unit, all(0.0), all(1.0)),
        with(Scale::Byte, all(0.0), all(1.0)),
        with(Scale::Unit, all(0.5), all(0.5)),
        with(Scale::Unit, ordered(&data.mean), ordered(&data.std)),
    ];
    if channels == 3 {
        let (mean, std) = (ordered(&IMAGENET_MEAN), ordered(&IMAGENET_STD));
        let bytes =
            |values: &[f32]| -> Vec<f32> { values.iter().map(|value| value * 255.0).collect() };
        // Caffe's and Keras's models subtract the mean of bytes and divide by nothing.
        found.push(with(Scale::Byte, bytes(&mean), all(1.0)));
        found.push(with(Scale::Unit, mean, std));
    }
    let other_scale = match own.scale {
        Scale::Unit => Scale::Byte,
        Scale::Byte => Scale::Unit,
    };
    found.push(with(other_scale, own.mean.clone(), own.std.clone()));
    found
}

/// Whether the pixels stay as they are, but for the scale.
fn is_none(normalization: &PixelNormalization) -> bool {
    normalization.mean.iter().all(|mean| *mean == 0.0)
        && normalization.std.iter().all(|std| *std == 1.0)
}

/// Whether both layouts fit the model's input.
pub(super) fn has_open_layout(input: &TensorSpec) -> bool {
    match input.dimensions.0[..] {
        [_, first, second, last] => {
            let sizes = [first, second, last].map(Dimension::fixed);
            // All open, or all the same.
            sizes == [None; 3]
                || (sizes[0].is_some() && sizes[0] == sizes[1] && sizes[1] == sizes[2])
        }
        _ => false,
    }
}

fn has_open_size(input: &TensorSpec, layout: Layout) -> bool {
    match (layout, &input.dimensions.0[..]) {
        (Layout::Nchw, [_, _, height, width]) | (Layout::Nhwc, [_, height, width, _]) => {
            height.fixed().is_none() && width.fixed().is_none()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use datasets::Interpolation;
    use tensors::{DataType, Dimensions};

    use super::*;

    fn card(channels: usize, mean: f32) -> ImageCard {
        ImageCard {
            shape: [channels, 32, 32],
            layout: Layout::Nchw,
            channel_order: ChannelOrder::Rgb,
            normalization: Some(PixelNormalization {
                scale: Scale::Unit,
                mean: vec![mean; channels],
                std: vec![1.0; channels],
            }),
            interpolation: Interpolation::Bilinear,
        }
    }

    fn kinds(card: &ImageCard, dimensions: &[Dimension]) -> Vec<HintKind> {
        let input = TensorSpec {
            name: "x".to_owned(),
            data_type: DataType::Fp32,
            dimensions: Dimensions(dimensions.to_vec()),
        };
        let data = Normalization {
            mean: vec![0.4; card.shape[0]],
            std: vec![0.3; card.shape[0]],
        };
        let found = variants(card, &input, &data, Some([40, 40]));
        assert!(found.iter().all(|variant| variant.card != *card));
        let mut kinds: Vec<_> = found
            .iter()
            .flat_map(|variant| variant.kinds.clone())
            .collect();
        kinds.dedup();
        kinds
    }

    #[test]
    fn only_what_fits_the_model_is_tried() {
        use Dimension::{Batch, Fixed, Open};
        use HintKind::{
            ChannelOrder as Order, Layout, Normalization as Other, NormalizationDoubled as Doubled,
            NormalizationMissing as Missing, Size,
        };
        let fixed = [Batch, Fixed(3), Fixed(32), Fixed(32)];
        // The first other card without a normalization is the one with the other scale.
        assert_eq!(kinds(&card(3, 0.0), &fixed), [Order, Other, Missing]);
        assert_eq!(kinds(&card(3, 0.1), &fixed), [Order, Doubled, Other]);
        let open = [Batch, Fixed(3), Open, Open];
        assert_eq!(kinds(&card(3, 0.1), &open), [Order, Doubled, Other, Size]);
        assert_eq!(
            kinds(&card(3, 0.1), &[Batch, Open, Open, Open]),
            [Order, Doubled, Other, Layout, Size]
        );
        let gray = [Batch, Fixed(1), Fixed(32), Fixed(32)];
        assert_eq!(kinds(&card(1, 0.1), &gray), [Doubled, Other]);
        let mut bytes = card(3, 0.0);
        bytes.normalization = None;
        assert_eq!(kinds(&bytes, &fixed), [Order]);
    }

    #[test]
    fn mean_and_deviation_follow_the_order_of_the_channels() {
        let mut bgr = card(3, 0.0);
        bgr.channel_order = ChannelOrder::Bgr;
        let input = TensorSpec::batch_of("x", DataType::Fp32, &[3, 32, 32]);
        let data = Normalization {
            mean: vec![0.1, 0.2, 0.3],
            std: vec![0.3; 3],
        };
        let means = |found: Vec<Variant>| -> Vec<Vec<f32>> {
            let cards = found
                .into_iter()
                .filter_map(|variant| variant.card.normalization);
            cards.map(|normalization| normalization.mean).collect()
        };
        let found = means(variants(&bgr, &input, &data, None));
        assert!(found.contains(&vec![0.3, 0.2, 0.1]), "{found:?}");
        assert!(found.contains(&vec![0.406, 0.456, 0.485]), "{found:?}");
        let both = pairs(&bgr, &data);
        assert!(
            both.iter()
                .all(|variant| variant.card.channel_order == ChannelOrder::Rgb)
        );
        let found = means(both);
        assert!(
            found.contains(&vec![0.1, 0.2, 0.3]) && !found.contains(&vec![0.3, 0.2, 0.1]),
            "{found:?}"
        );
        assert_eq!(
            pairs(
                &card(1, 0.1),
                &Normalization {
                    mean: vec![0.4],
                    std: vec![0.3]
                }
            ),
            []
        );
    }
}
