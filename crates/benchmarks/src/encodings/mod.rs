//! `retort-bench encodings`: what the encodings of soft targets cost.

mod report;

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::Args;
use common::output::Messages;
use datasets::View;
use prost::Message;
use proto::{
    bounded::decode,
    teacher::v1::{StreamSoftTargetsResponse, stream_soft_targets_response::Message as Response},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use soft_targets::{DrawSeeds, Encoder, Encoding, SoftTargets};
use tokio::task::yield_now;

use crate::{
    answer_bytes::answer,
    number_arguments::{above_zero, at_least_one},
    report::print,
};
use report::{Figures, Turn};

/// Compare the encodings of soft targets: their size, and the time to encode and to decode them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  retort-bench encodings
  retort-bench encodings --classes 21841 --encodings f16,top-50,sampled-50
  retort-bench encodings --json --turns 3 --seconds 0.2

Encodes and decodes batches of normally distributed logits on one thread, without a network and
without a teacher's model.

wire, disk  bytes per sample, in the teacher's messages and in a recording
request     bytes per sample that the encoding adds to the trainer's messages
encode      the teacher's time per sample, from logits to the message
decode      the trainer's time per sample, from the message to checked soft targets, which training
            copies into tensors")]
pub(crate) struct EncodingsArguments {
    /// The encodings.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "f32,f16,top-50,sampled-50"
    )]
    encodings: Vec<Encoding>,
    /// Number of classes.
    #[arg(long, default_value_t = 1_000, value_parser = at_least_one)]
    classes: usize,
    /// Samples per batch.
    #[arg(long, default_value_t = 128, value_parser = at_least_one)]
    batch_size: usize,
    /// Number of turns; the benchmark reports medians.
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    turns: usize,
    /// Duration of each measurement.
    #[arg(long, default_value_t = 0.5, value_parser = above_zero)]
    seconds: f64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Microseconds per sample with one encoding in one turn.
#[derive(Debug, Clone, Copy)]
struct Times {
    encode: f64,
    decode: f64,
}

pub(crate) async fn execute(arguments: &EncodingsArguments) -> Result<()> {
    let batch = LogitBatch::new(arguments);
    let mut encoded = BTreeMap::new();
    for encoding in &arguments.encodings {
        let targets = batch.encode(*encoding, &mut Encoder::default())?;
        encoded.insert(*encoding, targets);
    }
    let mut turns = Vec::new();
    for number in 1..=arguments.turns {
        writeln!(Messages, "turn {number} of {}", arguments.turns);
        let mut turn = Turn::new();
        for (encoding, targets) in &encoded {
            let times = batch.measure(*encoding, targets, arguments.seconds)?;
            turn.insert(*encoding, times);
            // A signal can end the benchmark here.
            yield_now().await;
        }
        turns.push(turn);
    }
    print(
        &Figures::of(arguments.classes, &encoded, &turns),
        arguments.json,
    )
}

/// A batch of logits.
struct LogitBatch {
    /// [samples, classes], row-major
    logits: Vec<f32>,
    samples: usize,
    classes: usize,
}

impl LogitBatch {
    fn new(arguments: &EncodingsArguments) -> Self {
        let (samples, classes) = (arguments.batch_size, arguments.classes);
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let logits = (0..samples * classes).map(|_| normal(&mut generator));
        Self {
            logits: logits.collect(),
            samples,
            classes,
        }
    }

    fn encode(&self, encoding: Encoding, encoder: &mut Encoder) -> Result<SoftTargets> {
        let view = View::Fixed { seed: 1, view: 0 };
        let seeds = DrawSeeds::of(encoding, view, 0..self.samples as u32);
        Ok(encoder.encode_with_seeds(encoding, &self.logits, self.classes, &seeds)?)
    }

    /// Measures `encoding`, in which the batch is `targets`, for `seconds` each.
    fn measure(&self, encoding: Encoding, targets: &SoftTargets, seconds: f64) -> Result<Times> {
        let mut encoder = Encoder::default();
        let encode = || -> Result<()> {
            let targets = self.encode(encoding, &mut encoder)?;
            black_box(answer(&targets).encode_to_vec());
            Ok(())
        };
        let encode = self.microseconds(seconds, encode)?;
        let message = Bytes::from(answer(targets).encode_to_vec());
        let decode = || -> Result<()> {
            let response = decode::<StreamSoftTargetsResponse>(message.clone())?;
            let Some(Response::SoftTargets(answer)) = response.message else {
                bail!("the message is no longer an answer");
            };
            let targets = SoftTargets::from_wire(answer, encoding, self.samples, self.classes);
            black_box(targets.map_err(anyhow::Error::msg)?);
            Ok(())
        };
        let decode = self.microseconds(seconds, decode)?;
        Ok(Times { encode, decode })
    }

    /// Repeats `work`, which processes the batch once, for `seconds`. Returns the time per sample.
    fn microseconds(&self, seconds: f64, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
        work()?;
        let started = Instant::now();
        let mut samples = 0;
        loop {
            work()?;
            samples += self.samples;
            let elapsed = started.elapsed().as_secs_f64();
            if elapsed >= seconds {
                return Ok(1e6 * elapsed / samples as f64);
            }
        }
    }
}

/// A number from almost the normal distribution with the standard deviation 2: the centered sum of twelve uniform
/// ones has 1.
fn normal(generator: &mut impl Rng) -> f32 {
    let mut uniform = || f64::from(generator.next_u32()) / f64::from(u32::MAX);
    let sum: f64 = (0..12).map(|_| uniform()).sum();
    (2.0 * (sum - 6.0)) as f32
}
