//! A teacher that answers at an address, and whether the run can use it.

use std::{net::SocketAddr, num::NonZero, time::Duration};

use artifacts::manifest::TeacherIdentity;
use proto::teacher::v1::{
    DescribeRequest, DescribeResponse, teacher_service_client::TeacherServiceClient,
};
use server::{
    back_off::BackOff,
    security::client::{Channel, Credentials},
};
use soft_targets::{ClassMatch, Encoding};
use tokio::time::timeout;

use crate::{
    expected::{BatchSize, ExpectedTeacher},
    health,
    parts::{BytesPerImage, MAX_ANSWER_BYTES},
    teacher::TeacherAddress,
};

/// Time limit for connecting, the health check and `Describe`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A teacher that has answered.
pub(crate) struct Candidate {
    pub client: TeacherServiceClient<Channel>,
    /// The connection that `client` uses.
    pub channel: Channel,
    pub identity: TeacherIdentity,
    /// Identifies the process; `None` if the teacher reports no id.
    pub instance: Option<String>,
    /// In logit order.
    pub class_names: Vec<String>,
    input_shape: Vec<u64>,
    max_message_bytes: Option<NonZero<u64>>,
    /// As in the message: it may contain kinds that this version does not know.
    encodings: Vec<i32>,
}

/// Returns the pauses between attempts to connect.
pub(crate) fn reconnect_back_off() -> BackOff {
    BackOff::new(Duration::from_millis(50), Duration::from_secs(2))
}

impl Candidate {
    /// Connects to `address`, checks the health of the teacher there, and asks it to describe itself.
    ///
    /// # Errors
    /// Why the teacher is unavailable, in words for the user.
    pub async fn connect(
        teacher: &TeacherAddress,
        address: SocketAddr,
        credentials: &Credentials,
    ) -> Result<Self, String> {
        let connect = async {
            let channel = credentials.connect_to(teacher.endpoint(), address).await;
            let channel = channel.map_err(|error| error.to_string())?;
            health::check(channel.clone()).await?;
            let mut client = TeacherServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_ANSWER_BYTES);
            let described = client
                .describe(DescribeRequest {})
                .await
                .map_err(|status| {
                    format!("failed to describe itself: {}", credentials.reason(&status))
                })?;
            Ok(Self::new(channel, client, described.into_inner()))
        };
        timeout(CONNECT_TIMEOUT, connect)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {CONNECT_TIMEOUT:?}")))
    }

    fn new(
        channel: Channel,
        client: TeacherServiceClient<Channel>,
        described: DescribeResponse,
    ) -> Self {
        let numerics = described.numerics.unwrap_or_default();
        Self {
            client,
            channel,
            identity: TeacherIdentity {
                model_id: described.model_id,
                numerics: numerics.descriptor,
                probe_sha256: numerics.probe_sha256,
            },
            instance: Some(described.instance_id).filter(|id| !id.is_empty()),
            class_names: described.class_names,
            input_shape: described.input_shape,
            max_message_bytes: NonZero::new(described.max_message_bytes),
            encodings: described.encodings,
        }
    }

    /// Checks that the teacher's input, classes, encodings and message limit fit the run.
    ///
    /// # Errors
    /// What does not fit, in words for the user.
    pub fn check(&self, expected: &ExpectedTeacher, encoding: Encoding) -> Result<(), String> {
        let ExpectedTeacher {
            input_shape,
            classes,
            ..
        } = *expected;
        if self.input_shape != input_shape.map(|size| size as u64) {
            return Err(format!(
                "takes images of shape {:?}, but the run's data have {input_shape:?}",
                self.input_shape
            ));
        }
        if self.class_names.len() != classes {
            return Err(format!(
                "knows {} classes, but the run's data have {classes}",
                self.class_names.len()
            ));
        }
        if let Some(names) = &expected.class_names {
            ClassMatch::of(&self.class_names, names).map_err(|differ| {
                format!(
                    "{differ}; set data.class_names to the teacher's names, or set \
                     soft_targets.class_names = \"ignore\" if both mean the same classes"
                )
            })?;
        }
        if !self.encodings.contains(&encoding.to_wire().0.into()) {
            return Err(format!(
                "does not offer soft targets as {encoding}: update the teacher, or choose another \
                 teacher.encoding"
            ));
        }
        self.check_messages(expected, encoding)
    }

    /// Returns how many images fit into one request and its answer.
    pub fn images_per_request(&self, expected: &ExpectedTeacher, encoding: Encoding) -> usize {
        BytesPerImage::new(expected.input_shape, encoding, expected.classes)
            .images_per_message(self.max_message_bytes)
    }

    fn check_messages(&self, expected: &ExpectedTeacher, encoding: Encoding) -> Result<(), String> {
        let image = BytesPerImage::new(expected.input_shape, encoding, expected.classes);
        let fitting = image.images_per_message(self.max_message_bytes);
        let BatchSize { images, key } = &expected.largest_batch;
        image.check(*images, fitting).map_err(|needed| {
            let limit = match self.max_message_bytes {
                Some(bytes) => format!("its grpc.max_message_bytes is {bytes}"),
                None => format!("a trainer reads at most {MAX_ANSWER_BYTES} bytes"),
            };
            format!(
                "accepts at most {fitting} images, or their soft targets as {encoding}, per message \
                 ({limit}), but {key} = {images} needs messages of {needed} bytes; raise the teacher's \
                 grpc.max_message_bytes, lower {key}, or choose a smaller teacher.encoding"
            )
        })
    }
}
