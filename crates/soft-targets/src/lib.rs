//! Soft targets: a teacher's logits, from their encoding to the proof that each was used once.
//!
//! - [`SoftTargets`], [`Encoding`], [`Encoder`]: one codec for the wire and for recordings. [`DrawSeeds`]: the
//!   randomness of sampled encodings.
//! - [`tensor_to_wire`], [`tensor_from_wire`]: what a teacher takes, in messages; [`interpolation_to_wire`],
//!   [`interpolation_from_wire`]: how its images are resized.
//! - [`DataReference`], [`SampleReferences`]: batches as positions in a data set that the teacher has too.
//! - [`logits`]: classes and probabilities.
//! - [`ClassMatch`]: matches a teacher's classes with those of the data by name.
//! - [`Recording`], [`Recordings`], [`Replay`]: logits for every image of a data set under some views,
//!   so that students can be distilled without a teacher. [`RecordingStore`]: a folder or a bucket of recordings.
//!   [`Worker`]: the share of one of several processes that record together.
//! - [`pack`](fn@pack), [`unpack`]: a recording as one file.
//! - [`consumption`]: a digest of what training consumed.
//!
//! ```text
//! <store>/<recording>/recording.json                        teacher, images, views, encoding
//!                     view-0000/shard-00000.safetensors     the targets of consecutive images
//! ```
//!
//! In a bucket, a recording has objects with the same names; shards are read from copies on this machine.
//!
//! A [`RecordingIdentity`] names teacher, images, views and encoding; anything else is another
//! recording. A shard is a [safetensors](https://github.com/huggingface/safetensors) file; its size and
//! its header follow from the recording and the SHA-256 of its data. So each shard is verified on its
//! own, byte by byte: a shard that is truncated, damaged, or from elsewhere is detected.

mod codec;
pub mod consumption;
mod data_reference;
mod description;
mod error;
mod identity;
mod interpolation;
mod limits;
pub mod logits;
mod mapping;
mod pack;
mod recording;
mod recording_lock;
mod recording_store;
mod recordings;
mod remote;
mod replay;
mod shard;
mod shard_cache;
mod shard_space;
mod tensor_spec;
mod worker;

pub use codec::{
    ClassMatch, ClassOrder, ClassesDiffer, DrawSeeds, EncodeError, Encoder, Encoding,
    InvalidEncoding, Malformed, Parts, SampleBytes, Sampling, SoftTargets, TailBucket, ValueType,
};
pub use data_reference::{DataReference, SampleReferences};
pub use error::StoreError;
pub use identity::{RecordedImages, RecordingIdentity, ViewSet, WantedRecording};
pub use interpolation::{interpolation_from_wire, interpolation_to_wire};
pub use limits::{FORMAT_VERSION, MAX_VIEWS};
pub use pack::{Packed, pack, unpack};
pub use recording::{Recording, Written};
pub use recording_lock::RecordingLock;
pub use recording_store::{BucketOptions, RecordingBucket, RecordingStore};
pub use recordings::Recordings;
pub use replay::Replay;
pub use shard::{Fault, ShardFault, ShardId};
pub use shard_space::ShardSpace;
pub use tensor_spec::{data_type_to_wire, tensor_from_wire, tensor_to_wire};
pub use worker::{NoSuchWorker, Worker};
