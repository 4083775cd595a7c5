//! A fast path for `ModelInfer` that bypasses tonic's codec and router.
//!
//! tonic's codecs support streams of messages of any size: for every call they allocate a buffer to collect the
//! request, another to encode the response, and a stream for each. This call is made thousands of times per
//! second, and its request usually is a single frame, which holds the values already in one piece. The fast
//! path saves 16 % of the processor time of a call (docs/benchmarks-history.md). tonic handles all other calls, and
//! compressed requests.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use http_body::{Body as _, Frame};
use prost::{Message, Name};
use proto::{
    bounded,
    inference::{ModelInferRequest, grpc_inference_service_server::GrpcInferenceServiceServer},
};
use server::grpc::status;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Service, http},
    metadata::{GRPC_CONTENT_TYPE, MetadataMap},
};
use tower_layer::Layer;

use super::{
    InferenceEdge,
    error::GrpcError,
    messages::{self, Caller},
};
use crate::error::Reason;

const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Length of the prefix of a message: a compression flag and the message's length
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
const PREFIX: usize = 5;

/// The server of the protocol: a layer that answers `ModelInfer`, and a service for every other call.
#[derive(Debug)]
pub(crate) struct InferenceServer {
    pub(crate) direct: Direct,
    /// Handles all calls, including `ModelInfer` with compressed requests.
    pub(crate) routed: GrpcInferenceServiceServer<InferenceEdge>,
}

impl InferenceServer {
    pub(crate) fn new(edge: InferenceEdge) -> Self {
        let max_message_bytes = edge.max_message_bytes;
        let edge = Arc::new(edge);
        let routed = GrpcInferenceServiceServer::from_arc(Arc::clone(&edge))
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip)
            .max_decoding_message_size(max_message_bytes)
            .max_encoding_message_size(max_message_bytes);
        let direct = Direct {
            edge,
            max_message_bytes,
        };
        Self { direct, routed }
    }
}

/// The innermost layer of a port, which answers `ModelInfer` before the router.
#[derive(Debug, Clone)]
pub(crate) struct Direct {
    edge: Arc<InferenceEdge>,
    max_message_bytes: usize,
}

impl<S> Layer<S> for Direct {
    type Service = BeforeRouter<S>;

    fn layer(&self, router: S) -> BeforeRouter<S> {
        let direct = self.clone();
        BeforeRouter { direct, router }
    }
}

/// See [`Direct`].
#[derive(Debug, Clone)]
pub(crate) struct BeforeRouter<S> {
    direct: Direct,
    router: S,
}

impl<S> Service<http::Request<Body>> for BeforeRouter<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<http::Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.router.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != PATH || is_compressed(request.headers()) {
            return Box::pin(self.router.call(request));
        }
        let edge = Arc::clone(&self.direct.edge);
        let max_message_bytes = self.direct.max_message_bytes;
        Box::pin(async move {
            let answer = answer(&edge, request, max_message_bytes).await;
            Ok(answer.unwrap_or_else(Status::into_http))
        })
    }
}

fn is_compressed(headers: &http::HeaderMap) -> bool {
    let encoding = headers.get("grpc-encoding");
    encoding.is_some_and(|encoding| encoding != "identity")
}

async fn answer(
    edge: &InferenceEdge,
    request: http::Request<Body>,
    max_message_bytes: usize,
) -> Result<http::Response<Body>, Status> {
    let (head, body) = request.into_parts();
    let caller = Caller::of(&MetadataMap::from_headers(head.headers));
    let message = read_message(body, max_message_bytes).await?;
    let message: ModelInferRequest =
        bounded::decode(message).map_err(|error| GrpcError::Undecodable {
            message: ModelInferRequest::NAME,
            error,
        })?;
    let request = messages::to_request(message, &caller)?;
    let response = messages::to_message(edge.inference.infer(request).await?);
    let mut encoded = BytesMut::with_capacity(PREFIX + response.encoded_len());
    encoded.put_u8(0);
    encoded.put_u32(response.encoded_len() as u32);
    response
        .encode(&mut encoded)
        .map_err(|error| status(Code::Internal, Reason::Internal.name(), error.to_string()))?;
    let mut response = http::Response::new(Body::new(Answer {
        message: Some(encoded.freeze()),
        ended: false,
    }));
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
    Ok(response)
}

/// Reads the single message of a request.
async fn read_message(mut body: Body, max_message_bytes: usize) -> Result<Bytes, Status> {
    let mut received = Bytes::new();
    let mut length = None;
    while let Some(data) = next_data(&mut body).await? {
        received = if received.is_empty() {
            data
        } else {
            // Rare: the message has several frames, which are copied into one buffer.
            append(received, &data, length.unwrap_or(0))
        };
        if length.is_none() && received.len() >= PREFIX {
            length = Some(read_prefix(
                &mut received.slice(..PREFIX),
                max_message_bytes,
            )?);
        }
        if length.is_some_and(|length| received.len() > PREFIX + length) {
            return Err(malformed("the request has bytes after its message"));
        }
    }
    match length {
        Some(length) if received.len() == PREFIX + length => Ok(received.slice(PREFIX..)),
        _ => Err(malformed("the request ended within its message")),
    }
}

fn append(received: Bytes, data: &[u8], length: usize) -> Bytes {
    let mut whole = match received.try_into_mut() {
        Ok(whole) => whole,
        Err(shared) => BytesMut::from(&shared[..]),
    };
    let missing = (PREFIX + length).saturating_sub(whole.len());
    // Grows with the received bytes, because the announced length is not verified yet.
    whole.reserve(missing.min(whole.len()).max(data.len()));
    whole.extend_from_slice(data);
    whole.freeze()
}

fn read_prefix(prefix: &mut Bytes, max_message_bytes: usize) -> Result<usize, Status> {
    if prefix.get_u8() != 0 {
        let problem = "the message is compressed, but there is no grpc-encoding";
        return Err(malformed(problem));
    }
    let length = prefix.get_u32() as usize;
    if length <= max_message_bytes {
        Ok(length)
    } else {
        let problem = format!("{length} bytes; at most {max_message_bytes} are allowed");
        Err(GrpcError::MessageTooLarge(problem).into())
    }
}

fn malformed(problem: &str) -> Status {
    GrpcError::Malformed(problem.to_owned()).into()
}

async fn next_data(body: &mut Body) -> Result<Option<Bytes>, Status> {
    while !body.is_end_stream() {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        match frame.transpose()?.map(Frame::into_data) {
            None => return Ok(None),
            // Some clients, including tonic's, end a request with an empty frame.
            Some(Ok(data)) if !data.is_empty() => return Ok(Some(data)),
            // Ignores trailers.
            Some(_) => {}
        }
    }
    Ok(None)
}

/// The body of a successful response: one message, then trailers with the status.
struct Answer {
    message: Option<Bytes>,
    ended: bool,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        self.ended = true;
        let mut trailers = http::HeaderMap::with_capacity(1);
        trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A request body in the given pieces.
    pub(super) struct Pieces(pub(super) VecDeque<Bytes>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    async fn read(bytes: &[u8], piece: usize) -> Result<Bytes, Status> {
        let pieces = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        read_message(Body::new(Pieces(pieces)), 100).await
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((message.len() as u32).to_be_bytes());
        bytes.extend(message);
        bytes
    }

    #[tokio::test]
    async fn a_message_is_read_from_frames_of_any_size() {
        for length in [0, 1, 99, 100] {
            let message: Vec<u8> = (0..length).collect();
            let framed = framed(&message);
            for piece in [1, 3, 5, 6, 64, 1000] {
                let read = read(&framed, piece).await.expect("a complete message");
                assert!(read == message, "{length} bytes in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn an_empty_frame_at_the_end_does_not_cause_a_copy() {
        let framed = Bytes::from(framed(&[7; 50]));
        let pieces = [framed.clone(), Bytes::new()].into();
        let message = read_message(Body::new(Pieces(pieces)), 100).await;
        assert_eq!(message.unwrap().as_ptr(), framed[PREFIX..].as_ptr());
    }

    #[tokio::test]
    async fn anything_but_one_message_is_rejected() {
        let whole = framed(&[7; 50]);
        let mut compressed = whole.clone();
        compressed[0] = 1;
        let longer = [whole.as_slice(), &[0]].concat();
        let cases: [(&[u8], Code); 5] = [
            (b"", Code::InvalidArgument),
            (&whole[..4], Code::InvalidArgument),
            (&whole[..54], Code::InvalidArgument),
            (&longer, Code::InvalidArgument),
            (&compressed, Code::InvalidArgument),
        ];
        for (bytes, code) in cases {
            for piece in [1, 1000] {
                let status = read(bytes, piece).await.expect_err("it is refused");
                assert_eq!(status.code(), code, "{status}");
            }
        }
        let status = read(&framed(&[0; 101]), 1000).await;
        assert_eq!(status.expect_err("it is too long").code(), Code::OutOfRange);
    }
}
