//! Recorded soft targets: a teacher's logits for every image of a data set under some views, so that
//! students can be distilled with no teacher there.
//!
//! ```text
//! <store>/<recording>/recording.json                        what was recorded, from whom
//!                     view-0000/shard-00000.safetensors     the targets of consecutive images
//! ```
//!
//! - [`RecordingIdentity`]: teacher, images, views and encoding. Anything else is another recording.
//! - [`Recording`]: its folder; knows which shards are whole and writes those that are not.
//! - [`Recordings`]: those of a folder; damaged ones hide no others.
//! - [`Replay`]: the rows of any samples, from mapped files.
//! - [`pack`](fn@pack), [`unpack`]: a recording as one file.
//!
//! A shard is a [safetensors](https://github.com/huggingface/safetensors) file, and its size and all
//! of its header follow from the recording and the SHA-256 of its data. So it is checked on its own,
//! byte by byte: a shard that is truncated, damaged, or from elsewhere is told from a whole one.

mod error;
mod identity;
mod mapping;
mod pack;
mod recording;
mod recordings;
mod replay;
mod shard;
mod space;

pub use error::StoreError;
pub use identity::{RecordedImages, RecordingIdentity, ViewSet, WantedRecording};
pub use pack::{Packed, pack, unpack};
pub use recording::{FORMAT_VERSION, MAX_VIEWS, Recording, RecordingLock};
pub use recordings::Recordings;
pub use replay::Replay;
pub use shard::{Fault, ShardFault, ShardId};
pub use space::{Space, free_bytes, human_bytes};
