//! `retort predict`: classifies images or rows of numbers with an inference service.

use std::path::{Path, PathBuf};

use artifacts::manifest::ArtifactManifest;
use clap::{Args, ValueEnum};
use common::{os_text, output::Results};
use datasets::{Source, Split};
use server::security::client::CredentialArguments;

use crate::{
    CliError,
    client::Remote,
    drawing::{Example, draw_example, screen_ink},
    image_files,
    inference::{ModelDescription, ServedModel, preprocess},
    table_files,
};

const EXAMPLES: &str = "\
Examples:
  retort predict --model fashion-mnist --index 0,1,2
  retort predict --model fashion-mnist shoe.png bag.jpg coat.webp
  retort predict --model tumours patients.csv
  retort predict --url 127.0.0.1:8001 --model fashion-mnist --split train
  retort predict --model fashion-mnist --manifest runs/demo/student/artifact/manifest.json

The service preprocesses PNG, JPEG and WebP files as the model's manifest specifies. A CSV file has the columns of
the table that the model was trained on, in the same order, with or without the labels; each of its rows gives one
line of JSON. For images of a data set, this command normalizes the pixels; it reads the normalization and the class
names from the parameters of the model's configuration, or from a manifest.";

/// Classifies PNG, JPEG and WebP files, the rows of CSV files, or images of an IDX data set, which are drawn.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PredictArguments {
    /// PNG, JPEG or WebP files, or tables (.csv), instead of images of a data set.
    #[arg(value_name = "FILE", conflicts_with_all = ["manifest", "idx", "split", "index"])]
    files: Vec<PathBuf>,
    /// Column of the tables that holds the labels [default: found by its usual names].
    #[arg(long, value_name = "COLUMN", requires = "files")]
    label_column: Option<String>,
    /// Number of classes to print per file or row.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    top: u32,
    /// host:port of the inference service's gRPC port.
    #[arg(
        long,
        value_parser = os_text::argument(),
        env = "RETORT_INFERENCE_ADDRESS",
        default_value = "127.0.0.1:8001"
    )]
    url: String,
    /// Name of the model.
    #[arg(long)]
    model: String,
    /// Version of the model [default: the active one].
    #[arg(long)]
    version: Option<u64>,
    /// The model's manifest.json, for a server that does not send class names and normalization.
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// Folder of the data set: IDX files as of MNIST.
    #[arg(long, value_name = "FOLDER", default_value = ".deps/fashion-mnist")]
    idx: PathBuf,
    /// Split of the data set.
    #[arg(long, value_enum, default_value_t = SplitArgument::Test)]
    split: SplitArgument,
    /// Indices of images in the split, from 0.
    #[arg(long, value_delimiter = ',', default_value = "0,1,2")]
    index: Vec<usize>,
    #[command(flatten)]
    credentials: CredentialArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SplitArgument {
    Train,
    Test,
}

impl From<SplitArgument> for Split {
    fn from(split: SplitArgument) -> Self {
        match split {
            SplitArgument::Train => Self::Train,
            SplitArgument::Test => Self::Test,
        }
    }
}

/// `retort predict`.
pub(crate) async fn execute(arguments: PredictArguments) -> Result<(), CliError> {
    let remote = Remote::inference(&arguments.url).with(&arguments.credentials)?;
    if !arguments.files.is_empty() {
        return predict_files(remote, &arguments).await;
    }
    let model = ServedModel::connect(remote, &arguments.model, arguments.version).await?;
    let description = match &arguments.manifest {
        Some(path) => {
            let json = std::fs::read(path).map_err(CliError::file(path))?;
            ModelDescription::from(ArtifactManifest::from_json(&json)?)
        }
        None => model.description().await?,
    };
    let split = arguments.split.into();
    let images = datasets::load_idx(&arguments.idx, split, &description.class_names)?;
    if let Some(index) = arguments.index.iter().find(|index| **index >= images.len()) {
        let count = images.len();
        let message = format!("--index {index}: the split has {count} images, numbered from 0");
        return Err(CliError::Usage(message));
    }
    if model.shape() != images.shape() {
        return Err(CliError::Usage(format!(
            "model `{}` takes samples of shape {:?}, but the images of {} have {:?}",
            arguments.model,
            model.shape(),
            arguments.idx.display(),
            images.shape(),
        )));
    }
    let preprocessing = description.of_images()?;
    let ink = screen_ink();
    for index in arguments.index {
        let pixels = images.image(index);
        let logits = model.infer(&preprocess(pixels, preprocessing)).await?;
        let example = Example {
            index,
            pixels,
            shape: images.shape(),
            // Holds: IDX files label every image.
            label: images.label(index as u32).unwrap_or_default() as usize,
            logits: &logits,
            class_names: &description.class_names,
        };
        writeln!(Results, "{}", draw_example(&example, ink))?;
    }
    Ok(())
}

/// Predicts tables if all files are, otherwise images.
async fn predict_files(remote: Remote, arguments: &PredictArguments) -> Result<(), CliError> {
    let PredictArguments {
        model,
        version,
        files,
        top,
        ..
    } = arguments;
    match files.iter().filter(|file| is_table(file)).count() {
        0 => {
            let request = image_files::Request {
                model,
                version: *version,
                files,
                top: *top,
            };
            image_files::classify(&remote, request).await
        }
        tables if tables == files.len() => {
            let request = table_files::Request {
                model,
                version: *version,
                files,
                label_column: arguments.label_column.as_deref(),
                top: *top as usize,
            };
            table_files::predict(remote, request).await
        }
        _ => {
            let message = "give either images or tables (.csv): a model takes one of both";
            Err(CliError::Usage(message.to_owned()))
        }
    }
}

fn is_table(file: &Path) -> bool {
    let extension = file.extension();
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}
