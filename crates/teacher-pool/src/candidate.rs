//! A teacher that answers at an address, and whether the run can use it.

use std::{net::SocketAddr, num::NonZero, time::Duration};

use artifacts::manifest::TeacherIdentity;
use datasets::Interpolation;
use proto::teacher::v1::{
    self as wire, DescribeRequest, DescribeResponse, teacher_service_client::TeacherServiceClient,
};
use server::{
    back_off::BackOff,
    security::client::{Channel, Credentials},
};
use soft_targets::{ClassMatch, Encoding, interpolation_from_wire, tensor_from_wire};
use tensors::{Dimension, Dimensions, TensorSpec};
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
    /// Fingerprint of the training split that the teacher has; `None` if it has no data.
    pub data_fingerprint: Option<String>,
    inputs: Vec<wire::TensorSpec>,
    /// As in the message: it may be one that this version does not know.
    interpolation: i32,
    /// In logit order.
    class_names: Vec<String>,
    max_message_bytes: Option<NonZero<u64>>,
    /// As in the message: it may contain kinds that this version does not know.
    encodings: Vec<i32>,
}

/// What a teacher takes and answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interface {
    /// A batch of samples of a fixed shape.
    pub input: TensorSpec,
    /// How images are resized to the size of the input.
    pub interpolation: Interpolation,
    /// In logit order.
    pub class_names: Vec<String>,
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
            data_fingerprint: Some(described.data_fingerprint).filter(|it| !it.is_empty()),
            inputs: described.inputs,
            interpolation: described.interpolation,
            class_names: described.class_names,
            max_message_bytes: NonZero::new(described.max_message_bytes),
            encodings: described.encodings,
        }
    }

    /// Checks that the teacher's input, classes, encodings and message limit fit the run; returns its input and classes.
    ///
    /// # Errors
    /// What does not fit, in words for the user.
    pub fn check(
        &self,
        expected: &ExpectedTeacher,
        encoding: Encoding,
    ) -> Result<Interface, String> {
        let input = read_input(&self.inputs)?;
        let interpolation = interpolation_from_wire(self.interpolation)?;
        let class_names = &self.class_names;
        let wanted = &expected.input;
        if input.data_type != wanted.data_type || !fits(&input.dimensions, &wanted.dimensions) {
            return Err(format!(
                "takes {} {}, but the run's data are {} {}",
                input.data_type, input.dimensions, wanted.data_type, wanted.dimensions
            ));
        }
        let classes = expected.classes;
        if class_names.len() != classes {
            return Err(format!(
                "knows {} classes, but the run's data have {classes}",
                class_names.len()
            ));
        }
        if let Some(names) = &expected.class_names {
            ClassMatch::of(class_names, names).map_err(|differ| {
                format!(
                    "{differ}; set data.class_names to the teacher's names, or set \
                     soft_targets.class_names = \"ignore\" if both mean the same classes"
                )
            })?;
        }
        if !self.encodings.contains(&encoding.kind().into()) {
            return Err(format!(
                "does not offer soft targets as {encoding}: update the teacher, or choose another \
                 teacher.encoding"
            ));
        }
        let interface = Interface {
            input,
            interpolation,
            class_names: class_names.clone(),
        };
        self.check_messages(&interface, expected, encoding)?;
        Ok(interface)
    }

    /// Returns how many images fit into one request and its answer.
    pub fn images_per_request(&self, interface: &Interface, encoding: Encoding) -> usize {
        interface
            .bytes_per_image(encoding)
            .images_per_message(self.max_message_bytes)
    }

    fn check_messages(
        &self,
        interface: &Interface,
        expected: &ExpectedTeacher,
        encoding: Encoding,
    ) -> Result<(), String> {
        let image = interface.bytes_per_image(encoding);
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

impl Interface {
    /// Checks that another teacher takes and answers the same as `reference`, the first teacher of the run.
    ///
    /// # Errors
    /// What differs, in words for the user.
    pub fn check_same(&self, reference: &Self, expected: &ExpectedTeacher) -> Result<(), String> {
        let takes = |interface: &Self| {
            let TensorSpec {
                data_type,
                dimensions,
                ..
            } = &interface.input;
            format!("{data_type} {dimensions}")
        };
        let (own, others) = (takes(self), takes(reference));
        if own != others {
            return Err(format!(
                "takes {own}, but the first teacher of the run takes {others}"
            ));
        }
        let (own, others) = (self.interpolation, reference.interpolation);
        if own != others {
            return Err(format!(
                "wants {own} images, but the first teacher of the run wants {others} ones"
            ));
        }
        if expected.class_names.is_some() && self.class_names != reference.class_names {
            return Err(
                "has the same weights as the first teacher of the run, but other class names or \
                 another order of them"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn bytes_per_image(&self, encoding: Encoding) -> BytesPerImage {
        // Both are known: see `read_input`.
        let values = self.input.dimensions.sample_values().unwrap_or(usize::MAX);
        let value_bytes = self.input.data_type.size().unwrap_or(1);
        let request = (values as u64).saturating_mul(value_bytes as u64);
        BytesPerImage::new(request, encoding, self.class_names.len())
    }
}

/// Reads the only input of a teacher, whose samples must have a fixed size.
fn read_input(inputs: &[wire::TensorSpec]) -> Result<TensorSpec, String> {
    let input = match inputs {
        [input] => tensor_from_wire(input.clone())
            .map_err(|problem| format!("describes an unknown input: {problem}"))?,
        [] => {
            return Err(
                "does not describe its input: it is of another release than this trainer"
                    .to_owned(),
            );
        }
        inputs => return Err(format!("has {} inputs; a run sends one", inputs.len())),
    };
    match input.dimensions.sample_values() {
        Some(_) => Ok(input),
        None => Err(format!(
            "takes {input}, whose samples have no fixed size; set the size in the teacher's \
             configuration"
        )),
    }
}

/// Whether samples of `wanted` can be made in the shape of `offered`, which is fixed except for the batch.
fn fits(offered: &Dimensions, wanted: &Dimensions) -> bool {
    let mut pairs = offered.0.iter().zip(&wanted.0);
    offered.rank() == wanted.rank()
        && pairs.all(|pair| match pair {
            (Dimension::Fixed(offered), wanted) => wanted.accepts(*offered),
            (offered, wanted) => offered == wanted,
        })
}
