//! Decoding with a limit on the number of fields.
//!
//! An empty field takes two bytes in an encoded message and a few hundred bytes in memory; a number in
//! a packed field takes one byte and eight bytes. So a limit on a message's size does not bound a
//! server's memory.
//!
//! A message that cannot be decoded fails with a reason: a request with INVALID_ARGUMENT, because the
//! caller is at fault, and a response with INTERNAL, because the server is.

use std::{any::TypeId, fmt, marker::PhantomData};

use bytes::{Buf, Bytes};
use prost::{
    Message, Name,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    ERROR_DOMAIN,
    inference::ModelInferRequest,
    teacher::v1::{StreamSoftTargetsRequest, StreamSoftTargetsResponse},
};

/// Maximum number of fields of a message. In messages that carry tensors, nested fields and the
/// dimensions of shapes count too.
pub const MAX_FIELDS: usize = 1 << 16;

/// Why a message is rejected.
#[derive(Debug, Clone, PartialEq)]
pub enum DecodeError {
    /// The message has more than [`MAX_FIELDS`] fields.
    TooManyFields,
    /// The bytes are not a message of the expected type.
    Malformed(prost::DecodeError),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyFields => write!(f, "it has more than {MAX_FIELDS} fields"),
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

impl DecodeError {
    /// The reason of gRPC's `ErrorInfo`, in UPPER_SNAKE_CASE.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooManyFields => "TOO_MANY_FIELDS",
            Self::Malformed(_) => "MALFORMED_MESSAGE",
        }
    }

    /// The status of a call whose message of type `T` cannot be decoded.
    fn status<T: Name>(&self) -> Status {
        let code = if T::NAME.ends_with("Request") {
            Code::InvalidArgument
        } else {
            Code::Internal
        };
        let details = ErrorDetails::with_error_info(self.reason(), ERROR_DOMAIN, []);
        Status::with_error_details(code, format!("{}: {self}", T::NAME), details)
    }
}

impl std::error::Error for DecodeError {}

/// Counts the fields of a message and decodes it.
///
/// # Errors
/// [`DecodeError`] if the message has too many fields or is malformed.
pub fn decode<T: Message + Default + 'static>(message: Bytes) -> Result<T, DecodeError> {
    let mut left = MAX_FIELDS;
    count(&message, nested::<T>(), &mut left)?;
    T::decode(message).map_err(DecodeError::Malformed)
}

/// The codec of all generated clients and servers: prost's codec, but it decodes with [`decode`].
#[derive(Debug, Clone)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

/// The decoder of [`BoundedCodec`].
#[derive(Debug, Clone)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

impl<U: Message + Name + Default + 'static> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let message = decode(buffer.copy_to_bytes(buffer.remaining()));
        message.map(Some).map_err(|error| error.status::<U>())
    }
}

/// A field, identified by its number, whose content counts towards the limit.
#[derive(Clone, Copy)]
enum Nested {
    /// A nested message, with those of its fields whose content counts too.
    Message(u32, &'static [Self]),
    /// Packed numbers; each byte may be a number.
    Packed(u32),
}

impl Nested {
    fn field(self) -> u32 {
        match self {
            Self::Message(field, _) | Self::Packed(field) => field,
        }
    }
}

/// The fields of a message of type `T` whose content counts in addition to its own fields.
fn nested<T: 'static>() -> &'static [Nested] {
    let tensors = [
        (TypeId::of::<ModelInferRequest>(), INFER_REQUEST),
        (TypeId::of::<StreamSoftTargetsRequest>(), BATCH),
        (TypeId::of::<StreamSoftTargetsResponse>(), SOFT_TARGETS),
    ];
    let found = tensors
        .into_iter()
        .find(|(message, _)| *message == TypeId::of::<T>());
    found.map_or(&[], |(_, nested)| nested)
}

/// The fields of `inference.ModelInferRequest`: shape, parameters and contents of inputs, parameters of
/// outputs. Of the contents, only the integer fields with variable-length encoding count; no model
/// accepts them.
const INFER_REQUEST: &[Nested] = &[
    Nested::Message(
        5,
        &[
            Nested::Packed(3),
            Nested::Message(4, &[]),
            Nested::Message(
                5,
                &[
                    Nested::Packed(2),
                    Nested::Packed(3),
                    Nested::Packed(4),
                    Nested::Packed(5),
                ],
            ),
        ],
    ),
    Nested::Message(6, &[Nested::Message(2, &[])]),
];

/// The shape of a batch's tensor.
const BATCH: &[Nested] = &[Nested::Message(
    2,
    &[Nested::Message(2, &[Nested::Packed(2)])],
)];

/// The shape of soft targets.
const SOFT_TARGETS: &[Nested] = &[Nested::Message(2, &[Nested::Packed(3)])];

/// Subtracts the fields of `message` from `left`. prost reports malformed messages later.
fn count(mut message: &[u8], nested: &[Nested], left: &mut usize) -> Result<(), DecodeError> {
    while let Ok((field, wire_type)) = decode_key(&mut message) {
        *left = left.checked_sub(1).ok_or(DecodeError::TooManyFields)?;
        if wire_type != WireType::LengthDelimited {
            if skip_field(wire_type, field, &mut message, DecodeContext::default()).is_err() {
                break;
            }
            continue;
        }
        let length = decode_varint(&mut message).ok();
        let Some(content) = length.and_then(|length| message.split_off(..length as usize)) else {
            break;
        };
        match nested.iter().find(|nested| nested.field() == field) {
            Some(Nested::Message(_, within)) => count(content, within, left)?,
            Some(Nested::Packed(_)) => {
                let rest = left.checked_sub(content.len());
                *left = rest.ok_or(DecodeError::TooManyFields)?;
            }
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inference::{
            InferTensorContents,
            model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
        },
        predict::v1::{ClassifyRequest, ClassifyResponse},
        teacher::v1::{
            Batch, Tensor, batch::Input, stream_soft_targets_request::Message as Request,
        },
    };

    fn is_rejected<T: Message + Default + 'static>(message: &T) -> bool {
        match decode::<T>(message.encode_to_vec().into()) {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error, DecodeError::TooManyFields);
                true
            }
        }
    }

    #[test]
    fn fields_count_at_every_level() {
        let many = MAX_FIELDS + 1;
        let request = ModelInferRequest::default;
        let input = |input| ModelInferRequest {
            inputs: vec![input],
            ..request()
        };
        let contents = |count| {
            input(InferInputTensor {
                contents: Some(InferTensorContents {
                    bytes_contents: vec![Bytes::new(); count],
                    ..InferTensorContents::default()
                }),
                ..InferInputTensor::default()
            })
        };
        let parameter = |number: usize| (number.to_string(), Default::default());
        let output = InferRequestedOutputTensor {
            parameters: (0..many).map(parameter).collect(),
            ..InferRequestedOutputTensor::default()
        };
        let cases = [
            (
                "raw contents",
                ModelInferRequest {
                    raw_input_contents: vec![Bytes::new(); many],
                    ..request()
                },
            ),
            (
                "inputs",
                ModelInferRequest {
                    inputs: vec![InferInputTensor::default(); many],
                    ..request()
                },
            ),
            (
                "outputs",
                ModelInferRequest {
                    outputs: vec![InferRequestedOutputTensor::default(); many],
                    ..request()
                },
            ),
            ("elements", contents(many)),
            (
                "an input's parameters",
                input(InferInputTensor {
                    parameters: (0..many).map(parameter).collect(),
                    ..InferInputTensor::default()
                }),
            ),
            (
                "an output's parameters",
                ModelInferRequest {
                    outputs: vec![output],
                    ..request()
                },
            ),
        ];
        for (name, request) in cases {
            assert!(is_rejected(&request), "{name}");
        }
        let shape = |shape| {
            input(InferInputTensor {
                shape,
                ..InferInputTensor::default()
            })
        };
        assert!(is_rejected(&shape(vec![1; many])), "dimensions");
        let batch = |dimensions| StreamSoftTargetsRequest {
            message: Some(Request::Batch(Batch {
                id: 1,
                input: Some(Input::Tensor(Tensor {
                    shape: vec![1; dimensions],
                    data: vec![0; 2 * many].into(),
                    ..Tensor::default()
                })),
                draw_seeds: vec![0; 2 * many].into(),
            })),
        };
        assert!(is_rejected(&batch(many)), "a batch's dimensions");
        assert!(!is_rejected(&batch(4)));
        // The input and its contents are two more fields.
        assert!(!is_rejected(&contents(MAX_FIELDS - 2)));
        assert!(is_rejected(&contents(MAX_FIELDS - 1)));
        assert!(is_rejected(&ClassifyRequest {
            images: vec![Bytes::new(); many],
            ..ClassifyRequest::default()
        }));
    }

    #[test]
    fn the_content_of_bytes_does_not_count() {
        // Each pair of bytes would be an empty field.
        let values = Bytes::from([0x0a, 0].repeat(MAX_FIELDS));
        let request = ModelInferRequest {
            raw_input_contents: vec![values; 2],
            ..ModelInferRequest::default()
        };
        let decoded = decode::<ModelInferRequest>(request.encode_to_vec().into());
        assert_eq!(decoded, Ok(request));
    }

    #[test]
    fn prost_reports_malformed_messages() {
        let whole = ModelInferRequest {
            model_name: "model".to_owned(),
            raw_input_contents: vec![Bytes::from_static(&[1, 2, 3])],
            ..ModelInferRequest::default()
        };
        let whole = Bytes::from(whole.encode_to_vec());
        for length in [1, 3, whole.len() - 1] {
            let cut = decode::<ModelInferRequest>(whole.slice(..length));
            assert!(matches!(cut, Err(DecodeError::Malformed(_))), "{cut:?}");
        }
    }

    #[test]
    fn a_bad_request_is_its_callers_fault_and_a_bad_response_is_not() {
        let error = DecodeError::TooManyFields;
        for (status, code, begins) in [
            (
                error.status::<ClassifyRequest>(),
                Code::InvalidArgument,
                "ClassifyRequest: ",
            ),
            (
                error.status::<ClassifyResponse>(),
                Code::Internal,
                "ClassifyResponse: ",
            ),
        ] {
            assert_eq!(status.code(), code);
            assert!(status.message().starts_with(begins), "{status}");
            let info = status.get_details_error_info().unwrap();
            assert_eq!(
                (info.reason.as_str(), info.domain.as_str()),
                ("TOO_MANY_FIELDS", "retort")
            );
        }
    }
}
