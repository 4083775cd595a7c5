//! The target of a load: a server's address and pre-encoded requests.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use prost::Message;
use proto::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    grpc_inference_service_client::GrpcInferenceServiceClient,
    model_infer_request::InferInputTensor,
};
use server::{
    raw_codec::RawCodec,
    security::client::{Channel, Credentials},
};
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};

/// Number of different requests, which callers cycle through.
const REQUESTS: usize = 64;
const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Time-out of the calls before a measurement.
const DEADLINE: Duration = Duration::from_secs(30);

/// A server of the Open Inference Protocol v2.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub address: String,
    pub credentials: Credentials,
}

/// A server and the requests to it. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Target {
    endpoint: Endpoint,
    connections: usize,
    /// Encoded [`ModelInferRequest`]s of one sample.
    requests: Arc<[Bytes]>,
    /// The server's encoded [`ModelInferResponse`].
    answer: Bytes,
    /// The server's process id, if its usage is measured.
    process: Option<u32>,
}

/// Connections to a [`Target`], for use in the runtime that created them.
pub(super) struct Connections {
    clients: Vec<Grpc<Channel>>,
    requests: Arc<[Bytes]>,
}

/// One of the concurrent callers.
pub(super) struct Caller {
    client: Grpc<Channel>,
    requests: Arc<[Bytes]>,
    next: usize,
}

impl Endpoint {
    /// A server on this machine that requires no credentials.
    pub(super) fn local(address: String) -> Self {
        Self {
            address,
            credentials: Credentials::default(),
        }
    }

    async fn connect(&self) -> anyhow::Result<Channel> {
        let connected = self.credentials.connect(&self.address).await;
        connected.with_context(|| format!("cannot connect to {}", self.address))
    }

    fn error(&self, status: &Status) -> anyhow::Error {
        let (code, reason) = (status.code(), self.credentials.reason(status));
        anyhow!("{} answered {code:?}: {reason}", self.address)
    }
}

impl Target {
    /// Reads the model's metadata from the server and calls the model once.
    pub(super) async fn of_model(
        endpoint: Endpoint,
        model: &str,
        connections: usize,
    ) -> anyhow::Result<Self> {
        let mut client = GrpcInferenceServiceClient::new(endpoint.connect().await?);
        let request = ModelMetadataRequest {
            name: model.to_owned(),
            ..ModelMetadataRequest::default()
        };
        let metadata = client.model_metadata(with_deadline(request)).await;
        let metadata = metadata
            .map_err(|status| endpoint.error(&status))?
            .into_inner();
        let requests: Vec<_> = (0..REQUESTS)
            .map(|number| infer_request(model, &metadata, number))
            .collect();
        let answer = client.model_infer(with_deadline(requests[0].clone())).await;
        let answer = answer
            .map_err(|status| endpoint.error(&status))?
            .into_inner();
        Ok(Self {
            endpoint,
            connections,
            requests: requests.iter().map(encode).collect(),
            answer: encode(&answer),
            process: None,
        })
    }

    /// The same requests to another server, whose process on this machine is `pid`.
    pub(super) fn at(&self, address: String, pid: u32) -> Self {
        Self {
            endpoint: Endpoint::local(address),
            process: Some(pid),
            ..self.clone()
        }
    }

    /// The same target with the process id of its server on this machine.
    pub(super) fn of_process(self, process: Option<u32>) -> Self {
        Self { process, ..self }
    }

    pub(super) fn process(&self) -> Option<u32> {
        self.process
    }

    /// The server's encoded answer.
    pub(super) fn answer(&self) -> &[u8] {
        &self.answer
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Connections> {
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            clients.push(Grpc::new(self.endpoint.connect().await?));
        }
        Ok(Connections {
            clients,
            requests: Arc::clone(&self.requests),
        })
    }
}

impl Connections {
    /// The caller with this number; callers share the connections evenly.
    pub(super) fn caller(&self, number: usize) -> Caller {
        Caller {
            client: self.clients[number % self.clients.len()].clone(),
            requests: Arc::clone(&self.requests),
            next: number,
        }
    }
}

impl Caller {
    /// Makes one unary call with one sample.
    pub(super) async fn call(&mut self) -> Result<(), Status> {
        let request = self.requests[self.next % self.requests.len()].clone();
        self.next += 1;
        let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
        self.client.ready().await.map_err(unavailable)?;
        let path = PathAndQuery::from_static(PATH);
        let answer = self.client.unary(Request::new(request), path, RawCodec);
        let answer: Bytes = answer.await?.into_inner();
        let answer = ModelInferResponse::decode(answer)
            .map_err(|error| Status::internal(error.to_string()))?;
        if answer.outputs.is_empty() {
            Err(Status::internal("an answer without outputs"))
        } else {
            Ok(())
        }
    }
}

/// A request with one FP32 sample for every input of the model; the values depend on the number.
fn infer_request(
    model: &str,
    metadata: &ModelMetadataResponse,
    number: usize,
) -> ModelInferRequest {
    let mut request = ModelInferRequest {
        model_name: model.to_owned(),
        ..ModelInferRequest::default()
    };
    for input in &metadata.inputs {
        // The batch and all other dynamic dimensions are 1.
        let shape: Vec<i64> = input.shape.iter().map(|size| (*size).max(1)).collect();
        // Not negative: sizes are at least 1.
        let values = shape.iter().product::<i64>().unsigned_abs();
        let value = |index: u64| ((index * 31 + number as u64 * 7) % 255) as f32 / 255.0;
        let bytes: Vec<u8> = (0..values).flat_map(|i| value(i).to_le_bytes()).collect();
        request.raw_input_contents.push(bytes.into());
        request.inputs.push(InferInputTensor {
            name: input.name.clone(),
            datatype: input.datatype.clone(),
            shape,
            ..InferInputTensor::default()
        });
    }
    request
}

fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}
