//! Fills the gaps of a preprocessing card, so that a model can be inspected before its card is complete.

use serde::Serialize;
use tensors::TensorSpec;

use super::setting::Setting;
use crate::model::card::{
    Card, CardConfig, CardError, CardFile, ChannelOrder, Layout, OutputKind, Scale,
};

/// A complete card, and what it lacked.
#[derive(Debug)]
pub(super) struct CompletedCard {
    pub(super) card: Card,
    /// What nothing says.
    pub(super) assumed: Vec<Assumption>,
    /// What the configuration or a file says, but does not fit the model.
    pub(super) wrong: Vec<CardError>,
}

/// A property of a model that nothing says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assumption {
    /// The missing key of `[model.preprocessing]`.
    pub key: &'static str,
    /// What the key says.
    pub what: &'static str,
    /// What the inspection takes instead.
    pub assumed: Setting,
}

/// The number of classes, and their names if they are known from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownClasses<'c> {
    /// Values of the output per sample; `None` if the model does not say.
    pub(super) count: Option<usize>,
    /// Names of the classes of the data.
    pub(super) of_data: &'c [String],
}

/// The most frequent size of pictures, and mean and deviation of their channels (ImageNet).
const USUAL_SIZE: [usize; 2] = [224, 224];
pub(super) const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
pub(super) const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Completes the card of a model with the input `input`. What `config` and `files` do not say, or say wrongly,
/// gets its usual value.
///
/// # Errors
/// The first problem that no value of a key can solve, for example a second open dimension.
pub(super) fn complete(
    input: &TensorSpec,
    classes: KnownClasses<'_>,
    mut config: CardConfig,
    mut files: Vec<CardFile>,
) -> Result<CompletedCard, CardError> {
    let (mut assumed, mut wrong) = (Vec::<Assumption>::new(), Vec::new());
    // Otherwise a wrong layout would show as wrong numbers of channels and a wrong size.
    if let (Some(set), Some(implied)) = (config.layout, Layout::implied_by(input))
        && set != implied
    {
        config.layout = None;
        wrong.push(CardError::Wrong {
            key: "layout",
            from: None,
            problem: format!(
                "{}, but the model takes {input}, which is {}",
                Setting::word("layout", set).value,
                Setting::word("layout", implied).value
            ),
        });
    }
    loop {
        match Card::resolve(input, classes.count, &config, &files) {
            Ok(card) => {
                return Ok(CompletedCard {
                    card,
                    assumed,
                    wrong,
                });
            }
            Err(CardError::Missing { key, what, .. })
                if assumed.iter().all(|known| known.key != key) =>
            {
                let assumed_value = assume(&mut config, key, input, classes);
                assumed.push(Assumption {
                    key,
                    what,
                    assumed: assumed_value,
                });
            }
            Err(CardError::Wrong { key, from, problem })
                if wrong.iter().all(
                    |known| !matches!(known, CardError::Wrong { key: known, .. } if *known == key),
                ) && is_set(&config, &files, key) =>
            {
                clear(&mut config, key);
                files.iter_mut().for_each(|file| clear(&mut file.card, key));
                wrong.push(CardError::Wrong { key, from, problem });
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sets `key` to its usual value.
fn assume(
    config: &mut CardConfig,
    key: &'static str,
    input: &TensorSpec,
    classes: KnownClasses<'_>,
) -> Setting {
    let gray = gray(input, config.layout);
    let channels = |color: [f32; 3], gray_value: f32| {
        if gray {
            vec![gray_value]
        } else {
            color.to_vec()
        }
    };
    match key {
        "size" => {
            config.size = Some(USUAL_SIZE);
            Setting::numbers(key, &USUAL_SIZE)
        }
        "scale" => {
            config.scale = Some(Scale::Unit);
            Setting::word(key, Scale::Unit)
        }
        "mean" => {
            let mean = channels(IMAGENET_MEAN, 0.5);
            let setting = Setting::numbers(key, &mean);
            config.mean = Some(mean);
            setting
        }
        "std" => {
            let std = channels(IMAGENET_STD, 0.5);
            let setting = Setting::numbers(key, &std);
            config.std = Some(std);
            setting
        }
        "channel_order" => {
            config.channel_order = Some(ChannelOrder::Rgb);
            Setting::word(key, ChannelOrder::Rgb)
        }
        "layout" => {
            config.layout = Some(Layout::Nchw);
            Setting::word(key, Layout::Nchw)
        }
        "output" => {
            config.output = Some(OutputKind::Logits);
            Setting::word(key, OutputKind::Logits)
        }
        _ => {
            let names = assumed_names(
                classes.count.unwrap_or(classes.of_data.len()),
                classes.of_data,
            );
            let setting = Setting::names(&names);
            config.class_names = Some(names);
            setting
        }
    }
}

/// The names of the data's classes if there are as many, otherwise `class 0` and so on.
pub(super) fn assumed_names(count: usize, of_data: &[String]) -> Vec<String> {
    if of_data.len() == count && count >= 2 {
        return of_data.to_vec();
    }
    (0..count.max(2))
        .map(|class| format!("class {class}"))
        .collect()
}

/// Whether the model takes one channel.
fn gray(input: &TensorSpec, layout: Option<Layout>) -> bool {
    let layout = layout.or_else(|| Layout::implied_by(input));
    let channels = match layout {
        Some(Layout::Nhwc) => input.dimensions.0.get(3),
        _ => input.dimensions.0.get(1),
    };
    channels.and_then(|channels| channels.fixed()) == Some(1)
}

fn is_set(config: &CardConfig, files: &[CardFile], key: &str) -> bool {
    let mut cards = std::iter::once(config).chain(files.iter().map(|file| &file.card));
    cards.any(|card| {
        let mut cleared = card.clone();
        clear(&mut cleared, key);
        cleared != *card
    })
}

fn clear(card: &mut CardConfig, key: &str) {
    match key {
        "size" => card.size = None,
        "scale" => card.scale = None,
        "mean" => card.mean = None,
        "std" => card.std = None,
        "channel_order" => card.channel_order = None,
        "layout" => card.layout = None,
        "output" => card.output = None,
        "interpolation" => card.interpolation = None,
        _ => card.class_names = None,
    }
}

#[cfg(test)]
mod tests {
    use tensors::{DataType, Dimension, Dimensions};

    use super::*;
    use crate::model::card::SampleCard;

    fn input(dimensions: &[Dimension]) -> TensorSpec {
        TensorSpec {
            name: "x".to_owned(),
            data_type: DataType::Fp32,
            dimensions: Dimensions(dimensions.to_vec()),
        }
    }

    fn color() -> TensorSpec {
        TensorSpec::batch_of("x", DataType::Fp32, &[3, 32, 48])
    }

    const TWO: KnownClasses<'_> = KnownClasses {
        count: Some(2),
        of_data: &[],
    };

    fn keys(card: &CompletedCard) -> (Vec<&str>, Vec<String>) {
        let assumed = card.assumed.iter().map(|assumed| assumed.key);
        let wrong = card.wrong.iter().map(ToString::to_string);
        (assumed.collect(), wrong.collect())
    }

    #[test]
    fn every_gap_gets_its_usual_value_and_is_listed() {
        let card = complete(&color(), TWO, CardConfig::default(), vec![]).unwrap();
        let (assumed, wrong) = keys(&card);
        let expected = [
            "scale",
            "mean",
            "std",
            "channel_order",
            "output",
            "class_names",
        ];
        let (mut found, mut expected) = (assumed, expected.to_vec());
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!((found, wrong), (expected, vec![]));
        assert_eq!(card.card.class_names, ["class 0", "class 1"]);

        let open = [
            Dimension::Batch,
            Dimension::Open,
            Dimension::Open,
            Dimension::Open,
        ];
        let card = complete(&input(&open), TWO, CardConfig::default(), vec![]).unwrap();
        let SampleCard::Images(images) = &card.card.samples else {
            panic!("no image");
        };
        assert_eq!((images.shape, images.layout), ([3, 224, 224], Layout::Nchw));

        let names = ["cat".to_owned(), "dog".to_owned()];
        let known = KnownClasses {
            count: Some(2),
            of_data: &names,
        };
        let gray = TensorSpec::batch_of("x", DataType::Fp32, &[1, 28, 28]);
        let card = complete(&gray, known, CardConfig::default(), vec![]).unwrap();
        assert_eq!(card.card.class_names, names);
        assert!(!keys(&card).0.contains(&"channel_order"));
    }

    #[test]
    fn what_does_not_fit_is_listed_and_replaced() {
        let config = CardConfig {
            size: Some([64, 64]),
            layout: Some(Layout::Nhwc),
            mean: Some(vec![0.5]),
            ..CardConfig::default()
        };
        let card = complete(&color(), TWO, config, vec![]).unwrap();
        let (assumed, wrong) = keys(&card);
        for problem in [
            "layout: \"nhwc\", but the model takes `x` FP32 [batch, 3, 32, 48], which is \"nchw\"",
            "size: [64, 64], but the model takes images of [32, 48]",
            "mean: 1 values, but the model has 3 channels",
        ] {
            assert!(
                wrong.iter().any(|wrong| wrong.contains(problem)),
                "{wrong:?}"
            );
        }
        assert!(
            assumed.contains(&"mean") && !assumed.contains(&"size"),
            "{assumed:?}"
        );
        let SampleCard::Images(images) = &card.card.samples else {
            panic!("no image");
        };
        assert_eq!((images.shape, images.layout), ([3, 32, 48], Layout::Nchw));
    }

    #[test]
    fn what_no_key_can_solve_is_an_error() {
        let open = [Dimension::Batch, Dimension::Open];
        let error = complete(&input(&open), TWO, CardConfig::default(), vec![]).unwrap_err();
        assert!(
            error.to_string().contains("only the batch may be open"),
            "{error}"
        );
    }
}
