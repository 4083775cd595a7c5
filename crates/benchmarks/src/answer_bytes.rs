//! The size of messages, and of soft targets in a teacher's answers and in recordings.

use prost::Message;
use proto::teacher::v1::{
    StreamSoftTargetsResponse, stream_soft_targets_response::Message as Response,
};
use soft_targets::SoftTargets;

/// Size of gRPC's message prefix: a flag and the length.
const PREFIX: usize = 5;

/// The message that answers a batch.
pub(crate) fn answer(targets: &SoftTargets) -> StreamSoftTargetsResponse {
    StreamSoftTargetsResponse {
        message: Some(Response::SoftTargets(targets.to_wire(1_000))),
    }
}

/// Bytes of the answer, with gRPC's prefix.
pub(crate) fn on_the_wire(targets: &SoftTargets) -> usize {
    with_prefix(&answer(targets))
}

/// Bytes of a message, with gRPC's prefix.
pub(crate) fn with_prefix(message: &impl Message) -> usize {
    PREFIX + message.encoded_len()
}

/// Bytes in a recording, without its files' headers.
pub(crate) fn on_disk(targets: &SoftTargets) -> usize {
    targets.samples() * targets.encoding().sample_bytes(targets.classes()).total()
}
