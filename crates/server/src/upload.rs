//! Uploads models to an inference service.

use std::time::Duration;

use bytes::Bytes;
use common::digest::Sha256;
use futures::stream;
use proto::publish::v1::{
    PublishHeader, PublishRequest, PublishResponse, publish_request::Part,
    publisher_service_client::PublisherServiceClient,
};
use tonic::{Request, Status};

use crate::security::client::Channel;

/// Longest time until a service serves a version. It checks, loads and warms up the model before it answers, and its
/// configuration may allow an hour for that. TCP keepalive detects a lost service earlier.
pub const LOAD_DEADLINE: Duration = Duration::from_secs(3_700);

/// Bytes of the ONNX file per message: well below gRPC's usual limit of 4 MiB.
const CHUNK: usize = 1 << 20;

/// What happens if the model is stored already and another version of it is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfStored {
    /// The stored version is activated: for users who publish.
    Activate,
    /// The other version stays active: for programs that retry after a lost answer, and must not undo an
    /// operator's choice in between.
    KeepActive,
}

/// The files of a model that are uploaded.
#[derive(Debug, Clone)]
pub struct ModelUpload {
    /// The ONNX file.
    pub onnx: Bytes,
    /// Its `manifest.json`.
    pub manifest_json: Bytes,
    /// Its `model.sig`; empty if it is not signed.
    pub signature: Bytes,
}

/// Sends the messages of [`upload`] or [`upload_canary`], and waits until the version serves.
///
/// # Errors
/// The status of the call.
pub async fn publish(
    client: &mut PublisherServiceClient<Channel>,
    messages: impl Iterator<Item = PublishRequest> + Send + 'static,
) -> Result<PublishResponse, Status> {
    let mut request = Request::new(stream::iter(messages));
    request.set_timeout(LOAD_DEADLINE);
    Ok(client.publish(request).await?.into_inner())
}

/// The stream of `PublisherService.Publish`: a header, then the ONNX file in order.
pub fn upload(
    model: &str,
    files: ModelUpload,
    if_stored: IfStored,
) -> impl Iterator<Item = PublishRequest> + Send + use<> {
    let header = PublishHeader {
        keep_active: if_stored == IfStored::KeepActive,
        ..header(model, &files)
    };
    messages(header, files.onnx)
}

/// The stream of `PublisherService.Publish` for a canary, which gets `share` of the requests that name no version.
pub fn upload_canary(
    model: &str,
    files: ModelUpload,
    share: f64,
) -> impl Iterator<Item = PublishRequest> + Send + use<> {
    let header = PublishHeader {
        canary_share: Some(share),
        ..header(model, &files)
    };
    messages(header, files.onnx)
}

fn header(model: &str, files: &ModelUpload) -> PublishHeader {
    PublishHeader {
        model_name: model.to_owned(),
        sha256: Sha256::of(&files.onnx).to_string(),
        size: files.onnx.len() as u64,
        manifest_json: files.manifest_json.clone(),
        signature: files.signature.clone(),
        ..PublishHeader::default()
    }
}

fn messages(
    header: PublishHeader,
    onnx: Bytes,
) -> impl Iterator<Item = PublishRequest> + Send + use<> {
    let chunks = (0..onnx.len()).step_by(CHUNK).map(move |start| {
        let end = onnx.len().min(start + CHUNK);
        Part::Chunk(onnx.slice(start..end))
    });
    let parts = std::iter::once(Part::Header(header)).chain(chunks);
    parts.map(|part| PublishRequest { part: Some(part) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunks_are_the_file_in_order() {
        let file: Vec<u8> = (0..CHUNK + 5).map(|i| (i % 251) as u8).collect();
        let files = ModelUpload {
            onnx: file.clone().into(),
            manifest_json: Bytes::from_static(b"{}"),
            signature: Bytes::from_static(b"sig"),
        };
        let mut messages = upload("m", files, IfStored::KeepActive);
        let Some(Part::Header(header)) = messages.next().unwrap().part else {
            panic!("the first message is the header");
        };
        assert_eq!(
            (header.model_name.as_str(), header.size),
            ("m", file.len() as u64)
        );
        assert_eq!(header.sha256, Sha256::of(&file).to_string());
        assert!(header.keep_active);
        assert_eq!(
            (&header.manifest_json[..], &header.signature[..]),
            (&b"{}"[..], &b"sig"[..])
        );
        let mut sent = Vec::new();
        for message in messages {
            let Some(Part::Chunk(chunk)) = message.part else {
                panic!("then come chunks");
            };
            assert!(chunk.len() <= CHUNK);
            sent.extend_from_slice(&chunk);
        }
        assert!(sent == file);
    }
}
