//! Receives and decompresses request bodies, within limits on size and time.

use std::{
    io::{self, Read},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use flate2::{bufread::ZlibDecoder, read::MultiGzDecoder};
use futures::StreamExt;
use tokio::{task, time::timeout};

use super::error::HttpError;

/// Limits on a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    /// Size in bytes, before and after decompression.
    pub(super) bytes: usize,
    /// Time for the whole body to arrive.
    pub(super) time: Duration,
}

/// The content coding of a body (RFC 9110, section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    /// The zlib format.
    Deflate,
}

/// Receives the whole body and decompresses it.
///
/// # Errors
/// [`HttpError`] if it is too large, too slow, incomplete, or has an unsupported coding.
pub(super) async fn receive(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
) -> Result<Bytes, HttpError> {
    let encoding = Encoding::of(headers)?;
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > drain_limit(limits.bytes)) {
        return Err(HttpError::BodyTooLarge {
            allowed: limits.bytes,
        });
    }
    let sent = timeout(limits.time, collect(body, limits.bytes)).await;
    let sent = sent.map_err(|_| HttpError::BodyTimedOut {
        seconds: limits.time.as_secs(),
    })??;
    if encoding == Encoding::Identity {
        return Ok(sent);
    }
    let decompressed = task::spawn_blocking(move || encoding.decompress(&sent, limits.bytes)).await;
    decompressed.map_err(|_| HttpError::Internal)?
}

/// Bytes that are read of a body before the connection is closed. Many clients read the response only after they
/// have sent the whole body, so a body that is slightly too large is read to its end.
pub(super) fn drain_limit(size_limit: usize) -> u64 {
    size_limit as u64 * 2
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, HttpError> {
    let mut stream = body.into_data_stream();
    let mut all = Vec::new();
    let mut length = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| HttpError::Malformed("the body is incomplete".to_owned()))?;
        length += chunk.len();
        if length <= limit {
            all.extend_from_slice(&chunk);
        } else {
            all = Vec::new();
        }
        if length as u64 > drain_limit(limit) {
            break;
        }
    }
    if length <= limit {
        Ok(all.into())
    } else {
        Err(HttpError::BodyTooLarge { allowed: limit })
    }
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Self, HttpError> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Ok(Self::Identity),
            (Some(value), None) => value.to_str().unwrap_or_default().trim(),
            (Some(_), Some(_)) => "several",
        };
        match value.to_ascii_lowercase().as_str() {
            "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            _ => Err(HttpError::UnknownEncoding),
        }
    }

    fn decompress(self, sent: &[u8], limit: usize) -> Result<Bytes, HttpError> {
        // One byte more than allowed, to detect a body that is too large.
        let most = limit as u64 + 1;
        let mut decompressed = Vec::new();
        let read = match self {
            Self::Identity => sent.take(most).read_to_end(&mut decompressed),
            Self::Gzip => MultiGzDecoder::new(sent)
                .take(most)
                .read_to_end(&mut decompressed),
            Self::Deflate => {
                let mut decoder = ZlibDecoder::new(sent);
                let read = (&mut decoder).take(most).read_to_end(&mut decompressed);
                match decoder.into_inner() {
                    [] => read,
                    _ => read.and(Err(io::Error::other("bytes follow the compressed data"))),
                }
            }
        };
        if decompressed.len() > limit {
            return Err(HttpError::BodyTooLarge { allowed: limit });
        }
        match read {
            Ok(_) => Ok(decompressed.into()),
            Err(error) => Err(HttpError::Malformed(format!(
                "the body cannot be decompressed: {error}"
            ))),
        }
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::http::HeaderValue;
    use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};

    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        bytes: 1000,
        time: Duration::from_secs(10),
    };

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn received(encoding: Option<&'static str>, body: Vec<u8>) -> Result<Bytes, HttpError> {
        let mut headers = HeaderMap::new();
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        receive(&headers, Body::from(body), LIMITS).await
    }

    #[tokio::test]
    async fn bodies_are_received_and_decompressed() {
        let body = vec![7; 1000];
        for (encoding, sent) in [
            (None, body.clone()),
            (Some("identity"), body.clone()),
            (Some("gzip"), gzip(&body)),
            (Some("Gzip"), gzip(&body)),
            (
                Some("gzip"),
                [gzip(&body[..400]), gzip(&body[400..])].concat(),
            ),
            (Some("deflate"), zlib(&body)),
        ] {
            assert_eq!(received(encoding, sent).await.unwrap(), body);
        }
    }

    #[tokio::test]
    async fn bodies_that_are_too_large_damaged_or_unsupported_are_rejected() {
        let bomb = vec![0; 100_000_000];
        for (encoding, sent, expected) in [
            (None, vec![7; 1001], "at most 1000"),
            (Some("gzip"), gzip(&bomb), "at most 1000"),
            (Some("deflate"), zlib(&bomb), "at most 1000"),
            (Some("gzip"), b"no gzip".to_vec(), "cannot be decompressed"),
            (
                Some("gzip"),
                gzip(&[7; 100])[..20].to_vec(),
                "cannot be decompressed",
            ),
            (
                Some("gzip"),
                [gzip(&[7; 100]), b"more".to_vec()].concat(),
                "cannot be decompressed",
            ),
            (
                Some("deflate"),
                [zlib(&[7; 100]), b"more".to_vec()].concat(),
                "bytes follow the compressed data",
            ),
            // The body alone is as long as allowed.
            (
                Some("deflate"),
                [zlib(&[7; 1000]), b"more".to_vec()].concat(),
                "bytes follow the compressed data",
            ),
            (Some("br"), b"x".to_vec(), "gzip, deflate"),
            (Some("gzip, gzip"), b"x".to_vec(), "gzip, deflate"),
        ] {
            let error = received(encoding, sent)
                .await
                .expect_err(expected)
                .to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[tokio::test]
    async fn a_body_that_never_ends_times_out() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let limits = BodyLimits {
            time: Duration::from_millis(10),
            ..LIMITS
        };
        let error = receive(&HeaderMap::new(), never, limits).await.unwrap_err();
        assert!(matches!(error, HttpError::BodyTimedOut { .. }), "{error}");
    }
}
