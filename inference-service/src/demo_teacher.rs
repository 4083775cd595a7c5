//! The teacher on the web page of `http.demo_page`: sends pictures to a teacher service.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use proto::teacher::v1::{
    Batch, DataType, DescribeRequest, DescribeResponse, Open, StreamSoftTargetsRequest, Tensor,
    TensorSpec, batch, stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
    teacher_service_client::TeacherServiceClient,
};
use server::security::client::{Channel, Credentials};
use soft_targets::{Encoding, SoftTargets, interpolation_from_wire};
use tokio::time::timeout;

use crate::{
    classification::{Classifier, RankedClass, rank},
    error::InferenceError,
};

/// Time limit for connecting and for the description, and then for the logits.
const PATIENCE: Duration = Duration::from_secs(10);

/// A teacher service at an address.
#[derive(Debug)]
pub(crate) struct DemoTeacher {
    address: String,
}

/// Why the teacher did not classify a picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TeacherError {
    /// The picture cannot be used.
    #[error(transparent)]
    Picture(#[from] InferenceError),
    /// The teacher is away, or does not classify pictures.
    #[error("the teacher at {address} {problem}")]
    Unavailable {
        /// Its address.
        address: String,
        /// What it does instead.
        problem: String,
    },
}

impl DemoTeacher {
    /// The teacher at `host:port`.
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
        }
    }

    /// `host:port`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The `top_k` most probable classes of the PNG, JPEG or WebP file `picture`.
    ///
    /// Connects for every picture: the teacher may come and go, and pictures are rare.
    ///
    /// # Errors
    /// [`TeacherError`].
    pub(crate) async fn classify(
        &self,
        classifier: &Classifier,
        picture: Bytes,
        top_k: usize,
    ) -> Result<Vec<RankedClass>, TeacherError> {
        let unavailable = |problem| TeacherError::Unavailable {
            address: self.address.clone(),
            problem,
        };
        let (mut client, teacher) = in_time(self.describe()).await.map_err(unavailable)?;
        let shape = picture_shape(&teacher.inputs).map_err(unavailable)?;
        let interpolation = interpolation_from_wire(teacher.interpolation).map_err(unavailable)?;
        let pixels = classifier.render(picture, shape, interpolation).await?;
        let logits = in_time(logits(&mut client, &teacher, shape, pixels)).await;
        Ok(rank(
            &logits.map_err(unavailable)?,
            &teacher.class_names,
            top_k,
        ))
    }

    async fn describe(&self) -> Result<(TeacherServiceClient<Channel>, DescribeResponse), String> {
        let credentials = Credentials::default();
        let channel = credentials.connect(&self.address).await;
        let channel = channel.map_err(|error| format!("cannot be reached: {error}"))?;
        let mut client = TeacherServiceClient::new(channel);
        let teacher = client.describe(DescribeRequest {}).await;
        let teacher = teacher.map_err(|status| format!("answered: {}", status.message()))?;
        Ok((client, teacher.into_inner()))
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let answer = timeout(PATIENCE, answer).await;
    answer.unwrap_or_else(|_| Err(format!("did not answer within {PATIENCE:?}")))
}

/// [channels, height, width] of a teacher's pictures.
fn picture_shape(inputs: &[TensorSpec]) -> Result<[usize; 3], String> {
    let shape = match inputs {
        [input] if input.data_type() == DataType::U8 => &input.shape[..],
        _ => return Err("does not take pictures".to_owned()),
    };
    let size = |size: i64| usize::try_from(size).ok().filter(|size| *size > 0);
    match shape {
        [_, channels @ (1 | 3), height, width] => match (size(*height), size(*width)) {
            (Some(height), Some(width)) => Ok([*channels as usize, height, width]),
            _ => Err("takes pictures of any size; set model.preprocessing.size there".to_owned()),
        },
        _ => Err(format!("takes batches of shape {shape:?}, not pictures")),
    }
}

/// The logits of one picture, over a stream of its own.
async fn logits(
    client: &mut TeacherServiceClient<Channel>,
    teacher: &DescribeResponse,
    shape: [usize; 3],
    pixels: Vec<u8>,
) -> Result<Vec<f32>, String> {
    let encoding = Encoding::F32;
    let open = Request::Open(Open {
        model_id: teacher.model_id.clone(),
        numerics: teacher.numerics.clone(),
        ..encoding.to_open()
    });
    let batch = Request::Batch(Batch {
        id: 1,
        input: Some(batch::Input::Tensor(Tensor {
            data_type: DataType::U8.into(),
            shape: [1]
                .into_iter()
                .chain(shape)
                .map(|size| size as u64)
                .collect(),
            data: pixels.into(),
        })),
        ..Batch::default()
    });
    // Every teacher grants at least one batch, so the batch need not wait for the credit.
    let requests = [open, batch].map(|message| StreamSoftTargetsRequest {
        message: Some(message),
    });
    let answered = |status: tonic::Status| format!("answered: {}", status.message());
    let responses = client.stream_soft_targets(stream::iter(requests)).await;
    let mut responses = responses.map_err(answered)?.into_inner();
    while let Some(response) = responses.message().await.map_err(answered)? {
        match response.message {
            Some(Response::SoftTargets(targets)) => {
                let classes = teacher.class_names.len();
                let targets = SoftTargets::from_wire(targets, encoding, 1, classes);
                let targets = targets.map_err(|problem| format!("answered {problem}"))?;
                return Ok(targets.logits().collect());
            }
            Some(Response::BatchError(error)) => {
                return Err(format!("refuses the picture: {}", error.reason));
            }
            Some(Response::Draining(_)) => return Err("is shutting down".to_owned()),
            Some(Response::Opened(_) | Response::Credit(_)) | None => {}
        }
    }
    Err("ended the stream without an answer".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pictures_of_a_known_size_are_sent() {
        let input = |data_type: DataType, shape: &[i64]| TensorSpec {
            name: "x".to_owned(),
            data_type: data_type.into(),
            shape: shape.to_vec(),
        };
        let of = |data_type, shape: &[i64]| picture_shape(&[input(data_type, shape)]);
        assert_eq!(of(DataType::U8, &[-1, 3, 32, 48]), Ok([3, 32, 48]));
        for (data_type, shape, expected) in [
            (DataType::F32, &[-1, 30][..], "does not take pictures"),
            (DataType::U8, &[-1, 3, -1, -1], "any size"),
            (DataType::U8, &[-1, 4, 32, 32], "[-1, 4, 32, 32]"),
            (DataType::U8, &[-1, 30], "[-1, 30]"),
        ] {
            let problem = of(data_type, shape).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
        assert!(picture_shape(&[]).is_err());
    }
}
