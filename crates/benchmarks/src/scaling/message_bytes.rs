//! Part `bytes`: bytes per sample in the messages of trainer and teacher, and in recordings.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result};
use bytes::Bytes;
use datasets::View;
use proto::teacher::v1::{
    Batch, DataType, StreamSoftTargetsRequest, Tensor, batch::Input,
    stream_soft_targets_request::Message as Request,
};
use serde::{Deserialize, Serialize};
use soft_targets::{
    DrawSeeds, Encoder, Encoding, SampleReferences, Sampling, SoftTargets, ValueType,
};

use crate::{
    answer_bytes::{on_disk, on_the_wire, with_prefix},
    streaming::BATCH_SIZE,
};

/// The encoding of the figures that other parts take.
const USUAL: Encoding = Encoding::F16;
const ENCODINGS: [Encoding; 5] = [Encoding::F32, USUAL, top_k(8), top_k(50), SAMPLED];
const SAMPLED: Encoding = Encoding::Sampled(Sampling {
    draws: 50,
    temperature: 1,
});
/// Numbers of classes of Fashion-MNIST and ImageNet-1k.
const CLASSES: [usize; 2] = [10, 1_000];
/// Their images: channels, height, width.
const SHAPES: [[usize; 3]; 2] = [[1, 28, 28], [3, 224, 224]];
/// As of a batch in the middle of a run.
const BATCH_ID: u64 = 1_000;
const VIEW: View = View::Fixed { seed: 1, view: 0 };

const fn top_k(k: u32) -> Encoding {
    let values = ValueType::F16;
    Encoding::TopK { k, values }
}

/// Bytes per sample, counted in encoded messages of a batch of 128 samples, with gRPC's prefix and without HTTP/2's frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ByteFigures {
    /// The trainer's request with pixels, by shape of the image.
    pixels: BTreeMap<String, f64>,
    /// The trainer's request with references to data that the teacher has.
    pub reference: f64,
    /// What a sampled encoding adds to the request.
    draw_seeds: f64,
    /// The teacher's answer, by encoding and number of classes.
    answer: BTreeMap<String, BTreeMap<usize, f64>>,
    /// A recording without its files' headers, by encoding and number of classes.
    recorded: BTreeMap<String, BTreeMap<usize, f64>>,
}

/// Bytes per sample of images of one kind in f16.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SampleBytes {
    /// Channels, height and width.
    pub shape: String,
    pub classes: usize,
    /// In the trainer's request.
    pub pixels: f64,
    /// In the teacher's answer.
    pub answer: f64,
    pub recorded: f64,
}

impl ByteFigures {
    /// Encodes one batch in each way.
    ///
    /// # Errors
    /// If zeros cannot be encoded.
    pub(super) fn count() -> Result<Self> {
        let (mut answer, mut recorded) = (BTreeMap::new(), BTreeMap::new());
        for encoding in ENCODINGS {
            let (mut sent, mut stored) = (BTreeMap::new(), BTreeMap::new());
            for classes in CLASSES {
                let targets = zeros(encoding, classes)?;
                sent.insert(classes, per_sample(on_the_wire(&targets)));
                stored.insert(classes, per_sample(on_disk(&targets)));
            }
            answer.insert(encoding.to_string(), sent);
            recorded.insert(encoding.to_string(), stored);
        }
        let pixels = SHAPES.map(|shape| (name(shape), request(pixels(shape), Bytes::new())));
        let references =
            SampleReferences::of(VIEW, positions()).context("a view has references")?;
        let references = || Input::References(references.to_wire());
        let reference = request(references(), Bytes::new());
        let seeds = DrawSeeds::of(SAMPLED, VIEW, positions());
        Ok(Self {
            pixels: BTreeMap::from(pixels),
            reference,
            draw_seeds: request(references(), seeds.to_wire()) - reference,
            answer,
            recorded,
        })
    }

    /// The figures in f16 of the images of Fashion-MNIST and of ImageNet-1k, in this order.
    ///
    /// # Errors
    /// If they come from a file that lacks one.
    pub(super) fn of_images(&self) -> Result<[SampleBytes; 2]> {
        let of = |shape: [usize; 3], classes: usize| -> Result<SampleBytes> {
            let shape = name(shape);
            let encoded = |figures: &BTreeMap<String, BTreeMap<usize, f64>>| {
                let figure = figures.get(&USUAL.to_string())?.get(&classes);
                figure.copied()
            };
            let missing = || format!("the bytes of {shape} with {classes} classes are missing");
            Ok(SampleBytes {
                pixels: *self.pixels.get(&shape).with_context(missing)?,
                answer: encoded(&self.answer).with_context(missing)?,
                recorded: encoded(&self.recorded).with_context(missing)?,
                shape,
                classes,
            })
        };
        Ok([of(SHAPES[0], CLASSES[0])?, of(SHAPES[1], CLASSES[1])?])
    }
}

/// The answer to a batch of zeros.
fn zeros(encoding: Encoding, classes: usize) -> Result<SoftTargets> {
    let seeds = DrawSeeds::of(encoding, VIEW, positions());
    let logits = vec![0.0; BATCH_SIZE * classes];
    Ok(Encoder::default().encode_with_seeds(encoding, &logits, classes, &seeds)?)
}

fn positions() -> impl Iterator<Item = u32> {
    0..BATCH_SIZE as u32
}

fn name([channels, height, width]: [usize; 3]) -> String {
    format!("{channels}x{height}x{width}")
}

fn pixels([channels, height, width]: [usize; 3]) -> Input {
    let shape = [BATCH_SIZE, channels, height, width];
    Input::Tensor(Tensor {
        data_type: DataType::U8.into(),
        shape: shape.map(|size| size as u64).to_vec(),
        data: vec![0; shape.iter().product()].into(),
    })
}

/// Bytes per sample of the trainer's request.
fn request(input: Input, draw_seeds: Bytes) -> f64 {
    let message = Request::Batch(Batch {
        id: BATCH_ID,
        input: Some(input),
        draw_seeds,
    });
    per_sample(with_prefix(&StreamSoftTargetsRequest {
        message: Some(message),
    }))
}

fn per_sample(bytes: usize) -> f64 {
    bytes as f64 / BATCH_SIZE as f64
}

impl fmt::Display for ByteFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bytes per sample, in batches of {BATCH_SIZE}")?;
        for (shape, bytes) in &self.pixels {
            writeln!(f, "  request, pixels of {shape:<9} {bytes:.1}")?;
        }
        writeln!(f, "  request, by reference         {:.1}", self.reference)?;
        writeln!(f, "  draws' seeds in the request   {:.1}", self.draw_seeds)?;
        for (what, table) in [("answer", &self.answer), ("recorded", &self.recorded)] {
            for (encoding, by_classes) in table {
                for (classes, bytes) in by_classes {
                    writeln!(f, "  {what}, {encoding}, {classes} classes: {bytes:.1}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_samples_and_a_small_head() {
        let figures = ByteFigures::count().unwrap();
        // A message's head takes less than 64 bytes, which 128 samples share.
        let is_near = |found: f64, needed: f64| needed < found && found < needed + 0.5;
        assert!(is_near(figures.pixels["1x28x28"], 784.0), "{figures:?}");
        assert!(is_near(figures.pixels["3x224x224"], 150_528.0));
        assert!(is_near(figures.reference, 4.0), "{figures:?}");
        assert!(is_near(figures.draw_seeds, 8.0), "{figures:?}");
        for (encoding, classes, needed) in [
            ("f32", 10, 40.0),
            ("f32", 1_000, 4_000.0),
            ("f16", 1_000, 2_000.0),
            // 50 logits and classes of 2 bytes, and two f32 about the others.
            ("top-50", 1_000, 208.0),
            ("sampled-50", 1_000, 100.0),
        ] {
            assert!(is_near(figures.answer[encoding][&classes], needed));
            assert_eq!(figures.recorded[encoding][&classes], needed);
        }
    }

    #[test]
    fn other_parts_get_f16() {
        let [small, large] = ByteFigures::count().unwrap().of_images().unwrap();
        assert_eq!((small.recorded, large.recorded), (20.0, 2_000.0));
        assert_eq!((&*small.shape, &*large.shape), ("1x28x28", "3x224x224"));
        assert!(small.pixels < large.pixels && small.answer < large.answer);
    }
}
