//! The figures as a table or as JSON.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use soft_targets::{Encoding, SoftTargets};

use super::Times;
use crate::{
    answer_bytes,
    series::{Series, series},
};

/// The times of one turn, by encoding.
pub(super) type Turn = BTreeMap<Encoding, Times>;

/// All figures of `retort-bench encodings`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    classes: usize,
    turns: usize,
    encodings: BTreeMap<String, Cost>,
}

/// The cost of one sample in one encoding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Cost {
    /// Bytes in the teacher's messages.
    wire: f64,
    /// Bytes in a recording, without its files' headers.
    disk: f64,
    /// Bytes that the encoding adds to the trainer's messages.
    request: usize,
    /// The teacher's time.
    encode_us: Series,
    /// The trainer's time.
    decode_us: Series,
}

impl Figures {
    /// The figures of one turn or more with the encoded batch of each encoding.
    pub(super) fn of(
        classes: usize,
        encoded: &BTreeMap<Encoding, SoftTargets>,
        turns: &[Turn],
    ) -> Self {
        let cost = |(encoding, targets): (&Encoding, &SoftTargets)| {
            let per_sample = |bytes: usize| bytes as f64 / targets.samples() as f64;
            let cost = Cost {
                wire: per_sample(answer_bytes::on_the_wire(targets)),
                disk: per_sample(answer_bytes::on_disk(targets)),
                request: encoding.seed_bytes(),
                encode_us: series(turns, |turn| turn[encoding].encode),
                decode_us: series(turns, |turn| turn[encoding].decode),
            };
            (encoding.to_string(), cost)
        };
        Self {
            classes,
            turns: turns.len(),
            encodings: encoded.iter().map(cost).collect(),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (turns, classes) = (self.turns, self.classes);
        writeln!(
            f,
            "{turns} turns: median (minimum to maximum), per sample of {classes} classes"
        )?;
        for (encoding, cost) in &self.encodings {
            let Cost {
                wire,
                disk,
                request,
                encode_us,
                decode_us,
            } = cost;
            writeln!(
                f,
                "  {encoding:<13} {wire:.1} bytes on the wire, {disk:.1} on disk, {request} in the request; \
                 encode {encode_us:.2} µs, decode {decode_us:.2} µs"
            )?;
        }
        Ok(())
    }
}
