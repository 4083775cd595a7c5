//! Who answers at an address, and whether the run can use it.

use std::{fmt, net::SocketAddr, num::NonZero, time::Duration};

use artifacts::manifest::TeacherIdentity;
use proto::teacher::v1::{
    DescribeRequest, DescribeResponse, teacher_service_client::TeacherServiceClient,
};
use server::security::client::{Channel, Credentials};
use soft_targets::{ClassMatch, Encoding};
use tokio::time::timeout;

use super::{
    BatchSize, ExpectedTeacher, health,
    parts::{ImageBytes, MAX_ANSWER_BYTES},
    roster::Place,
};
use crate::config::NumericsPolicy;

/// Deadline for connecting and asking who is there.
const MEET_TIMEOUT: Duration = Duration::from_secs(5);

/// Somebody who answered.
pub(super) struct Candidate {
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

/// The teacher whose identity all others must share.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub origin: Origin,
    pub identity: TeacherIdentity,
    /// In logit order; those of the first teacher that is there.
    pub class_names: Option<Vec<String>>,
}

/// Where the reference is known from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// It is there, the first that fits.
    Place(Place),
    /// The run used it before it was interrupted.
    Checkpoint,
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

impl Reference {
    /// Whether `candidate` may answer beside the reference.
    ///
    /// # Errors
    /// How they differ, for people, both sides named.
    pub fn admits(
        &self,
        candidate: &Candidate,
        expected: &ExpectedTeacher,
        policy: NumericsPolicy,
    ) -> Result<(), String> {
        self.agrees(&candidate.identity, policy)?;
        let by_name = expected.class_names.is_some();
        match &self.class_names {
            Some(names) if by_name && *names != candidate.class_names => Err(format!(
                "has the same weights as {}, but names its classes otherwise or in another order",
                self.origin
            )),
            _ => Ok(()),
        }
    }

    fn agrees(&self, identity: &TeacherIdentity, policy: NumericsPolicy) -> Result<(), String> {
        let Self {
            origin,
            identity: own,
            ..
        } = self;
        if identity.model_id != own.model_id {
            return Err(format!(
                "is model {}, but the run uses model {} of {origin}",
                identity.model_id, own.model_id
            ));
        }
        match policy {
            NumericsPolicy::Any => Ok(()),
            NumericsPolicy::Same if identity == own => Ok(()),
            NumericsPolicy::Same => Err(format!(
                "has the same weights but computes with `{}` (probe {}), while {origin} computes \
                 with `{}` (probe {}); make them alike, or set teacher.numerics = \"any\" and give \
                 up reproducible bits",
                identity.numerics, identity.probe_sha256, own.numerics, own.probe_sha256
            )),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => write!(f, "{place}"),
            Self::Checkpoint => f.write_str("the teacher before the interruption"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(model_id: &str, numerics: &str, probe_sha256: &str) -> TeacherIdentity {
        TeacherIdentity {
            model_id: model_id.into(),
            numerics: numerics.into(),
            probe_sha256: probe_sha256.into(),
        }
    }

    #[test]
    fn only_the_same_bits_agree_unless_any_will_do() {
        let reference = Reference {
            origin: Origin::Place(Place::new("first:1", None)),
            identity: identity("m", "bf16", "p"),
            class_names: None,
        };
        let agrees = |identity: &TeacherIdentity, policy| reference.agrees(identity, policy);
        assert!(agrees(&identity("m", "bf16", "p"), NumericsPolicy::Same).is_ok());
        for (other, both) in [
            (
                identity("m", "f32", "q"),
                ["`f32` (probe q)", "`bf16` (probe p)"],
            ),
            // The descriptor knows nothing of a difference that the probe shows.
            (identity("m", "bf16", "q"), ["(probe q)", "(probe p)"]),
        ] {
            let error = agrees(&other, NumericsPolicy::Same).unwrap_err();
            assert!(error.contains("first:1"), "{error}");
            for side in both {
                assert!(error.contains(side), "{side} is not in: {error}");
            }
            assert!(agrees(&other, NumericsPolicy::Any).is_ok());
        }
        let other = identity("n", "bf16", "p");
        for policy in [NumericsPolicy::Same, NumericsPolicy::Any] {
            let error = agrees(&other, policy).unwrap_err();
            assert!(
                error.contains("model n") && error.contains("model m"),
                "{error}"
            );
        }
        let before = Reference {
            origin: Origin::Checkpoint,
            ..reference
        };
        let error = before.agrees(&other, NumericsPolicy::Same).unwrap_err();
        assert_eq!(
            error,
            "is model n, but the run uses model m of the teacher before the interruption"
        );
    }
}
