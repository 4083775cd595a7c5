//! The preprocessing card: how samples become a model's input, and what its outputs mean.
//!
//! Models that other frameworks wrote do not say what their pixels must look like. Each property comes
//! from `[model.preprocessing]`, from a file of timm or Hugging Face beside the model, or follows from
//! the model's signature; none is guessed.

mod error;

use std::path::PathBuf;

use common::config::{Problems, is_default};
use datasets::{Interpolation, UnknownInterpolation};
use serde::{Deserialize, Serialize};
use tensors::{DataType, Dimension, Dimensions, TensorSpec};
use tracing::info;

pub use error::CardError;
use error::missing;

/// `[model.preprocessing]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CardConfig {
    /// [height, width] of the images that the model takes.
    pub size: Option<[usize; 2]>,
    /// The range of the pixels, before mean and std.
    pub scale: Option<Scale>,
    /// Per channel, in the order of the model, after `scale`.
    pub mean: Option<Vec<f32>>,
    /// Per channel, in the order of the model, above 0, after `scale`.
    pub std: Option<Vec<f32>>,
    /// Order of the model's channels.
    pub channel_order: Option<ChannelOrder>,
    /// Order of the model's dimensions.
    pub layout: Option<Layout>,
    /// Name of the interpolation with which trainers resize images; by default it is bilinear.
    pub interpolation: Option<String>,
    /// What the model's output is.
    pub output: Option<OutputKind>,
    /// Names of the classes, in the order of the output.
    pub class_names: Option<Vec<String>>,
    /// A file with one name per line.
    pub class_names_file: Option<PathBuf>,
}

/// What a file beside the model says about its preprocessing.
#[derive(Debug, Clone, PartialEq)]
pub struct CardFile {
    /// The file.
    pub path: PathBuf,
    /// What it says; all else is `None`.
    pub card: CardConfig,
    /// Share of each side of an image that the model was evaluated on, from the middle.
    pub crop_pct: Option<f64>,
}

impl CardFile {
    /// What a user should know about [`CardFile::crop_pct`]; `None` if the model was evaluated on whole images.
    pub fn crop_note(&self) -> Option<String> {
        let crop = self.crop_pct.filter(|crop| *crop < 1.0)?;
        Some(format!(
            "{}: crop_pct {crop:.3} is not used, although the model was evaluated on the middle of images: teacher and \
             student see the same part of an image, without augmentation its whole shorter side",
            self.path.display()
        ))
    }
}

/// The range of a model's pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// 0 to 1: pixels are divided by 255.
    Unit,
    /// 0 to 255.
    Byte,
}

/// The order of a model's color channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// The order of the dimensions of a batch of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// [batch, channels, height, width]
    Nchw,
    /// [batch, height, width, channels]
    Nhwc,
}

/// What a model's output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// Values before a softmax.
    Logits,
    /// Values after a softmax. Their logarithms are logits.
    Probabilities,
}

/// Everything that the model itself does not say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Card {
    /// How samples become the model's input.
    pub samples: SampleCard,
    /// What the model's output is.
    pub output: OutputKind,
    /// In the order of the output.
    #[serde(skip)]
    pub class_names: Vec<String>,
}

/// How samples become the model's input.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleCard {
    /// u8 images.
    Images(ImageCard),
    /// f32 values of this shape, which the model takes as they are.
    Values(Vec<usize>),
}

/// How u8 images become a model's input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageCard {
    /// [channels, height, width]
    pub shape: [usize; 3],
    /// Order of the model's dimensions.
    pub layout: Layout,
    /// Order of the model's channels.
    pub channel_order: ChannelOrder,
    /// `None` if the model takes u8 pixels as they are.
    pub normalization: Option<PixelNormalization>,
    /// How trainers resize images to `shape`. The model id of a bilinear card does not name it.
    #[serde(skip_serializing_if = "is_default")]
    pub interpolation: Interpolation,
}

/// `(scale(x) - mean) / std`, per channel, in the order of the model's channels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PixelNormalization {
    /// Applied first.
    pub scale: Scale,
    /// Per channel.
    pub mean: Vec<f32>,
    /// Per channel.
    pub std: Vec<f32>,
}

impl CardConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let key = |name: &str| format!("model.preprocessing.{name}");
        if let Some(size) = self.size {
            let fits = size.iter().all(|side| (1..=16_384).contains(side));
            let found = format!("{size:?}");
            problems.require(
                fits,
                &key("size"),
                found,
                "must be two sizes from 1 to 16384",
            );
        }
        if let Some(std) = &self.std {
            let fits = std.iter().all(|std| std.is_finite() && *std > 0.0);
            let found = format!("{std:?}");
            problems.require(fits, &key("std"), found, "must be above 0");
        }
        if let Some(name) = &self.interpolation {
            let fits = name.parse::<Interpolation>().is_ok();
            let found = format!("{name:?}");
            problems.require(
                fits,
                &key("interpolation"),
                found,
                "must be \"bilinear\" or \"bicubic\"",
            );
        }
        if self.class_names.is_some() && self.class_names_file.is_some() {
            problems.add(
                key("class_names_file"),
                self.class_names_file
                    .as_deref()
                    .unwrap_or("".as_ref())
                    .display(),
                "must not be set together with model.preprocessing.class_names",
            );
        }
    }
}

impl Card {
    /// Completes the card of a model with the input `input` and `classes` outputs per sample (`None`:
    /// the model does not say) from `config` and, for what it does not set, from `files`.
    ///
    /// # Errors
    /// [`CardError`] for the first property that is missing or wrong.
    pub fn resolve(
        input: &TensorSpec,
        classes: Option<usize>,
        config: &CardConfig,
        files: &[CardFile],
    ) -> Result<Self, CardError> {
        let sources = Sources { config, files };
        let samples = match image_layout(input, &sources) {
            Some(layout) => SampleCard::Images(ImageCard::resolve(input, layout?, &sources)?),
            None => SampleCard::Values(value_shape(input, config)?),
        };
        let output = sources.require("output", |card| card.output)?;
        let class_names = sources.require("class_names", |card| card.class_names.clone())?;
        if let Some(classes) = classes
            && classes != class_names.len()
        {
            let count = class_names.len();
            let problem = format!("{count} names, but the model has {classes} classes");
            return Err(sources.wrong("class_names", |card| card.class_names.is_some(), problem));
        }
        if class_names.len() < 2 {
            let problem = "a classifier has two or more classes".to_owned();
            return Err(sources.wrong("class_names", |card| card.class_names.is_some(), problem));
        }
        Ok(Self {
            samples,
            output,
            class_names,
        })
    }

    /// For messages: the card in JSON, without the names of the classes.
    pub fn describe(&self) -> String {
        // Holds: all keys are text.
        serde_json::to_string(self).expect("it can be written as JSON")
    }

    /// How trainers resize images to the size of the input.
    pub fn interpolation(&self) -> Interpolation {
        match &self.samples {
            SampleCard::Images(images) => images.interpolation,
            SampleCard::Values(_) => Interpolation::default(),
        }
    }

    /// What the teacher's trainers must send.
    pub fn input(&self) -> TensorSpec {
        match &self.samples {
            SampleCard::Images(images) => {
                TensorSpec::batch_of("pixels", DataType::Uint8, &images.shape)
            }
            SampleCard::Values(shape) => TensorSpec::batch_of("values", DataType::Fp32, shape),
        }
    }
}

impl ImageCard {
    fn resolve(
        input: &TensorSpec,
        layout: Layout,
        sources: &Sources<'_>,
    ) -> Result<Self, CardError> {
        let [channels, height, width] = layout.image_dimensions(&input.dimensions);
        let mean = sources.get("mean", |card| card.mean.clone());
        let channels = match (channels, &mean) {
            (Dimension::Fixed(channels), _) => channels,
            (_, Some(mean)) => mean.len(),
            _ => return Err(missing("mean")),
        };
        let size = match (height, width) {
            (Dimension::Fixed(height), Dimension::Fixed(width)) => {
                let own = [height, width];
                if let Some(size) = sources.config.size.filter(|size| *size != own) {
                    let problem = format!("{size:?}, but the model takes images of {own:?}");
                    return Err(sources.wrong("size", |card| card.size.is_some(), problem));
                }
                own
            }
            _ => sources.require("size", |card| card.size)?,
        };
        let takes_bytes = input.data_type == DataType::Uint8;
        let normalization = if takes_bytes {
            sources.refuse_normalization()?;
            None
        } else {
            let scale = sources.require("scale", |card| card.scale)?;
            let mean = mean.ok_or_else(|| missing("mean"))?;
            let std = sources.require("std", |card| card.std.clone())?;
            for (key, values) in [("mean", &mean), ("std", &std)] {
                if values.len() != channels {
                    let count = values.len();
                    let problem = format!("{count} values, but the model has {channels} channels");
                    return Err(sources.wrong(key, |card| card.mean.is_some(), problem));
                }
            }
            Some(PixelNormalization { scale, mean, std })
        };
        let channel_order = if channels == 3 {
            sources.require("channel_order", |card| card.channel_order)?
        } else {
            ChannelOrder::Rgb
        };
        Ok(Self {
            shape: [channels, size[0], size[1]],
            layout,
            channel_order,
            normalization,
            interpolation: sources.interpolation()?,
        })
    }
}

impl Layout {
    /// The layout of a model with the input `input`, if one dimension only can be its channels (1 or 3).
    pub(crate) fn implied_by(input: &TensorSpec) -> Option<Self> {
        let [_, first, _, last] = input.dimensions.0[..] else {
            return None;
        };
        match (is_channels(first), is_channels(last)) {
            (true, false) => Some(Self::Nchw),
            (false, true) => Some(Self::Nhwc),
            _ => None,
        }
    }

    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Nchw => Self::Nhwc,
            Self::Nhwc => Self::Nchw,
        }
    }

    /// [channels, height, width] of a batch of images with four dimensions.
    fn image_dimensions(self, dimensions: &Dimensions) -> [Dimension; 3] {
        match (self, &dimensions.0[..]) {
            (Self::Nchw, [_, channels, height, width])
            | (Self::Nhwc, [_, height, width, channels]) => [*channels, *height, *width],
            _ => [Dimension::Open; 3],
        }
    }
}

/// Where properties come from, the first that knows one wins.
struct Sources<'s> {
    config: &'s CardConfig,
    files: &'s [CardFile],
}

impl Sources<'_> {
    fn get<T: std::fmt::Debug>(
        &self,
        key: &'static str,
        read: impl Fn(&CardConfig) -> Option<T>,
    ) -> Option<T> {
        if let Some(value) = read(self.config) {
            return Some(value);
        }
        let (value, file) = self
            .files
            .iter()
            .find_map(|file| Some((read(&file.card)?, &file.path)))?;
        let mut shown = format!("{value:?}");
        if shown.len() > 100 {
            shown = shown.chars().take(100).chain("…".chars()).collect();
        }
        info!(key, value = shown, file = %file.display(), "preprocessing is taken from a file");
        Some(value)
    }

    fn require<T: std::fmt::Debug>(
        &self,
        key: &'static str,
        read: impl Fn(&CardConfig) -> Option<T>,
    ) -> Result<T, CardError> {
        self.get(key, read).ok_or_else(|| missing(key))
    }

    fn interpolation(&self) -> Result<Interpolation, CardError> {
        let Some(name) = self.get("interpolation", |card| card.interpolation.clone()) else {
            return Ok(Interpolation::default());
        };
        name.parse().map_err(|error: UnknownInterpolation| {
            let problem = format!("{error}; set the one that the model is to be used with");
            self.wrong(
                "interpolation",
                |card| card.interpolation.is_some(),
                problem,
            )
        })
    }

    /// The error about the value of `key` that `knows` finds in one of the sources.
    fn wrong(
        &self,
        key: &'static str,
        knows: impl Fn(&CardConfig) -> bool,
        problem: String,
    ) -> CardError {
        let in_config = knows(self.config);
        let file = self.files.iter().find(|file| knows(&file.card));
        CardError::Wrong {
            key,
            from: file
                .filter(|_| !in_config)
                .map(|file| file.path.display().to_string()),
            problem,
        }
    }

    /// A model of u8 pixels normalizes them itself, so that keys for it show a misunderstanding.
    fn refuse_normalization(&self) -> Result<(), CardError> {
        let card = self.config;
        let set = [
            ("mean", card.mean.is_some()),
            ("std", card.std.is_some()),
            ("scale", card.scale == Some(Scale::Unit)),
        ];
        match set.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(CardError::Wrong {
                key,
                from: None,
                problem: "the model takes u8 pixels and normalizes them itself".to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// The layout of a model of images; `None` if the input is no image: it has other than four dimensions,
/// or no dimension that can be 1 or 3 channels.
fn image_layout(input: &TensorSpec, sources: &Sources<'_>) -> Option<Result<Layout, CardError>> {
    let [_, first, _, last] = input.dimensions.0[..] else {
        return None;
    };
    if let Some(layout) = sources.config.layout {
        return Some(Ok(layout));
    }
    let both_open = [first, last] == [Dimension::Open; 2];
    match Layout::implied_by(input) {
        Some(layout) => Some(Ok(layout)),
        None if is_channels(first) || both_open => {
            Some(sources.require("layout", |card| card.layout))
        }
        None => None,
    }
}

fn is_channels(dimension: Dimension) -> bool {
    matches!(dimension, Dimension::Fixed(1 | 3))
}

/// The shape of one sample of a model that takes values.
fn value_shape(input: &TensorSpec, config: &CardConfig) -> Result<Vec<usize>, CardError> {
    let for_images = [
        ("size", config.size.is_some()),
        ("scale", config.scale.is_some()),
        ("mean", config.mean.is_some()),
        ("std", config.std.is_some()),
        ("channel_order", config.channel_order.is_some()),
        ("layout", config.layout.is_some()),
        ("interpolation", config.interpolation.is_some()),
    ];
    let wrong = |key, problem| CardError::Wrong {
        key,
        from: None,
        problem,
    };
    if let Some((key, _)) = for_images.into_iter().find(|(_, is_set)| *is_set) {
        let problem = format!("is for images, but the model takes {input}");
        return Err(wrong(key, problem));
    }
    let sample = input.dimensions.0.iter().skip(1);
    let shape: Option<Vec<_>> = sample.map(|dimension| dimension.fixed()).collect();
    let shape = shape.filter(|shape| !shape.is_empty());
    shape.ok_or_else(|| {
        let problem = format!(
            "the model takes {input}; only the batch may be open: export it with a fixed shape"
        );
        wrong("size", problem)
    })
}

#[cfg(test)]
mod tests;
