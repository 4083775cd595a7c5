//! How many bytes a sample's soft targets take.

use std::{collections::BTreeMap, fmt};

use prost::Message;
use proto::teacher::v1::{
    Encoding, SoftTargets, StreamSoftTargetsResponse,
    stream_soft_targets_response::Message as Response,
};
use serde::Serialize;

use super::BATCH_SIZE;

/// Fashion-MNIST, ImageNet-1k, ImageNet-21k.
const CLASSES: [usize; 3] = [10, 1_000, 21_841];
/// gRPC's prefix of a message: a flag and its length.
const PREFIX: usize = 5;

/// Bytes of a sample, by encoding and number of classes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct BytesPerSample(BTreeMap<&'static str, BTreeMap<usize, f64>>);

impl BytesPerSample {
    /// Of the messages that the teacher sends for a batch.
    pub(super) fn measure() -> Self {
        let wire = CLASSES.map(|classes| {
            let message = Response::SoftTargets(SoftTargets {
                id: 1_000,
                encoding: Encoding::F32.into(),
                shape: vec![BATCH_SIZE as u64, classes as u64],
                logits: vec![0; 4 * BATCH_SIZE * classes].into(),
            });
            let message = StreamSoftTargetsResponse {
                message: Some(message),
            };
            let bytes = PREFIX + message.encoded_len();
            (classes, bytes as f64 / BATCH_SIZE as f64)
        });
        Self(BTreeMap::from([("f32", BTreeMap::from(wire))]))
    }
}

impl fmt::Display for BytesPerSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bytes_per_sample, on the wire")?;
        for (encoding, by_classes) in &self.0 {
            for (classes, bytes) in by_classes {
                writeln!(f, "  {encoding:<8} {classes:>6} classes: {bytes:.1}")?;
            }
        }
        Ok(())
    }
}
