//! The size of a sample's soft targets in bytes.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use soft_targets::{Encoder, Encoding, SoftTargets, ValueType};

use crate::{answer_bytes, streaming::BATCH_SIZE};

/// Numbers of classes of Fashion-MNIST, ImageNet-1k and ImageNet-21k.
const CLASSES: [usize; 3] = [10, 1_000, 21_841];
const ENCODINGS: [Encoding; 4] = [Encoding::F32, Encoding::F16, top_k(8), top_k(32)];

const fn top_k(k: u32) -> Encoding {
    let values = ValueType::F16;
    Encoding::TopK { k, values }
}

/// Bytes per sample, by encoding and number of classes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct BytesPerSample {
    /// Bytes in the teacher's messages for a batch.
    wire: Table,
    /// Bytes in a recording, without its files' headers (about 900 bytes per shard).
    disk: Table,
}

type Table = BTreeMap<String, BTreeMap<usize, f64>>;

impl BytesPerSample {
    /// Measures the sizes with one batch of zeros.
    pub(super) fn measure() -> Self {
        let (mut wire, mut disk) = (Table::new(), Table::new());
        for encoding in ENCODINGS {
            let by_classes = |bytes: fn(&SoftTargets) -> usize| {
                let of = |classes| {
                    let zeros = vec![0.0; BATCH_SIZE * classes];
                    // Cannot fail: every encoding can represent zero.
                    let targets = Encoder::default().encode(encoding, &zeros, classes);
                    let bytes = bytes(&targets.expect("zeros are finite"));
                    (classes, bytes as f64 / BATCH_SIZE as f64)
                };
                (encoding.to_string(), BTreeMap::from(CLASSES.map(of)))
            };
            wire.extend([by_classes(answer_bytes::on_the_wire)]);
            disk.extend([by_classes(answer_bytes::on_disk)]);
        }
        Self { wire, disk }
    }
}

impl fmt::Display for BytesPerSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (where_to, table) in [("on the wire", &self.wire), ("on disk", &self.disk)] {
            writeln!(f, "bytes_per_sample, {where_to}")?;
            for (encoding, by_classes) in table {
                for (classes, bytes) in by_classes {
                    writeln!(f, "  {encoding:<8} {classes:>6} classes: {bytes:.1}")?;
                }
            }
        }
        Ok(())
    }
}
