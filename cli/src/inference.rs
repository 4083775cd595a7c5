//! Client of an inference service, over the Open Inference Protocol v2.

use std::{collections::HashMap, time::Duration};

use artifacts::manifest::{ArtifactManifest, Preprocessing};
use proto::{
    inference::{
        ModelConfig, ModelMetadataResponse, ModelParameter, model_metadata_response::TensorMetadata,
    },
    publish::v1::{
        ListVersionsRequest, ModelVersion, publisher_service_client::PublisherServiceClient,
    },
};
use retort_client::{Client, InferRequest, Tensor};
use serde::de::DeserializeOwned;
use server::security::client::Channel;
use tonic::Request;

use crate::{CliError, client::Remote};

const FP32: &str = "FP32";
const DEADLINE: Duration = Duration::from_secs(30);

/// Largest response of an admin port, with room for the versions of a large store; tonic's default is 4 MiB.
const MAX_ADMIN_ANSWER_BYTES: usize = 64 << 20;

/// What a client must know of a model to send samples and to name their classes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelDescription {
    /// In the order of the logits.
    pub class_names: Vec<String>,
    /// How images become the model's input.
    pub preprocessing: Option<Preprocessing>,
}

impl ModelDescription {
    /// How images become the model's input.
    pub(crate) fn of_images(&self) -> Result<&Preprocessing, CliError> {
        self.preprocessing.as_ref().ok_or_else(|| {
            let message =
                "the service does not say how images become the model's input; use --manifest";
            CliError::Usage(message.to_owned())
        })
    }
}

impl From<ArtifactManifest> for ModelDescription {
    fn from(manifest: ArtifactManifest) -> Self {
        Self {
            class_names: manifest.class_names,
            preprocessing: manifest.preprocessing,
        }
    }
}

/// One model of an inference service; a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct ServedModel {
    remote: Remote,
    client: Client,
    model: String,
    version: Option<u64>,
    input: String,
    output: String,
    /// Of one sample.
    shape: Vec<usize>,
}

impl ServedModel {
    /// Connects and reads the model's interface. Without `version`, each call uses the active version.
    pub(crate) async fn connect(
        remote: Remote,
        model: &str,
        version: Option<u64>,
    ) -> Result<Self, CliError> {
        let client = remote.inference_client()?;
        let metadata = client.metadata(model, version).await;
        let metadata = metadata.map_err(remote.failed())?;
        let (input, output, shape) =
            interface(&metadata).map_err(|problem| remote.invalid_answer(problem))?;
        Ok(Self {
            remote,
            client,
            model: model.to_owned(),
            version,
            input,
            output,
            shape,
        })
    }

    /// Reads the model's class names and preprocessing from the parameters of its configuration.
    pub(crate) async fn description(&self) -> Result<ModelDescription, CliError> {
        let parameters = self.config().await?.parameters;
        read_description(&parameters).map_err(|problem| self.remote.invalid_answer(problem))
    }

    /// The most samples of one call, 1 or more.
    pub(crate) async fn largest_batch(&self) -> Result<usize, CliError> {
        // 0 stands for a model without a batch dimension, which takes one sample.
        let largest = self.config().await?.max_batch_size;
        Ok(usize::try_from(largest).unwrap_or_default().max(1))
    }

    async fn config(&self) -> Result<ModelConfig, CliError> {
        let config = self.client.config(&self.model, self.version).await;
        config.map_err(self.remote.failed())
    }

    /// Shape of one sample: [channels, height, width] or [values].
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Logits [samples, classes] of whole samples, given as the model's input: [samples, channels, height, width],
    /// normalized, or [samples, values].
    pub(crate) async fn infer(&self, samples: &[f32]) -> Result<Vec<f32>, CliError> {
        let request = self.request(samples)?;
        let response = self.client.infer(&request).await;
        let response = response.map_err(self.remote.failed())?;
        let output = response.output(&self.output);
        let logits = output.and_then(|output| output.values::<f32>().ok());
        let logits = logits.filter(|logits| !logits.is_empty());
        logits.ok_or_else(|| {
            let problem = format!("no FP32 output `{}`", self.output);
            self.remote.invalid_answer(problem)
        })
    }

    /// The number of samples that the server has answered, according to its own statistics. Without a
    /// version, the sum of all versions of the model.
    pub(crate) async fn inference_count(&self) -> Result<u64, CliError> {
        let statistics = self.client.statistics(&self.model, self.version).await;
        let statistics = statistics.map_err(self.remote.failed())?;
        Ok(statistics.iter().map(|model| model.inference_count).sum())
    }

    fn request(&self, samples: &[f32]) -> Result<InferRequest, CliError> {
        let count = samples.len() / self.shape.iter().product::<usize>();
        let shape: Vec<usize> = [count]
            .into_iter()
            .chain(self.shape.iter().copied())
            .collect();
        let input = Tensor::new(&self.input, &shape, samples);
        Ok(InferRequest {
            model: self.model.clone(),
            version: self.version,
            inputs: vec![input.map_err(|error| CliError::Usage(error.to_string()))?],
            ..InferRequest::default()
        })
    }
}

/// Connects to an admin port.
pub(crate) async fn publisher(admin: &Remote) -> Result<PublisherServiceClient<Channel>, CliError> {
    let client = PublisherServiceClient::new(admin.connect().await?);
    Ok(client.max_decoding_message_size(MAX_ADMIN_ANSWER_BYTES))
}

/// Lists the stored versions of `model`, without manifests; an empty name selects all models.
pub(crate) async fn versions(admin: &Remote, model: &str) -> Result<Vec<ModelVersion>, CliError> {
    let request = ListVersionsRequest {
        model_name: model.to_owned(),
        version: 0,
        omit_manifests: true,
    };
    let response = publisher(admin)
        .await?
        .list_versions(with_deadline(request))
        .await;
    Ok(response.map_err(admin.refused())?.into_inner().versions)
}

/// Converts u8 pixels [channels, height, width] to the model's input: `(x / 255 - mean) / std`.
pub(crate) fn preprocess(pixels: &[u8], preprocessing: &Preprocessing) -> Vec<f32> {
    let Preprocessing { mean, std, .. } = preprocessing;
    let channel_size = (pixels.len() / mean.len().max(1)).max(1);
    let channels = pixels.chunks(channel_size).zip(mean.iter().zip(std));
    channels
        .flat_map(|(channel, (mean, std))| {
            channel
                .iter()
                .map(move |pixel| (f32::from(*pixel) / 255.0 - mean) / std)
        })
        .collect()
}

/// A request with a deadline.
pub(crate) fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// Reads the JSON values of the parameters `class_names` and, for a model of images, `preprocessing`.
fn read_description(
    parameters: &HashMap<String, ModelParameter>,
) -> Result<ModelDescription, String> {
    fn read<T: DeserializeOwned>(
        parameters: &HashMap<String, ModelParameter>,
        name: &str,
    ) -> Result<Option<T>, String> {
        let parameter = parameters.get(name);
        parameter
            .map(|parameter| serde_json::from_str(&parameter.string_value))
            .transpose()
            .map_err(|error| format!("the parameter `{name}`: {error}"))
    }
    let class_names = read(parameters, "class_names")?;
    Ok(ModelDescription {
        class_names: class_names
            .ok_or("the model's configuration has no parameter `class_names`; use --manifest")?,
        preprocessing: read(parameters, "preprocessing")?,
    })
}

/// Name of the one input, of the one output, and the shape of a sample.
fn interface(metadata: &ModelMetadataResponse) -> Result<(String, String, Vec<usize>), String> {
    let ([input], [output]) = (&metadata.inputs[..], &metadata.outputs[..]) else {
        return Err("the model has not exactly one input and one output".to_owned());
    };
    for tensor in [input, output] {
        if tensor.datatype != FP32 {
            return Err(format!(
                "`{}` is {}, not FP32",
                tensor.name, tensor.datatype
            ));
        }
    }
    let shape = sample_shape(input)?;
    Ok((input.name.clone(), output.name.clone(), shape))
}

fn sample_shape(input: &TensorMetadata) -> Result<Vec<usize>, String> {
    let wrong = || {
        format!(
            "input `{}` has shape {:?}, not a batch of samples of a fixed shape",
            input.name, input.shape
        )
    };
    let [_, sample @ ..] = &input.shape[..] else {
        return Err(wrong());
    };
    let size = |size: &i64| usize::try_from(*size).ok().filter(|size| *size > 0);
    sample
        .iter()
        .map(size)
        .collect::<Option<_>>()
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_own_normalization() {
        let preprocessing = Preprocessing::normalization(vec![0.0, 0.5], vec![1.0, 0.25]);
        let input = preprocess(&[0, 255, 0, 255], &preprocessing);
        assert_eq!(input, [0.0, 1.0, -2.0, 2.0]);
    }

    #[test]
    fn descriptions_are_json_in_the_parameters() {
        let parameters = |class_names: &str| -> HashMap<_, _> {
            [
                ("class_names", class_names),
                ("preprocessing", r#"{"mean": [0.5], "std": [0.25]}"#),
            ]
            .map(|(name, value)| {
                let string_value = value.to_owned();
                (name.to_owned(), ModelParameter { string_value })
            })
            .into()
        };
        let description = read_description(&parameters(r#"["a", "b"]"#)).unwrap();
        assert_eq!(description.class_names, ["a", "b"]);
        assert_eq!(description.of_images().unwrap().mean, [0.5]);
        let mut of_rows = parameters(r#"["a"]"#);
        of_rows.remove("preprocessing");
        let of_rows = read_description(&of_rows).unwrap();
        let error = of_rows.of_images().unwrap_err().to_string();
        assert!(error.contains("use --manifest"), "{error}");
        for (parameters, expected) in [
            (HashMap::new(), "use --manifest"),
            (parameters("a, b"), "`class_names`: expected value"),
        ] {
            let error = read_description(&parameters).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    fn metadata(input_shape: &[i64], output_type: &str) -> ModelMetadataResponse {
        let tensor = |name: &str, datatype: &str, shape: &[i64]| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
        };
        ModelMetadataResponse {
            inputs: vec![tensor("input", FP32, input_shape)],
            outputs: vec![tensor("logits", output_type, &[-1, 10])],
            ..Default::default()
        }
    }

    #[test]
    fn only_classifiers_of_fixed_samples_in_fp32_are_understood() {
        for expected in [&[1, 28, 28][..], &[784]] {
            let batch = [-1]
                .into_iter()
                .chain(expected.iter().map(|size| *size as i64));
            let metadata = metadata(&batch.collect::<Vec<_>>(), FP32);
            let (input, output, shape) = interface(&metadata).unwrap();
            assert_eq!((&*input, &*output, &*shape), ("input", "logits", expected));
        }
        for (shape, datatype) in [
            (&[-1, 1, -1, 28][..], FP32),
            (&[], FP32),
            (&[-1, 1, 28, 28], "FP16"),
        ] {
            assert!(
                interface(&metadata(shape, datatype)).is_err(),
                "{shape:?} {datatype}"
            );
        }
    }
}
