//! A teacher service: classifies pictures for the web page of `http.demo_page`, and gives the logits that a canary's
//! are compared with.

use std::time::Duration;

use bytes::Bytes;
use datasets::Values;
use futures::stream;
use proto::teacher::v1::{
    Batch, DataType, DescribeRequest, DescribeResponse, Open, StreamSoftTargetsRequest, Tensor,
    TensorSpec, batch, stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
    teacher_service_client::TeacherServiceClient,
};
use server::security::client::{Channel, Credentials};
use soft_targets::{ClassMatch, Encoding, SoftTargets, interpolation_from_wire};
use tokio::time::timeout;

use crate::{
    classification::{Classifier, RankedClass, rank},
    error::InferenceError,
};

/// Time limit for connecting and for the description, and then for the logits.
const PATIENCE: Duration = Duration::from_secs(10);

/// A teacher service at an address.
#[derive(Debug)]
pub(crate) struct Teacher {
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

impl Teacher {
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
        let picture = tensor(Values::Uint8(pixels), 1, &shape);
        let targets = in_time(soft_targets(&mut client, &teacher, picture, 1)).await;
        let logits: Vec<f32> = targets.map_err(unavailable)?.logits().collect();
        Ok(rank(&logits, &teacher.class_names, top_k))
    }

    /// The logits [samples, classes] of raw samples of `shape`, [channels, height, width] or [values], with the classes
    /// in the order of `class_names`.
    ///
    /// # Errors
    /// A message that follows the teacher's name, if the teacher is away, takes other samples or knows other classes.
    pub(crate) async fn logits(
        &self,
        values: Values,
        shape: &[usize],
        class_names: &[String],
    ) -> Result<Vec<f32>, String> {
        let (mut client, teacher) = in_time(self.describe()).await?;
        check_input(&teacher.inputs, &values, shape)?;
        let classes = ClassMatch::of(&teacher.class_names, class_names);
        let classes = classes.map_err(|differ| {
            let lists = differ.lists("the teacher", "the model");
            format!("knows other classes: {lists}")
        })?;
        let values_per_sample = shape.iter().product::<usize>().max(1);
        let samples = match &values {
            Values::Uint8(pixels) => pixels.len(),
            Values::Fp32(rows) => rows.len(),
        } / values_per_sample;
        let tensor = tensor(values, samples, shape);
        let targets = in_time(soft_targets(&mut client, &teacher, tensor, samples)).await?;
        let targets = match classes {
            ClassMatch::Same | ClassMatch::Unnamed => targets,
            ClassMatch::Reordered(order) => targets.reordered(&order),
        };
        Ok(targets.logits().collect())
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

/// Checks that a teacher takes samples of `shape` without another resize.
fn check_input(inputs: &[TensorSpec], values: &Values, shape: &[usize]) -> Result<(), String> {
    let wanted = match values {
        Values::Uint8(_) => DataType::U8,
        Values::Fp32(_) => DataType::F32,
    };
    let takes = inputs.iter().map(|input| {
        let sizes = input.shape.iter().skip(1);
        let fits = |(found, size): (&i64, &usize)| *found == -1 || *found == *size as i64;
        input.data_type() == wanted
            && input.shape.len() == shape.len() + 1
            && sizes.zip(shape).all(fits)
    });
    if takes.collect::<Vec<_>>() == [true] {
        return Ok(());
    }
    let found: Vec<_> = inputs.iter().map(|input| &input.shape).collect();
    Err(format!(
        "takes batches of shape {found:?}, but the model's samples have the shape {shape:?}"
    ))
}

/// `samples` samples of `shape` as a message.
fn tensor(values: Values, samples: usize, shape: &[usize]) -> Tensor {
    let (data_type, data) = match values {
        Values::Uint8(pixels) => (DataType::U8, Bytes::from(pixels)),
        Values::Fp32(rows) => {
            let bytes: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
            (DataType::F32, bytes.into())
        }
    };
    let sizes = std::iter::once(samples).chain(shape.iter().copied());
    Tensor {
        data_type: data_type.into(),
        shape: sizes.map(|size| size as u64).collect(),
        data,
    }
}

/// The soft targets of `samples` samples, over a stream of its own.
async fn soft_targets(
    client: &mut TeacherServiceClient<Channel>,
    teacher: &DescribeResponse,
    tensor: Tensor,
    samples: usize,
) -> Result<SoftTargets, String> {
    let encoding = Encoding::F32;
    let open = Request::Open(Open {
        model_id: teacher.model_id.clone(),
        numerics: teacher.numerics.clone(),
        ..encoding.to_open()
    });
    let batch = Request::Batch(Batch {
        id: 1,
        input: Some(batch::Input::Tensor(tensor)),
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
                let targets = SoftTargets::from_wire(targets, encoding, samples, classes);
                return targets.map_err(|problem| format!("answered {problem}"));
            }
            Some(Response::BatchError(error)) => {
                return Err(format!("refuses the samples: {}", error.reason));
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

    #[test]
    fn samples_of_another_type_or_shape_are_not_sent() {
        let input = |data_type: DataType, shape: &[i64]| TensorSpec {
            name: "x".to_owned(),
            data_type: data_type.into(),
            shape: shape.to_vec(),
        };
        let pixels = Values::Uint8(Vec::new());
        let row = Values::Fp32(Vec::new());
        let images = input(DataType::U8, &[-1, 3, 32, 48]);
        for (inputs, values, shape, fits) in [
            (vec![images.clone()], &pixels, &[3, 32, 48][..], true),
            (vec![images.clone()], &pixels, &[3, 48, 32], false),
            (vec![images.clone()], &row, &[3, 32, 48], false),
            (vec![images.clone(), images], &pixels, &[3, 32, 48], false),
            (Vec::new(), &pixels, &[3, 32, 48], false),
            (
                vec![input(DataType::U8, &[-1, 3, -1, -1])],
                &pixels,
                &[3, 7, 9],
                true,
            ),
            (vec![input(DataType::F32, &[-1, 4])], &row, &[4], true),
            (vec![input(DataType::F32, &[-1, 4])], &row, &[5], false),
        ] {
            let found = check_input(&inputs, values, shape);
            assert_eq!(found.is_ok(), fits, "{inputs:?} {shape:?}");
        }
    }
}
