//! A line of a configuration.

use std::fmt;

use serde::Serialize;

use crate::model::card::ImageCard;

/// A key of `[model.preprocessing]` and its value in TOML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The key.
    pub key: &'static str,
    /// The value in TOML.
    pub value: String,
}

impl Setting {
    /// A word, such as `"bgr"`.
    pub(super) fn word(key: &'static str, word: impl Serialize) -> Self {
        Self {
            key,
            value: json(&word),
        }
    }

    /// A list of numbers.
    pub(super) fn numbers(key: &'static str, numbers: &[impl fmt::Debug]) -> Self {
        Self {
            key,
            value: format!("{numbers:?}"),
        }
    }

    /// The names of the classes.
    pub(super) fn names(names: &[String]) -> Self {
        let names: Vec<_> = names.iter().map(json).collect();
        Self {
            key: "class_names",
            value: format!("[{}]", names.join(", ")),
        }
    }

    /// What changes from one card to another.
    pub(super) fn between(from: &ImageCard, to: &ImageCard) -> Vec<Self> {
        let mut settings = Vec::new();
        let [_, height, width] = to.shape;
        if from.shape != to.shape {
            settings.push(Self::numbers("size", &[height, width]));
        }
        if from.layout != to.layout {
            settings.push(Self::word("layout", to.layout));
        }
        if from.channel_order != to.channel_order {
            settings.push(Self::word("channel_order", to.channel_order));
        }
        if let (Some(from), Some(to)) = (&from.normalization, &to.normalization) {
            if from.scale != to.scale {
                settings.push(Self::word("scale", to.scale));
            }
            if from.mean != to.mean {
                settings.push(Self::numbers("mean", &to.mean));
            }
            if from.std != to.std {
                settings.push(Self::numbers("std", &to.std));
            }
        }
        settings
    }
}

impl fmt::Display for Setting {
    /// A line of TOML with the whole key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "model.preprocessing.{} = {}",
            self.key, self.value
        )
    }
}

/// Text and words are the same in JSON and TOML.
fn json(value: &impl Serialize) -> String {
    // Holds: words and text can be written as JSON.
    serde_json::to_string(value).expect("it can be written as JSON")
}

#[cfg(test)]
mod tests {
    use datasets::Interpolation;

    use super::*;
    use crate::model::card::{CardConfig, ChannelOrder, Layout, PixelNormalization, Scale};

    #[test]
    fn settings_are_read_as_a_configuration() {
        let card = |order, scale, size| ImageCard {
            shape: [3, size, size],
            layout: Layout::Nchw,
            channel_order: order,
            normalization: Some(PixelNormalization {
                scale,
                mean: vec![0.485, 0.0, 123.675],
                std: vec![1.0, 0.5, 1e-3],
            }),
            interpolation: Interpolation::Bilinear,
        };
        let from = card(ChannelOrder::Rgb, Scale::Unit, 8);
        assert_eq!(Setting::between(&from, &from), []);
        let mut to = card(ChannelOrder::Bgr, Scale::Byte, 16);
        to.layout = Layout::Nhwc;
        to.normalization.as_mut().unwrap().mean[1] = 0.25;
        let names = ["a \"b\"".to_owned(), "ü".to_owned()];
        let mut lines = Setting::between(&from, &to);
        lines.push(Setting::names(&names));
        let text: Vec<_> = lines
            .iter()
            .map(|line| format!("{} = {}\n", line.key, line.value))
            .collect();
        let read: CardConfig = toml::from_str(&text.concat()).unwrap();
        let expected = CardConfig {
            size: Some([16, 16]),
            scale: Some(Scale::Byte),
            mean: Some(vec![0.485, 0.25, 123.675]),
            channel_order: Some(ChannelOrder::Bgr),
            layout: Some(Layout::Nhwc),
            class_names: Some(names.to_vec()),
            ..CardConfig::default()
        };
        assert_eq!(read, expected);
        assert!(
            lines[0]
                .to_string()
                .starts_with("model.preprocessing.size = [16, 16]")
        );
    }
}
