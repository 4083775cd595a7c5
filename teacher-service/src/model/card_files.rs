//! The files with which timm and Hugging Face describe a model's preprocessing.

use std::{
    io,
    path::{Path, PathBuf},
};

use common::folders;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::card::{CardConfig, CardFile, ChannelOrder, OutputKind, Scale};

/// Files that are read, beside the model, in this order.
const NAMES: [&str; 2] = ["preprocessor_config.json", "config.json"];

/// A file beside the model that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CardFileError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content is wrong.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Reads the known files in the folder of the model file `model`.
///
/// # Errors
/// [`CardFileError`] if a file exists but cannot be used.
pub fn read_beside(model: &Path) -> Result<Vec<CardFile>, CardFileError> {
    let mut files = Vec::new();
    for name in NAMES {
        let path = model.with_file_name(name);
        let bytes = match folders::read(&path) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(CardFileError::Unreadable { path, source }),
        };
        match read_json(&bytes) {
            Ok(Content { card, crop_pct }) => files.push(CardFile {
                path,
                card,
                crop_pct,
            }),
            Err(problem) => return Err(CardFileError::Invalid { path, problem }),
        }
    }
    Ok(files)
}

/// Reads a file with one class name per line; empty lines at the end do not count.
///
/// # Errors
/// [`CardFileError`] if the file cannot be read, or is not UTF-8.
pub fn read_class_names(path: &Path) -> Result<Vec<String>, CardFileError> {
    let own = || path.to_owned();
    let bytes = folders::read(path).map_err(|source| CardFileError::Unreadable {
        path: own(),
        source,
    })?;
    let text = String::from_utf8(bytes).map_err(|_| CardFileError::Invalid {
        path: own(),
        problem: "it is not UTF-8".to_owned(),
    })?;
    let names = text.trim_end().lines();
    Ok(names.map(|name| name.trim().to_owned()).collect())
}

/// What a file says.
#[derive(Default)]
struct Content {
    card: CardConfig,
    crop_pct: Option<f64>,
}

fn read_json(bytes: &[u8]) -> Result<Content, String> {
    let document: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let has = |key: &str| document.contains_key(key);
    if has("pretrained_cfg") {
        read::<TimmFile>(document).map(TimmFile::content)
    } else if has("input_size") && has("mean") {
        read::<TimmConfig>(document).map(TimmConfig::content)
    } else if has("image_mean") || has("image_processor_type") || has("feature_extractor_type") {
        read::<ImageProcessor>(document).map(ImageProcessor::content)
    } else if has("id2label") {
        let card = read::<TransformersConfig>(document)?.card()?;
        Ok(Content {
            card,
            crop_pct: None,
        })
    } else {
        Ok(Content::default())
    }
}

fn read<T: for<'de> Deserialize<'de>>(document: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(document)).map_err(|error| error.to_string())
}

/// timm's `config.json` on Hugging Face.
#[derive(Deserialize)]
struct TimmFile {
    pretrained_cfg: TimmConfig,
    label_names: Option<Vec<String>>,
}

/// `pretrained_cfg` of a timm model (`timm/models/_pretrained.py`). Models of timm take RGB pixels from 0
/// to 1 and give logits.
#[derive(Deserialize)]
struct TimmConfig {
    /// [channels, height, width]
    input_size: Option<[usize; 3]>,
    mean: Option<Vec<f32>>,
    std: Option<Vec<f32>>,
    interpolation: Option<String>,
    crop_pct: Option<f64>,
    label_names: Option<Vec<String>>,
}

impl TimmFile {
    fn content(self) -> Content {
        let mut content = self.pretrained_cfg.content();
        let own = content.card.class_names;
        content.card.class_names = self.label_names.or(own);
        content
    }
}

impl TimmConfig {
    fn content(self) -> Content {
        let card = CardConfig {
            size: self.input_size.map(|[_, height, width]| [height, width]),
            scale: Some(Scale::Unit),
            mean: self.mean,
            std: self.std,
            channel_order: Some(ChannelOrder::Rgb),
            interpolation: self.interpolation,
            output: Some(OutputKind::Logits),
            class_names: self.label_names,
            ..CardConfig::default()
        };
        Content {
            card,
            crop_pct: self.crop_pct,
        }
    }
}

/// `preprocessor_config.json` of an image processor of transformers, which gives RGB pixels.
#[derive(Deserialize)]
struct ImageProcessor {
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<Vec<f32>>,
    image_std: Option<Vec<f32>>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    size: Option<Size>,
    do_resize: Option<bool>,
    /// A number of Pillow's `Resampling`.
    resample: Option<Value>,
    crop_pct: Option<f64>,
}

/// One number, or a table.
#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum Size {
    Sides { height: usize, width: usize },
    ShortestEdge { shortest_edge: usize },
    Side(usize),
}

impl Size {
    fn sides(self) -> [usize; 2] {
        match self {
            Self::Sides { height, width } => [height, width],
            Self::ShortestEdge {
                shortest_edge: side,
            }
            | Self::Side(side) => [side, side],
        }
    }
}

impl ImageProcessor {
    fn content(self) -> Content {
        let crops = self.do_center_crop != Some(false);
        let resizes = self.do_resize != Some(false);
        let crop = self.crop_size.filter(|_| crops);
        let size = crop.or(self.size);
        let height = |size: Size| size.sides()[0] as f64;
        let of_sizes = crop.zip(self.size.filter(|_| resizes));
        let of_sizes = of_sizes.map(|(crop, size)| height(crop) / height(size));
        let resample = self.resample.filter(|_| resizes);
        let normalizes = self.do_normalize != Some(false);
        let channels = self.image_mean.as_ref().map_or(3, Vec::len);
        let scale = match (self.do_rescale, self.rescale_factor) {
            (Some(false), _) => Some(Scale::Byte),
            (_, None) => Some(Scale::Unit),
            (_, Some(factor)) if (factor * 255.0 - 1.0).abs() < 1e-3 => Some(Scale::Unit),
            (_, Some(1.0)) => Some(Scale::Byte),
            // For example 1/127.5: the user must combine it with mean and std.
            _ => None,
        };
        let (mean, std) = if normalizes {
            (self.image_mean, self.image_std)
        } else {
            (Some(vec![0.0; channels]), Some(vec![1.0; channels]))
        };
        let card = CardConfig {
            size: size.map(Size::sides),
            scale,
            mean,
            std,
            channel_order: Some(ChannelOrder::Rgb),
            interpolation: resample.as_ref().map(resampling_name),
            ..CardConfig::default()
        };
        Content {
            card,
            crop_pct: self.crop_pct.or(of_sizes),
        }
    }
}

/// The name of a member of Pillow's `Resampling`.
fn resampling_name(resample: &Value) -> String {
    const NAMES: [&str; 6] = [
        "nearest", "lanczos", "bilinear", "bicubic", "box", "hamming",
    ];
    let number = resample
        .as_u64()
        .and_then(|number| usize::try_from(number).ok());
    match (number.and_then(|number| NAMES.get(number)), resample) {
        (Some(name), _) => (*name).to_owned(),
        (None, Value::String(name)) => name.clone(),
        (None, other) => other.to_string(),
    }
}

/// `config.json` of a classifier of transformers, which gives logits.
#[derive(Deserialize)]
struct TransformersConfig {
    id2label: Map<String, Value>,
}

impl TransformersConfig {
    fn card(self) -> Result<CardConfig, String> {
        let count = self.id2label.len();
        let name = |position: usize| match self.id2label.get(&position.to_string()) {
            Some(Value::String(name)) => Ok(name.clone()),
            _ => Err(format!(
                "id2label has {count} entries, but none for class {position}"
            )),
        };
        Ok(CardConfig {
            output: Some(OutputKind::Logits),
            class_names: Some((0..count).map(name).collect::<Result<_, _>>()?),
            ..CardConfig::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// From timm/resnet18.a1_in1k on Hugging Face, shortened.
    const TIMM: &str = r#"{"architecture": "resnet18", "num_classes": 3, "label_names": ["a", "b", "c"],
        "pretrained_cfg": {"tag": "a1_in1k", "input_size": [3, 224, 224], "fixed_input_size": false,
        "interpolation": "bicubic", "crop_pct": 0.95, "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225], "num_classes": 3, "pool_size": [7, 7]}}"#;

    /// From google/vit-base-patch16-224 on Hugging Face.
    const VIT: &str = r#"{"do_normalize": true, "do_rescale": true, "do_resize": true,
        "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "ViTFeatureExtractor",
        "image_std": [0.5, 0.5, 0.5], "resample": 2, "rescale_factor": 0.00392156862745098,
        "size": {"height": 224, "width": 224}}"#;

    /// From microsoft/resnet-50 on Hugging Face.
    const CONVNEXT: &str = r#"{"crop_pct": 0.875, "do_normalize": true, "do_resize": true,
        "feature_extractor_type": "ConvNextFeatureExtractor", "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225], "resample": 3, "size": 224}"#;

    fn beside(files: &[(&str, &str)]) -> Result<Vec<CardFile>, CardFileError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        read_beside(&folder.path().join("model.onnx"))
    }

    #[test]
    fn timm_describes_pixels_and_classes() {
        let files = beside(&[("config.json", TIMM)]).unwrap();
        let card = &files[0].card;
        assert_eq!(card.size, Some([224, 224]));
        assert_eq!(card.scale, Some(Scale::Unit));
        assert_eq!(card.mean, Some(vec![0.485, 0.456, 0.406]));
        assert_eq!(card.output, Some(OutputKind::Logits));
        assert_eq!(card.class_names.as_ref().unwrap().len(), 3);
        assert_eq!(card.interpolation.as_deref(), Some("bicubic"));
        let note = files[0].crop_note().unwrap();
        assert!(
            note.contains("config.json") && note.contains("crop_pct 0.950"),
            "{note}"
        );
    }

    #[test]
    fn hugging_face_describes_pixels_in_one_file_and_classes_in_another() {
        let config = r#"{"id2label": {"1": "dog", "0": "cat"}, "model_type": "vit"}"#;
        let files = beside(&[("config.json", config), ("preprocessor_config.json", VIT)]).unwrap();
        let [pixels, classes] = &files[..] else {
            panic!("{files:?}");
        };
        assert_eq!(pixels.card.scale, Some(Scale::Unit));
        assert_eq!(pixels.card.size, Some([224, 224]));
        assert_eq!(pixels.card.output, None);
        assert_eq!(pixels.card.interpolation.as_deref(), Some("bilinear"));
        assert_eq!(pixels.crop_note(), None);
        let names = classes.card.class_names.as_ref().unwrap();
        assert_eq!(names, &["cat", "dog"]);
        let files = beside(&[("preprocessor_config.json", CONVNEXT)]).unwrap();
        assert_eq!(files[0].card.size, Some([224, 224]));
        assert_eq!(files[0].card.interpolation.as_deref(), Some("bicubic"));
        assert_eq!(files[0].crop_pct, Some(0.875));
    }

    #[test]
    fn a_resize_is_read_with_its_crop() {
        for (settings, interpolation, crop_pct) in [
            (
                r#""resample": 3, "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}"#,
                Some("bicubic"),
                Some(0.875),
            ),
            (
                r#""resample": 1, "size": 256, "crop_size": 224, "do_center_crop": false"#,
                Some("lanczos"),
                None,
            ),
            (
                r#""resample": 0, "size": 256, "crop_size": 224, "do_resize": false"#,
                None,
                None,
            ),
            (r#""resample": 9"#, Some("9"), None),
            (r#""resample": "box""#, Some("box"), None),
            (r#""resample": null"#, None, None),
        ] {
            let text = format!(r#"{{"image_mean": [0.5], "image_std": [0.5], {settings}}}"#);
            let files = beside(&[("preprocessor_config.json", &text)]).unwrap();
            let found = (files[0].card.interpolation.as_deref(), files[0].crop_pct);
            assert_eq!(found, (interpolation, crop_pct), "{settings}");
        }
    }

    #[test]
    fn unusual_scales_are_not_guessed() {
        for (settings, scale) in [
            (r#""do_rescale": false"#, Some(Scale::Byte)),
            (r#""rescale_factor": 0.00784313725490196"#, None),
            (r#""rescale_factor": 1"#, Some(Scale::Byte)),
        ] {
            let text = format!(r#"{{"image_mean": [0.5], "image_std": [0.5], {settings}}}"#);
            let files = beside(&[("preprocessor_config.json", &text)]).unwrap();
            assert_eq!(files[0].card.scale, scale, "{settings}");
        }
    }

    #[test]
    fn damaged_files_are_named() {
        for (text, named) in [
            ("{", "config.json: EOF"),
            (r#"{"id2label": {"0": "a", "2": "b"}}"#, "none for class 1"),
            (r#"{"pretrained_cfg": {"mean": "x"}}"#, "invalid type"),
        ] {
            let error = beside(&[("config.json", text)]).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert_eq!(beside(&[]).unwrap(), []);
        let other = beside(&[("config.json", r#"{"unrelated": 1}"#)]).unwrap();
        assert_eq!(other[0].card, CardConfig::default());
    }
}
