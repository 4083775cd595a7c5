//! Requests whose samples are known, and what a run reads of the captured ones.

use std::path::Path;

use datasets::{DataSpec, Sample, Shares, Source};
use proto::inference::ModelInferRequest;

use super::{MODEL, infer_request, normalized};

/// Pixels of an image of [`MODEL`].
pub const PIXELS: usize = 64;

/// The normalization of `Artifact::new`.
const NORMALIZATION: (f32, f32) = (0.25, 0.5);

/// A request for the images in `pixels`, normalized as the model's clients do.
pub fn image_request(pixels: &[u8]) -> ModelInferRequest {
    let bytes: Vec<u8> = normalized(pixels, NORMALIZATION)
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    ModelInferRequest {
        raw_input_contents: vec![bytes.into()],
        ..infer_request(pixels.len() / PIXELS).0
    }
}

/// Images that differ in every pixel from one to the next.
pub fn distinct_images(first: u8, count: usize) -> Vec<u8> {
    let image = |at: usize| (0..PIXELS).map(move |pixel| first + at as u8 + 3 * pixel as u8 / 2);
    (0..count).flat_map(image).collect()
}

/// The samples that a run would read, one after another.
pub fn read_captured(folder: &Path) -> Vec<u8> {
    let mut spec = DataSpec::new(folder.join(MODEL).join("1x8x8"));
    spec.shares = Shares {
        validation: 0.0,
        test: 0.0,
        seed: 0,
    };
    let data = datasets::open(&spec, &|_| ()).expect("it is a data set");
    let samples = (0..data.train.len() as u32).flat_map(|sample| pixels(&*data.train, sample));
    samples.collect()
}

fn pixels(source: &dyn Source, sample: u32) -> Vec<u8> {
    assert_eq!(source.label(sample), None);
    match source.read(sample).expect("it can be read") {
        Sample::Image(picture) => picture.pixels.to_vec(),
        Sample::Row(_) => panic!("the samples are images"),
    }
}
