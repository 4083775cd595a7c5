//! A model on a server with the Open Inference Protocol: Triton, KServe, MLServer or Retort.

mod address;
mod tensor_bytes;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use common::digest::Sha256;
use proto::inference::{
    ModelConfigRequest, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
    ModelMetadataResponse, ModelReadyRequest,
    grpc_inference_service_client::GrpcInferenceServiceClient,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    model_metadata_response::TensorMetadata,
};
use server::{
    back_off::BackOff,
    security::client::{Channel, ConnectError, Credentials, TokenSource},
};
use tensors::{DataType, Dimension, Dimensions, Signature, TensorSpec};
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
    time::timeout,
};
use tonic::{Code, Status};
use tracing::warn;

use super::{BackendError, Classifier, Readiness};
use crate::{batch::Input, model::InferenceServerConfig};
pub use address::InvalidModelAddress;
use address::ModelAddress;

/// The largest message in either direction.
const MAX_MESSAGE_BYTES: usize = 1 << 30;

/// The time between two checks of the model's readiness.
const READINESS_INTERVAL: Duration = Duration::from_secs(2);

/// Why a model on an inference server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InferenceServerError {
    /// The address is wrong.
    #[error(transparent)]
    Address(#[from] InvalidModelAddress),
    /// The client cannot connect.
    #[error("{server}: {source}")]
    Connect {
        /// The server.
        server: String,
        /// Why.
        source: Box<ConnectError>,
    },
    /// No runtime for the network could be started.
    #[error("cannot start the network runtime: {0}")]
    Runtime(std::io::Error),
    /// The server refuses a call, or does not answer in time.
    #[error("{server}: {problem}")]
    Call {
        /// The server.
        server: String,
        /// What it said.
        problem: String,
    },
}

/// A model on an inference server.
pub struct InferenceServerModel {
    client: Client,
    signature: Signature,
    /// The largest batch of one call; `None` if the server sets no limit.
    max_batch: Option<usize>,
    /// What the server calls the software that runs the model.
    platform: String,
    readiness: Readiness,
    /// Answer of the first call, which later calls are compared with after the server was away.
    first: Option<FirstCall>,
    // Last: its tasks use what stands above.
    runtime: Runtime,
}

/// The first call, and what it answered.
struct FirstCall {
    request: ModelInferRequest,
    outputs: Vec<f32>,
    version: String,
}

#[derive(Clone)]
struct Client {
    service: GrpcInferenceServiceClient<Channel>,
    address: ModelAddress,
    credentials: Credentials,
    timeout: Duration,
}

impl InferenceServerModel {
    /// Connects to the model at `address`, and waits until it is ready.
    ///
    /// Must not be called from an async task: it blocks.
    ///
    /// # Errors
    /// See [`InferenceServerError`].
    pub fn connect(
        address: &Path,
        config: &InferenceServerConfig,
    ) -> Result<Self, InferenceServerError> {
        let address = ModelAddress::parse(&address.to_string_lossy())?;
        // One thread: it watches the readiness while the caller's thread waits for an answer.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(InferenceServerError::Runtime)?;
        let (client, metadata, max_batch) = runtime.block_on(async {
            let client = Client::connect(address, config).await?;
            let metadata = client.until_answered(Client::metadata).await?;
            let max_batch = client.max_batch().await;
            Ok::<_, InferenceServerError>((client, metadata, max_batch))
        })?;
        let signature = read_signature(&metadata).map_err(|problem| client.refused(problem))?;
        let (ready, readiness) = watch::channel(true);
        runtime.spawn(client.clone().watch_readiness(ready));
        Ok(Self {
            client,
            signature,
            max_batch,
            platform: metadata.platform,
            readiness,
            first: None,
            runtime,
        })
    }

    /// Sends one request, again while the server is away; then checks that it is still the same model.
    fn infer(&mut self, request: &ModelInferRequest) -> Result<Vec<f32>, BackendError> {
        let call = self.client.infer(request);
        let (response, was_away) = self.runtime.block_on(call)?;
        let output = request.outputs.first().map_or("", |output| &output.name);
        let outputs = tensor_bytes::read(&response, output).map_err(BackendError)?;
        let Some(first) = &self.first else {
            self.first = Some(FirstCall {
                request: request.clone(),
                outputs: outputs.clone(),
                version: response.model_version,
            });
            return Ok(outputs);
        };
        if response.model_version != first.version {
            return Err(self.changed(&format!(
                "version {} answered, but the teacher serves version {}",
                response.model_version, first.version
            )));
        }
        if was_away {
            let (again, _) = self.runtime.block_on(self.client.infer(&first.request))?;
            let output = first.request.outputs.first();
            let output = output.map_or("", |output| &output.name);
            let again = tensor_bytes::read(&again, output).map_err(BackendError)?;
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            if bits(&again) != bits(&first.outputs) {
                return Err(self.changed("it answers the first batch with other values"));
            }
        }
        Ok(outputs)
    }

    fn changed(&self, how: &str) -> BackendError {
        BackendError(format!(
            "{} is another model than when the teacher started: {how}; restart the teacher",
            self.client.address
        ))
    }
}

impl Classifier for InferenceServerModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The weights are not known. The answer to the probe stands for them, so that two models of one
    /// name are never taken for the same.
    fn digest(&self, probe: &[f32]) -> Sha256 {
        let version = self.first.as_ref().map_or("", |first| &first.version);
        let mut bytes = format!(
            "{}\n{version}\n{}\n",
            self.client.address.model, self.signature
        );
        for value in probe {
            bytes.push_str(&format!("{:08x}", value.to_bits()));
        }
        Sha256::of(bytes.as_bytes())
    }

    fn numerics(&self) -> String {
        let platform = match &self.platform[..] {
            "" => "unknown platform",
            platform => platform,
        };
        format!("inference server ({platform})")
    }

    fn run(
        &mut self,
        output: &str,
        input: &Input,
        sample: &[usize],
        samples: usize,
    ) -> Result<Vec<f32>, BackendError> {
        let spec = &self.signature.inputs[0];
        let fixed = spec.dimensions.0.first().and_then(|first| first.fixed());
        let chunk = fixed.or(self.max_batch).unwrap_or(samples).max(1);
        let requests = chunks(samples, chunk).map(|range| {
            let taken = range.len();
            let sent = fixed.unwrap_or(taken);
            let data = tensor_bytes::write(input, spec.data_type, range, samples, sent)?;
            let shape = [sent].into_iter().chain(sample.iter().copied());
            let request = ModelInferRequest {
                model_name: self.client.address.model.clone(),
                model_version: self.client.address.version.clone(),
                inputs: vec![InferInputTensor {
                    name: spec.name.clone(),
                    datatype: spec.data_type.name().to_owned(),
                    shape: shape.map(|size| size as i64).collect(),
                    ..InferInputTensor::default()
                }],
                outputs: vec![InferRequestedOutputTensor {
                    name: output.to_owned(),
                    ..InferRequestedOutputTensor::default()
                }],
                raw_input_contents: vec![data],
                ..ModelInferRequest::default()
            };
            Ok((request, taken, sent))
        });
        let requests: Vec<_> = requests
            .collect::<Result<_, String>>()
            .map_err(BackendError)?;
        let mut rows = Vec::new();
        for (request, taken, sent) in requests {
            let found = self.infer(&request)?;
            rows.extend_from_slice(&found[..found.len() / sent * taken]);
        }
        Ok(rows)
    }

    fn readiness(&self) -> Option<Readiness> {
        Some(self.readiness.clone())
    }
}

impl Client {
    async fn connect(
        address: ModelAddress,
        config: &InferenceServerConfig,
    ) -> Result<Self, InferenceServerError> {
        let credentials = Credentials {
            tls: config.tls.clone(),
            token: TokenSource::from_file(config.token_file.as_deref()),
            token_in_plain_text: config.token_in_plain_text,
        };
        let timeout = Duration::from_secs(config.timeout_seconds);
        let deadline = Instant::now() + timeout;
        let mut back_off = pauses();
        let channel = loop {
            match credentials.connect(&address.server).await {
                Ok(channel) => break channel,
                Err(source) if source.is_usage() || Instant::now() >= deadline => {
                    let server = address.to_string();
                    return Err(InferenceServerError::Connect {
                        server,
                        source: Box::new(source),
                    });
                }
                Err(_) => back_off.pause().await,
            }
        };
        Ok(Self {
            service: GrpcInferenceServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            address,
            credentials,
            timeout,
        })
    }

    /// Makes a call again until the server answers, or the time is up.
    async fn until_answered<T>(
        &self,
        call: impl AsyncFn(&Self) -> Result<T, Status>,
    ) -> Result<T, InferenceServerError> {
        let deadline = Instant::now() + self.timeout;
        let mut back_off = pauses();
        loop {
            match call(self).await {
                Ok(answer) => return Ok(answer),
                Err(status) if is_transient(&status) && Instant::now() < deadline => {
                    back_off.pause().await;
                }
                Err(status) => return Err(self.refused(self.credentials.reason(&status))),
            }
        }
    }

    async fn metadata(&self) -> Result<ModelMetadataResponse, Status> {
        let request = ModelMetadataRequest {
            name: self.address.model.clone(),
            version: self.address.version.clone(),
        };
        let mut service = self.service.clone();
        self.in_time(service.model_metadata(request)).await
    }

    /// The largest batch, from Triton's `ModelConfig`. Other servers do not have this call, and have no
    /// limit that a client could know.
    async fn max_batch(&self) -> Option<usize> {
        let request = ModelConfigRequest {
            name: self.address.model.clone(),
            version: self.address.version.clone(),
        };
        let mut service = self.service.clone();
        let config = self.in_time(service.model_config(request)).await.ok()?;
        let max_batch = config.config?.max_batch_size;
        usize::try_from(max_batch).ok().filter(|max| *max > 0)
    }

    /// Sends a request until it is answered; also returns whether the server was away meanwhile.
    async fn infer(
        &self,
        request: &ModelInferRequest,
    ) -> Result<(ModelInferResponse, bool), BackendError> {
        let deadline = Instant::now() + self.timeout;
        let mut back_off = pauses();
        let mut was_away = false;
        loop {
            let mut service = self.service.clone();
            match self.in_time(service.model_infer(request.clone())).await {
                Ok(response) => return Ok((response, was_away)),
                Err(status) if is_transient(&status) && Instant::now() < deadline => {
                    if !was_away {
                        let (model, reason) = (&self.address, self.credentials.reason(&status));
                        warn!(%model, reason, "the inference server is away; trying again");
                    }
                    was_away = true;
                    back_off.pause().await;
                }
                Err(status) => {
                    let (model, reason) = (&self.address, self.credentials.reason(&status));
                    return Err(BackendError(format!("{model}: {reason}")));
                }
            }
        }
    }

    async fn watch_readiness(self, ready: watch::Sender<bool>) {
        while !ready.is_closed() {
            let request = ModelReadyRequest {
                name: self.address.model.clone(),
                version: self.address.version.clone(),
            };
            let mut service = self.service.clone();
            let now = match self.in_time(service.model_ready(request)).await {
                Ok(answer) => answer.ready,
                Err(status) => status.code() == Code::Unimplemented,
            };
            ready.send_if_modified(|before| std::mem::replace(before, now) != now);
            tokio::time::sleep(READINESS_INTERVAL).await;
        }
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        match timeout(self.timeout, call).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded(format!(
                "no answer within {:?}",
                self.timeout
            ))),
        }
    }

    fn refused(&self, problem: String) -> InferenceServerError {
        InferenceServerError::Call {
            server: self.address.to_string(),
            problem,
        }
    }
}

fn pauses() -> BackOff {
    BackOff::new(Duration::from_millis(50), Duration::from_secs(2))
}

/// Whether the server or the connection to it is away, rather than the call refused.
fn is_transient(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

fn chunks(samples: usize, chunk: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..samples)
        .step_by(chunk)
        .map(move |first| first..samples.min(first + chunk))
}

fn read_signature(metadata: &ModelMetadataResponse) -> Result<Signature, String> {
    let read = |tensors: &[TensorMetadata]| -> Result<Vec<TensorSpec>, String> {
        tensors.iter().map(read_tensor).collect()
    };
    Ok(Signature {
        inputs: read(&metadata.inputs)?,
        outputs: read(&metadata.outputs)?,
    })
}

fn read_tensor(tensor: &TensorMetadata) -> Result<TensorSpec, String> {
    let data_type: DataType = tensor
        .datatype
        .parse()
        .map_err(|error| format!("`{}`: {error}", tensor.name))?;
    let dimension = |(position, size): (usize, &i64)| match usize::try_from(*size) {
        Ok(size) if size > 0 => Dimension::Fixed(size),
        _ if position == 0 => Dimension::Batch,
        _ => Dimension::Open,
    };
    Ok(TensorSpec {
        name: tensor.name.clone(),
        data_type,
        dimensions: Dimensions(tensor.shape.iter().enumerate().map(dimension).collect()),
    })
}
