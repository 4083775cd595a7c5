//! Receives an uploaded model.

use artifacts::{
    manifest::ArtifactManifest,
    model_store::{ModelName, SignedManifest},
};
use bytes::Bytes;
use common::digest::{RollingSha256, Sha256};
use futures::{Stream, StreamExt};
use model_signing::MAX_SIGNATURE_BYTES;
use proto::publish::v1::{
    CheckPublishRequest, PublishHeader, PublishRequest, check_publish_request,
    publish_request::Part,
};
use tokio::time::timeout;
use tonic::Status;

use crate::{
    config::{LARGEST_SHARE, PublishConfig},
    error::PublishError,
    publisher::Upload,
};

/// Receives an upload: a header, then the file in order, within `upload_timeout_seconds`.
///
/// # Errors
/// [`PublishError`] if parts contradict each other or arrive too late, or the error of the stream. An
/// upload with more bytes than allowed or announced is rejected at once.
pub(super) async fn receive(
    stream: impl Stream<Item = Result<PublishRequest, Status>> + Unpin,
    limits: &PublishConfig,
) -> Result<Upload, Status> {
    // Each part has a time limit, but the number of parts is unlimited: a slow client could block other
    // uploads for ever.
    let limit = limits.upload_timeout();
    let received = timeout(limit, receive_parts(stream, limits)).await;
    received.unwrap_or_else(|_| {
        let seconds = limit.as_secs();
        Err(PublishError::UploadTimedOut { seconds }.into())
    })
}

/// Receives a model that is only checked.
///
/// # Errors
/// Those of [`receive`], and if the final manifest may be too large.
pub(super) async fn receive_to_check(
    stream: impl Stream<Item = Result<CheckPublishRequest, Status>> + Unpin,
    limits: &PublishConfig,
) -> Result<Upload, Status> {
    let mut largest_manifest = 0;
    let stream = stream.map(|request| {
        let part = request?.part.map(|part| match part {
            check_publish_request::Part::Header(header) => {
                largest_manifest = header.largest_manifest_bytes;
                Part::Header(header.header.unwrap_or_default())
            }
            check_publish_request::Part::Chunk(chunk) => Part::Chunk(chunk),
        });
        Ok(PublishRequest { part })
    });
    let upload = receive(stream, limits).await?;
    check_size(
        "header.manifest_json",
        largest_manifest,
        limits.max_manifest_bytes,
    )?;
    Ok(upload)
}

async fn receive_parts(
    mut stream: impl Stream<Item = Result<PublishRequest, Status>> + Unpin,
    limits: &PublishConfig,
) -> Result<Upload, Status> {
    let first = stream
        .next()
        .await
        .transpose()?
        .and_then(|request| request.part);
    let Some(Part::Header(header)) = first else {
        return Err(PublishError::Upload("the first message must be the header").into());
    };
    let expected = Expected::of(header, limits)?;
    // Grows with the received bytes, because the announced size is not verified yet.
    let mut onnx = Vec::new();
    let mut digest = RollingSha256::default();
    while let Some(request) = stream.next().await {
        let chunk = match request?.part {
            Some(Part::Chunk(chunk)) => chunk,
            Some(Part::Header(_)) => {
                return Err(PublishError::Upload("a second header arrived").into());
            }
            None => return Err(PublishError::Upload("a message is empty").into()),
        };
        digest.update(&chunk);
        onnx.extend_from_slice(&chunk);
        if onnx.len() as u64 > expected.size {
            return Err(expected.size_mismatch(onnx.len()).into());
        }
    }
    if onnx.len() as u64 != expected.size {
        return Err(expected.size_mismatch(onnx.len()).into());
    }
    let found = digest.finish();
    if found != expected.sha256 {
        let expected = expected.sha256;
        return Err(PublishError::Digest { expected, found }.into());
    }
    Ok(Upload {
        onnx: onnx.into(),
        ..expected.upload
    })
}

/// The checked content of a header.
struct Expected {
    sha256: Sha256,
    size: u64,
    /// Without the file.
    upload: Upload,
}

impl Expected {
    fn of(header: PublishHeader, limits: &PublishConfig) -> Result<Self, PublishError> {
        let model = ModelName::new(&header.model_name)?;
        let sha256 = Sha256::parse(&header.sha256).ok_or(PublishError::DigestFormat)?;
        let manifest_size = header.manifest_json.len() as u64;
        check_size("header.size", header.size, limits.max_model_bytes)?;
        check_size(
            "header.manifest_json",
            manifest_size,
            limits.max_manifest_bytes,
        )?;
        let signature_size = header.signature.len() as u64;
        check_size("header.signature", signature_size, MAX_SIGNATURE_BYTES)?;
        header.canary_share.map(check_share).transpose()?;
        let manifest = ArtifactManifest::from_json(&header.manifest_json)?;
        if manifest.onnx.sha256 != sha256 {
            return Err(PublishError::ManifestMismatch {
                field: "onnx.sha256",
                problem: format!("is {}, header.sha256 is {sha256}", manifest.onnx.sha256),
            });
        }
        if manifest.onnx.size != header.size {
            let (found, size) = (manifest.onnx.size, header.size);
            return Err(PublishError::ManifestMismatch {
                field: "onnx.size",
                problem: format!("is {found}, header.size is {size}"),
            });
        }
        let signed = (!header.signature.is_empty()).then(|| SignedManifest {
            json: header.manifest_json.into(),
            signature: header.signature.into(),
        });
        Ok(Self {
            sha256,
            size: header.size,
            upload: Upload {
                model,
                onnx: Bytes::new(),
                manifest,
                signed,
                keep_active: header.keep_active,
                canary_share: header.canary_share,
            },
        })
    }

    fn size_mismatch(&self, received: usize) -> PublishError {
        PublishError::Size {
            received: received as u64,
            expected: self.size,
        }
    }
}

fn check_share(share: f64) -> Result<(), PublishError> {
    // A NaN is in no range.
    if (0.0..=LARGEST_SHARE).contains(&share) {
        Ok(())
    } else {
        Err(PublishError::CanaryShare {
            found: share,
            allowed: LARGEST_SHARE,
        })
    }
}

fn check_size(field: &'static str, found: u64, allowed: usize) -> Result<(), PublishError> {
    if found <= allowed as u64 {
        Ok(())
    } else {
        Err(PublishError::TooLarge {
            field,
            found,
            allowed,
        })
    }
}

#[cfg(test)]
mod properties;
