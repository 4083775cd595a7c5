//! Predicts images or rows of numbers with a model that an inference service serves.
//!
//! ```text
//! cargo run --release -p inference-service --example predict -- \
//!     --url 127.0.0.1:8001 --model fashion-mnist --artifact runs/demo/student/artifact
//! ```

use std::{fs, path::PathBuf};

use anyhow::{Context, ensure};
use artifacts::manifest::{ArtifactManifest, ImageInput};
use clap::Parser;
use datasets::Normalization;
use retort_client::{Client, ClientOptions, InferRequest, Tensor};
use server::security::client::CredentialArguments;

/// Predicts images or rows of numbers with a model that an inference service serves.
#[derive(Parser)]
struct Arguments {
    /// host:port of the service.
    #[arg(long, default_value = "127.0.0.1:8001")]
    url: String,
    /// Name of the published model.
    #[arg(long)]
    model: String,
    /// Folder with the published manifest.json.
    #[arg(long, value_name = "DIR")]
    artifact: PathBuf,
    /// An IDX file of u8 images instead of the manifest's golden batch.
    #[arg(long, value_name = "FILE")]
    images: Option<PathBuf>,
    /// Number of images from FILE.
    #[arg(long, default_value_t = 8)]
    count: usize,
    #[command(flatten)]
    credentials: CredentialArguments,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let path = arguments.artifact.join("manifest.json");
    let json = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest = ArtifactManifest::from_json(&json)?;
    let (kind, values) = read_samples(&arguments, &manifest)?;

    let options = ClientOptions {
        credentials: arguments.credentials.credentials()?,
        ..ClientOptions::default()
    };
    let client = Client::new(&arguments.url, options)?;
    let request = InferRequest {
        model: arguments.model,
        inputs: vec![input(&values, &manifest)?],
        ..InferRequest::default()
    };
    let response = client.infer(&request).await?;

    println!("{}, version {}", response.model, response.version);
    let logits = response.outputs.first();
    let logits: Vec<f32> = logits.context("the answer has no output")?.values()?;
    for (index, row) in logits.chunks(manifest.class_names.len()).enumerate() {
        let (class, probability) = most_probable(row);
        let name = &manifest.class_names[class];
        println!("{kind} {index}: {name} ({:.1}%)", probability * 100.0);
    }
    Ok(())
}

/// What the samples are, and the model's input.
fn read_samples(
    arguments: &Arguments,
    manifest: &ArtifactManifest,
) -> anyhow::Result<(&'static str, Vec<f32>)> {
    let Some(input) = manifest.images() else {
        let rows = manifest.golden_batch.f32_values();
        ensure!(
            arguments.images.is_none(),
            "--images: the model takes rows of numbers"
        );
        return Ok(("row", rows.context("the golden batch holds no rows")?));
    };
    let pixels = read_pixels(arguments, input, manifest)?;
    let normalization = Normalization {
        mean: input.preprocessing.mean.clone(),
        std: input.preprocessing.std.clone(),
    };
    let [_, height, width] = input.shape;
    let mut values = Vec::new();
    normalization.apply(&pixels, height * width, &mut values);
    Ok(("image", values))
}

/// u8 [images, channels, height, width]
fn read_pixels(
    arguments: &Arguments,
    input: ImageInput<'_>,
    manifest: &ArtifactManifest,
) -> anyhow::Result<Vec<u8>> {
    const IDX_HEADER: usize = 16;
    const IDX_MAGIC: [u8; 4] = [0, 0, 8, 3];
    let Some(path) = &arguments.images else {
        return Ok(manifest.golden_batch.samples.clone());
    };
    let idx = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let is_idx = idx.len() > IDX_HEADER && idx.starts_with(&IDX_MAGIC);
    ensure!(is_idx, "{} is not an IDX file of u8 images", path.display());
    let bytes = arguments.count * input.shape.iter().product::<usize>();
    Ok(idx[IDX_HEADER..].iter().copied().take(bytes).collect())
}

/// The samples as the model's input.
fn input(values: &[f32], manifest: &ArtifactManifest) -> anyhow::Result<Tensor> {
    let input = manifest.input();
    let sample = input.dimensions.sample_shape();
    let sample = sample.context("the model's input has no fixed shape")?;
    let samples = values.len() / sample.iter().product::<usize>();
    let shape: Vec<usize> = [samples].into_iter().chain(sample).collect();
    Ok(Tensor::new(&input.name, &shape, values)?)
}

/// The class with the largest logit, and its probability.
fn most_probable(logits: &[f32]) -> (usize, f32) {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    let (class, largest) = best.map_or((0, 0.0), |(class, logit)| (class, *logit));
    let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    (class, 1.0 / sum)
}
