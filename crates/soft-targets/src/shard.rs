//! The file of one shard: the targets of consecutive images in one view.
//!
//! A safetensors file: eight bytes of header length, a JSON header padded to a multiple of eight, then
//! the tensors' bytes. This module writes the header itself, so that equal content gives equal bytes
//! with every version of the `safetensors` crate. Any reader of the format can read the file.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use common::digest::{RollingSha256, Sha256};
use serde_json::Value;

use crate::{
    codec::{Parts, SoftTargets, ValueType},
    identity::RecordingIdentity,
    limits::FORMAT_VERSION,
};

/// Identifies a shard of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardId {
    /// Position of the view, 0-based.
    pub view: u32,
    /// Position in the view, 0-based.
    pub shard: u32,
}

/// A shard that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardFault {
    /// The shard.
    pub id: ShardId,
    /// Why it cannot be used.
    pub fault: Fault,
}

/// Why a shard cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It was not recorded.
    #[error("not recorded")]
    Missing,
    /// The file is shorter or longer than it should be.
    #[error("{found} bytes long instead of {expected}")]
    Length {
        /// Bytes in the file.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// It belongs to another recording, or to another position in this one.
    #[error("a shard of {0}")]
    Foreign(String),
    /// Its bytes changed.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The bucket does not answer, or no copy can be written on this machine.
    #[error("not available: {0}")]
    Unavailable(String),
    /// The process was asked to stop before it arrived from the bucket.
    #[error("not read: the process was asked to stop")]
    Stopped,
}

/// Determines the bytes of a shard's file.
#[derive(Debug, Clone)]
pub(crate) struct ShardLayout<'r> {
    pub identity: &'r RecordingIdentity,
    pub recording: &'r Sha256,
    pub id: ShardId,
    /// Positions of its images in the data set.
    pub samples: Range<u32>,
}

/// One tensor in the file.
struct Tensor {
    name: &'static str,
    dtype: &'static str,
    columns: usize,
    bytes: usize,
}

impl ShardLayout<'_> {
    /// Length of the whole file.
    pub fn file_bytes(&self) -> u64 {
        let header = self.header(&Sha256::of(b""));
        (header.len() + self.data_bytes()) as u64
    }

    /// The file that holds `targets`.
    pub fn write(&self, targets: &SoftTargets) -> Vec<u8> {
        debug_assert_eq!(targets.samples(), self.samples.len());
        let parts = self.in_order(targets.parts());
        let mut digest = RollingSha256::default();
        for part in &parts {
            digest.update(part);
        }
        let mut file = self.header(&digest.finish());
        file.reserve_exact(self.data_bytes());
        for part in parts {
            file.extend_from_slice(part);
        }
        file
    }

    /// Verifies every byte of a file and returns the targets in it, without a copy.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn read(&self, file: &Bytes) -> Result<SoftTargets, Fault> {
        let (found, expected) = (file.len() as u64, self.file_bytes());
        let data_start = file.len().saturating_sub(self.data_bytes());
        let (header, data) = file.split_at(data_start);
        let fits = found == expected && header == self.header(&Sha256::of(data));
        if !fits {
            return Err(self.explain(file, expected));
        }
        let mut start = data_start;
        let mut parts = Parts::default();
        for tensor in self.tensors() {
            let bytes = file.slice(start..start + tensor.bytes);
            start += tensor.bytes;
            match tensor.name {
                LOGITS => parts.logits = bytes,
                KEPT_CLASSES => parts.kept_classes = bytes,
                _ => parts.tail_buckets = bytes,
            }
        }
        let RecordingIdentity {
            images, encoding, ..
        } = self.identity;
        SoftTargets::new(
            *encoding,
            self.samples.len(),
            images.classes as usize,
            parts,
        )
        .map_err(|error| Fault::Damaged(error.to_string()))
    }

    /// Why a file is not the expected shard.
    fn explain(&self, file: &[u8], expected: u64) -> Fault {
        let found = file.len() as u64;
        let Some(header) = parse_header(file) else {
            return if found == expected {
                Fault::Damaged("its header cannot be read".to_owned())
            } else {
                Fault::Length { found, expected }
            };
        };
        let text = |key: &str| {
            header[METADATA][key]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let position = |view: &str, shard: &str| format!("view {view}, shard {shard}");
        let [view, shard] = [self.id.view, self.id.shard].map(|number| number.to_string());
        if text("recording") != self.recording.as_str() {
            Fault::Foreign(format!(
                "another recording: teacher {:.12}, encoding {}, data set {:.12}, {}",
                text("teacher"),
                text("encoding"),
                text("images"),
                text("views"),
            ))
        } else if [text("view"), text("shard")] != [view, shard] {
            Fault::Foreign(format!(
                "another place, {}",
                position(&text("view"), &text("shard"))
            ))
        } else if found != expected {
            Fault::Length { found, expected }
        } else {
            Fault::Damaged("its SHA-256 is not the one that was written".to_owned())
        }
    }

    /// The header of a file whose tensors have the digest `data`.
    fn header(&self, data: &Sha256) -> Vec<u8> {
        let RecordingIdentity {
            teacher,
            images,
            views,
            encoding,
        } = self.identity;
        let augmentation = views.augmentation;
        let metadata = [
            ("format_version", FORMAT_VERSION.to_string()),
            ("recording", self.recording.to_string()),
            ("view", self.id.view.to_string()),
            ("shard", self.id.shard.to_string()),
            ("first_sample", self.samples.start.to_string()),
            ("classes", images.classes.to_string()),
            ("encoding", encoding.to_string()),
            ("teacher", teacher.model_id.clone()),
            ("images", images.fingerprint.clone()),
            (
                "views",
                format!(
                    "pad {}, horizontal_flip {}, view_seed {}",
                    augmentation.pad, augmentation.horizontal_flip, views.seed
                ),
            ),
            ("data_sha256", data.to_string()),
        ];
        let quoted = |text: &str| Value::from(text).to_string();
        let metadata = metadata.map(|(key, value)| format!("\"{key}\":{}", quoted(&value)));
        let mut entries = vec![format!("\"{METADATA}\":{{{}}}", metadata.join(","))];
        let mut start = 0;
        for Tensor {
            name,
            dtype,
            columns,
            bytes,
        } in self.tensors()
        {
            let (rows, end) = (self.samples.len(), start + bytes);
            entries.push(format!(
                "\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[{rows},{columns}],\
                 \"data_offsets\":[{start},{end}]}}"
            ));
            start = end;
        }
        let mut json = format!("{{{}}}", entries.join(",")).into_bytes();
        json.resize(json.len().next_multiple_of(8), b' ');
        [&(json.len() as u64).to_le_bytes(), &json[..]].concat()
    }

    /// The tensors in the order of their bytes: wider values first, so that all are aligned.
    fn tensors(&self) -> Vec<Tensor> {
        let encoding = self.identity.encoding;
        let classes = self.identity.images.classes as usize;
        let (row, kept) = (encoding.sample_bytes(classes), encoding.kept(classes));
        let tensor = |name, dtype, columns, row_bytes| Tensor {
            name,
            dtype,
            columns,
            bytes: row_bytes * self.samples.len(),
        };
        let logits = encoding.value_type().map(|values| {
            let dtype = match values {
                ValueType::F32 => "F32",
                ValueType::F16 => "F16",
            };
            tensor(LOGITS, dtype, kept, row.logits)
        });
        let mut tensors: Vec<Tensor> = logits.into_iter().collect();
        if row.kept_classes > 0 {
            let wide = row.kept_classes == 4 * kept;
            let dtype = if wide { "U32" } else { "U16" };
            tensors.push(tensor(KEPT_CLASSES, dtype, kept, row.kept_classes));
        }
        if row.tail_bucket > 0 {
            tensors.push(tensor(TAIL_BUCKETS, "F32", 2, row.tail_bucket));
        }
        tensors.sort_by_key(|tensor| tensor.dtype.ends_with("16"));
        tensors
    }

    fn in_order<'p>(&self, parts: &'p Parts) -> Vec<&'p Bytes> {
        let part = |tensor: &Tensor| match tensor.name {
            LOGITS => &parts.logits,
            KEPT_CLASSES => &parts.kept_classes,
            _ => &parts.tail_buckets,
        };
        self.tensors().iter().map(part).collect()
    }

    fn data_bytes(&self) -> usize {
        self.tensors().iter().map(|tensor| tensor.bytes).sum()
    }
}

const METADATA: &str = "__metadata__";
const LOGITS: &str = "logits";
const KEPT_CLASSES: &str = "kept_classes";
const TAIL_BUCKETS: &str = "rest";

fn parse_header(file: &[u8]) -> Option<Value> {
    let (length, after) = file.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let header: Value = serde_json::from_slice(after.get(..length)?).ok()?;
    header[METADATA].is_object().then_some(header)
}

impl ShardId {
    /// The shard with this path below the recording's folder.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let (view, shard) = path.split_once('/')?;
        let view = view.strip_prefix("view-")?.parse().ok()?;
        let shard = shard.strip_prefix("shard-")?;
        let shard = shard.strip_suffix(".safetensors")?.parse().ok()?;
        let id = Self { view, shard };
        // Each shard has one path.
        (id.to_string() == path).then_some(id)
    }

    /// Path below the recording's folder.
    pub fn path(self) -> PathBuf {
        let Self { view, shard } = self;
        Path::new(&view_folder(view)).join(format!("shard-{shard:05}.safetensors"))
    }
}

/// Name of a view's folder, below that of its recording.
pub(crate) fn view_folder(view: u32) -> String {
    format!("view-{view:04}")
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path().display())
    }
}

impl fmt::Display for ShardFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.id, self.fault)
    }
}

#[cfg(test)]
pub(crate) mod properties;
