//! Who answers at an address, and whether the run can use it.

use std::{net::SocketAddr, num::NonZero, time::Duration};

use artifacts::manifest::TeacherIdentity;
use proto::teacher::v1::{
    DescribeRequest, DescribeResponse, teacher_service_client::TeacherServiceClient,
};
use server::security::client::{Channel, Credentials};
use soft_targets::{ClassMatch, Encoding};
use tokio::time::timeout;

use crate::{
    expected::{BatchSize, ExpectedTeacher},
    health,
    parts::{ImageBytes, MAX_ANSWER_BYTES},
    place::Place,
};

/// Deadline for connecting and asking who is there.
const MEET_TIMEOUT: Duration = Duration::from_secs(5);

/// Somebody who answered.
pub(crate) struct Candidate {
    pub client: TeacherServiceClient<Channel>,
    /// The connection below the client.
    pub channel: Channel,
    pub identity: TeacherIdentity,
    /// Tells the process from every other one; absent where it says none.
    pub instance: Option<String>,
    /// In logit order.
    pub class_names: Vec<String>,
    input_shape: Vec<u64>,
    max_message_bytes: Option<NonZero<u64>>,
    /// As in the message: kinds that this version does not know among them.
    encodings: Vec<i32>,
}

impl Candidate {
    /// Connects to `address`, one of those that the endpoint of `place` stands for, asks whether the
    /// teacher there serves, and who it is.
    ///
    /// # Errors
    /// Why it cannot be used, for people.
    pub async fn meet(
        place: &Place,
        address: SocketAddr,
        credentials: &Credentials,
    ) -> Result<Self, String> {
        let meet = async {
            let channel = credentials.connect_to(place.endpoint(), address).await;
            let channel = channel.map_err(|error| error.to_string())?;
            health::check(channel.clone()).await?;
            let mut client = TeacherServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_ANSWER_BYTES);
            let described = client
                .describe(DescribeRequest {})
                .await
                .map_err(|status| {
                    format!("does not describe itself: {}", credentials.reason(&status))
                })?;
            Ok(Self::new(channel, client, described.into_inner()))
        };
        timeout(MEET_TIMEOUT, meet)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {MEET_TIMEOUT:?}")))
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

    /// Whether its input and output fit the run's data, and its answers what the run asks for.
    ///
    /// # Errors
    /// What does not fit, for people.
    pub fn fits(&self, expected: &ExpectedTeacher, encoding: Encoding) -> Result<(), String> {
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
                    "{differ}; give data.class_names the teacher's names, or set \
                     soft_targets.class_names = \"ignore\" where they mean the same"
                )
            })?;
        }
        if !self.encodings.contains(&encoding.to_wire().0.into()) {
            return Err(format!(
                "does not offer soft targets as {encoding}; it is too old, or teacher.encoding asks \
                 for too much"
            ));
        }
        self.check_messages(expected, encoding)
    }

    /// Images that one request may ask for.
    pub fn images_a_request(&self, expected: &ExpectedTeacher, encoding: Encoding) -> usize {
        ImageBytes::new(expected.input_shape, encoding, expected.classes)
            .fitting(self.max_message_bytes)
    }

    fn check_messages(&self, expected: &ExpectedTeacher, encoding: Encoding) -> Result<(), String> {
        let image = ImageBytes::new(expected.input_shape, encoding, expected.classes);
        let fitting = image.fitting(self.max_message_bytes);
        let BatchSize { images, key } = &expected.largest_batch;
        image.check(*images, fitting).map_err(|needed| {
            let limit = match self.max_message_bytes {
                Some(bytes) => format!("its grpc.max_message_bytes is {bytes}"),
                None => format!("a trainer reads no more than {MAX_ANSWER_BYTES} bytes"),
            };
            format!(
                "takes messages with {fitting} images or their soft targets as {encoding} at most \
                 ({limit}), and {key} = {images} needs messages of {needed} bytes; raise the teacher's \
                 grpc.max_message_bytes, or lower {key}, or choose a smaller teacher.encoding"
            )
        })
    }
}
