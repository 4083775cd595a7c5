//! Predicts images with a model that an inference service serves.
//!
//! ```text
//! cargo run --release -p inference-service --example predict -- \
//!     --url 127.0.0.1:8001 --model fashion-mnist --artifact runs/demo/student/artifact
//! ```

use std::{fs, path::PathBuf};

use anyhow::{Context, ensure};
use artifacts::manifest::ArtifactManifest;
use clap::Parser;
use datasets::Normalization;
use proto::inference::{
    ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    model_infer_request::InferInputTensor,
};
use server::security::client::CredentialArguments;

/// Predicts images with a model that an inference service serves.
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
    let pixels = read_images(&arguments, &manifest)?;

    let credentials = arguments.credentials.credentials()?;
    let channel = credentials.connect(&arguments.url).await?;
    let mut client = GrpcInferenceServiceClient::new(channel);
    let request = request(&arguments.model, &pixels, &manifest);
    let response = client.model_infer(request).await?.into_inner();

    println!(
        "{}, version {}",
        response.model_name, response.model_version
    );
    let (logits, _) = response.raw_output_contents[0].as_chunks();
    let logits: Vec<f32> = logits
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    for (index, row) in logits.chunks(manifest.class_names.len()).enumerate() {
        let (class, probability) = most_probable(row);
        let name = &manifest.class_names[class];
        println!("image {index}: {name} ({:.1}%)", probability * 100.0);
    }
    Ok(())
}

/// u8 [images, channels, height, width]
fn read_images(arguments: &Arguments, manifest: &ArtifactManifest) -> anyhow::Result<Vec<u8>> {
    const IDX_HEADER: usize = 16;
    const IDX_MAGIC: [u8; 4] = [0, 0, 8, 3];
    let Some(path) = &arguments.images else {
        return Ok(manifest.golden_batch.images.clone());
    };
    let idx = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let is_idx = idx.len() > IDX_HEADER && idx.starts_with(&IDX_MAGIC);
    ensure!(is_idx, "{} is not an IDX file of u8 images", path.display());
    let bytes = arguments.count * manifest.input_shape.iter().product::<usize>();
    Ok(idx[IDX_HEADER..].iter().copied().take(bytes).collect())
}

fn request(model: &str, pixels: &[u8], manifest: &ArtifactManifest) -> ModelInferRequest {
    let [channels, height, width] = manifest.input_shape;
    let normalization = Normalization {
        mean: manifest.preprocessing.mean.clone(),
        std: manifest.preprocessing.std.clone(),
    };
    let mut values = Vec::new();
    normalization.apply(pixels, height * width, &mut values);
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let images = pixels.len() / (channels * height * width);
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![InferInputTensor {
            name: "input".to_owned(),
            datatype: "FP32".to_owned(),
            shape: [images, channels, height, width]
                .map(|size| size as i64)
                .to_vec(),
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![bytes.into()],
        ..ModelInferRequest::default()
    }
}

/// The class with the largest logit, and its probability.
fn most_probable(logits: &[f32]) -> (usize, f32) {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    let (class, largest) = best.map_or((0, 0.0), |(class, logit)| (class, *logit));
    let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    (class, 1.0 / sum)
}
