//! An upload is accepted exactly if its parts are the file that its header describes.

use bytes::Bytes;
use futures::stream;
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestRunner};
use prost::Message as _;
use server::upload::{IfStored, ModelUpload};
use test_support::damage::{cases, foreign};

use super::*;
use crate::test_model;

const LIMITS: PublishConfig = PublishConfig {
    max_model_bytes: 1 << 20,
    max_manifest_bytes: 1 << 20,
    max_activation_bytes: 1 << 30,
    // Longer than any test.
    upload_timeout_seconds: 60,
    load_timeout_seconds: 60,
};

/// A change to the sequence of messages.
#[derive(Debug, Clone)]
enum Change {
    Drop(Index),
    Repeat(Index),
    Swap(Index, Index),
    Empty(Index),
    /// Replaces the bytes of a message.
    Replace(Index, Vec<u8>),
}

impl Change {
    fn apply(self, messages: &mut Vec<PublishRequest>) {
        let length = messages.len();
        if length == 0 {
            return;
        }
        match self {
            Self::Drop(at) => drop(messages.remove(at.index(length))),
            Self::Repeat(at) => {
                let at = at.index(length);
                messages.insert(at, messages[at].clone());
            }
            Self::Swap(one, other) => messages.swap(one.index(length), other.index(length)),
            Self::Empty(at) => messages[at.index(length)].part = None,
            Self::Replace(at, bytes) => {
                if let Ok(message) = PublishRequest::decode(bytes.as_slice()) {
                    messages[at.index(length)] = message;
                }
            }
        }
    }
}

fn receive_all(
    runtime: &tokio::runtime::Runtime,
    messages: Vec<PublishRequest>,
) -> Result<Upload, Status> {
    let messages = stream::iter(messages.into_iter().map(Ok));
    runtime.block_on(receive(messages, &LIMITS))
}

#[test]
fn a_foreign_upload_is_refused_or_is_the_file() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (onnx, manifest) = test_model::model(&[[0.0, 0.0]; 3]);
    let pieces = |size: usize| -> Vec<PublishRequest> {
        let files = ModelUpload {
            onnx: onnx.clone(),
            manifest_json: manifest.to_json().into(),
            signature: Bytes::new(),
        };
        let mut parts = server::upload::upload("m", files, IfStored::Activate);
        let header = parts.next().unwrap();
        let chunks = onnx.chunks(size).map(|chunk| PublishRequest {
            part: Some(Part::Chunk(Bytes::copy_from_slice(chunk))),
        });
        std::iter::once(header).chain(chunks).collect()
    };
    let messages = pieces(100)
        .iter()
        .map(PublishRequest::encode_to_vec)
        .collect();
    let change = prop_oneof![
        any::<Index>().prop_map(Change::Drop),
        any::<Index>().prop_map(Change::Repeat),
        any::<(Index, Index)>().prop_map(|(one, other)| Change::Swap(one, other)),
        any::<Index>().prop_map(Change::Empty),
        (any::<Index>(), foreign(messages)).prop_map(|(at, bytes)| Change::Replace(at, bytes)),
    ];
    let mut runner = TestRunner::new(cases(1500));
    let outcome = runner.run(&(1..400usize, vec(change, 0..3)), |(size, changes)| {
        let mut messages = pieces(size);
        let whole = changes.is_empty();
        changes
            .into_iter()
            .for_each(|change| change.apply(&mut messages));
        match receive_all(&runtime, messages) {
            Ok(upload) => {
                prop_assert_eq!(&upload.onnx, &onnx);
                prop_assert_eq!(upload.manifest.onnx.sha256, Sha256::of(&onnx));
            }
            Err(status) => {
                prop_assert!(!whole, "{}", status);
                prop_assert!(status.message().len() < 2000, "{}", status);
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
