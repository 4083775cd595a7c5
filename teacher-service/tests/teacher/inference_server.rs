//! Models on inference servers as teachers. The server runs in this process.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use proto::inference::{
    ModelConfig as TritonConfig, ModelConfigRequest, ModelConfigResponse, ModelInferRequest,
    ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse,
    grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer},
    model_infer_response::InferOutputTensor,
    model_metadata_response::TensorMetadata,
};
use teacher_service::{
    backend::Backend,
    batch::{Batch, Input},
    model::ModelConfig,
};
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

use crate::{
    opened::{open, refusal},
    support::eventually,
};

/// A model of rows with three values and two classes, which a test changes while it serves.
#[derive(Clone, Default)]
struct Model(Arc<State>);

#[derive(Default)]
struct State {
    /// The next calls that fail with UNAVAILABLE.
    away: AtomicUsize,
    not_ready: AtomicBool,
    /// Added to each logit.
    shift: Mutex<f32>,
    version: Mutex<u32>,
    /// Samples of each call.
    batches: Mutex<Vec<usize>>,
}

const MAX_BATCH: usize = 4;

fn tensor(name: &str, shape: &[i64]) -> TensorMetadata {
    TensorMetadata {
        name: name.to_owned(),
        datatype: "FP32".to_owned(),
        shape: shape.to_vec(),
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Model {
    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        if request.get_ref().name != "rows" {
            return Err(Status::not_found("no such model"));
        }
        Ok(Response::new(ModelMetadataResponse {
            name: "rows".to_owned(),
            versions: vec!["3".to_owned()],
            platform: "onnxruntime_onnx".to_owned(),
            inputs: vec![tensor("features", &[-1, 3])],
            outputs: vec![tensor("scores", &[-1, 2])],
        }))
    }

    async fn model_config(
        &self,
        _: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        Ok(Response::new(ModelConfigResponse {
            config: Some(TritonConfig {
                max_batch_size: MAX_BATCH as i32,
                ..TritonConfig::default()
            }),
        }))
    }

    async fn model_ready(
        &self,
        _: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ready = !self.0.not_ready.load(Ordering::Relaxed);
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    /// Class 0 gets the sum of the row, class 1 its first value.
    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let fails = |left: usize| left.checked_sub(1);
        let away = &self.0.away;
        if away
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails)
            .is_ok()
        {
            return Err(Status::unavailable("restarting"));
        }
        let request = request.into_inner();
        let samples = request.inputs[0].shape[0];
        assert_eq!(request.inputs[0].shape, [samples, 3]);
        self.0.batches.lock().unwrap().push(samples as usize);
        let shift = *self.0.shift.lock().unwrap();
        let (values, _) = request.raw_input_contents[0].as_chunks::<4>();
        let values: Vec<f32> = values.iter().copied().map(f32::from_le_bytes).collect();
        let rows = values.chunks(3);
        let scores = rows.flat_map(|row| [row.iter().sum::<f32>() + shift, row[0] + shift]);
        let raw: Vec<u8> = scores.flat_map(f32::to_le_bytes).collect();
        Ok(Response::new(ModelInferResponse {
            model_name: request.model_name,
            model_version: self.0.version.lock().unwrap().to_string(),
            outputs: vec![InferOutputTensor {
                name: "scores".to_owned(),
                datatype: "FP32".to_owned(),
                shape: vec![samples, 2],
                ..InferOutputTensor::default()
            }],
            raw_output_contents: vec![raw.into()],
            ..ModelInferResponse::default()
        }))
    }

    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Err(not_called())
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        Err(not_called())
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Err(not_called())
    }

    async fn model_statistics(
        &self,
        _: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        Err(not_called())
    }

    async fn repository_index(
        &self,
        _: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        Err(not_called())
    }

    async fn repository_model_load(
        &self,
        _: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        Err(not_called())
    }

    async fn repository_model_unload(
        &self,
        _: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        Err(not_called())
    }

    type ModelStreamInferStream = futures::stream::Empty<Result<ModelStreamInferResponse, Status>>;

    async fn model_stream_infer(
        &self,
        _: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        Err(not_called())
    }
}

fn not_called() -> Status {
    Status::unimplemented("the teacher service does not make this call")
}

struct Server {
    model: Model,
    address: SocketAddr,
    _runtime: Runtime,
}

impl Server {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let model = Model::default();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let server = server::grpc::server()
            .add_service(GrpcInferenceServiceServer::new(model.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        runtime.spawn(server);
        Self {
            model,
            address,
            _runtime: runtime,
        }
    }

    fn config(&self, model: &str) -> ModelConfig {
        let mut config = ModelConfig::at(PathBuf::from(format!("grpc://{}/{model}", self.address)));
        let card = "output = \"logits\"\nclass_names = [\"sum\", \"first\"]";
        config.preprocessing = toml::from_str(card).unwrap();
        config.server.timeout_seconds = 20;
        config
    }
}

fn rows(samples: usize) -> Batch {
    let values = (0..samples * 3).map(|value| value as f32 / 4.0).collect();
    Batch {
        samples,
        input: Input::F32(values),
    }
}

fn expected(samples: usize) -> Vec<f32> {
    let rows = (0..samples).map(|row| (row * 3) as f32 / 4.0);
    rows.flat_map(|first| [3.0 * first + 0.75, first]).collect()
}

#[test]
fn a_model_on_a_server_is_described_and_answers_in_parts() {
    let server = Server::start();
    let mut teacher = open(&server.config("rows")).unwrap();
    let description = teacher.description();
    assert_eq!(description.input.to_string(), "`values` FP32 [batch, 3]");
    assert_eq!(description.class_names, ["sum", "first"]);
    assert!(description.identity.numerics.contains("onnxruntime_onnx"));
    let batches = &server.model.0.batches;
    batches.lock().unwrap().clear();
    assert_eq!(teacher.logits(&rows(10)).unwrap(), expected(10));
    assert_eq!(*batches.lock().unwrap(), [4, 4, 2]);
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let server = Server::start();
    let mut teacher = open(&server.config("rows")).unwrap();
    server.model.0.away.store(3, Ordering::Relaxed);
    assert_eq!(teacher.logits(&rows(2)).unwrap(), expected(2));
    assert_eq!(server.model.0.away.load(Ordering::Relaxed), 0);
}

#[test]
fn another_model_behind_the_same_name_is_found() {
    let server = Server::start();
    let config = server.config("rows");
    let mut teacher = open(&config).unwrap();
    // The weights change while the server is away.
    *server.model.0.shift.lock().unwrap() = 1.0;
    server.model.0.away.store(1, Ordering::Relaxed);
    let error = teacher.logits(&rows(2)).unwrap_err().to_string();
    assert!(error.contains("another model"), "{error}");
    let other = open(&config).unwrap();
    let id = |teacher: &dyn Backend| teacher.description().identity.model_id.clone();
    assert_ne!(id(&*teacher), id(&*other));
    // The version changes without a break.
    let mut teacher = open(&config).unwrap();
    *server.model.0.version.lock().unwrap() = 4;
    let error = teacher.logits(&rows(2)).unwrap_err().to_string();
    assert!(error.contains("version 4 answered"), "{error}");
}

#[test]
fn readiness_follows_the_server() {
    let server = Server::start();
    let teacher = open(&server.config("rows")).unwrap();
    let readiness = teacher.readiness().unwrap();
    assert!(*readiness.borrow());
    server.model.0.not_ready.store(true, Ordering::Relaxed);
    eventually("not ready", || (!*readiness.borrow()).then_some(()));
    server.model.0.not_ready.store(false, Ordering::Relaxed);
    eventually("ready again", || readiness.borrow().then_some(()));
}

#[test]
fn models_that_cannot_be_used_are_named() {
    let server = Server::start();
    let error = refusal(&server.config("images"));
    assert!(
        error.contains("/images: ") && error.contains("no such model"),
        "{error}"
    );
    let error = refusal(&server.config(""));
    assert!(error.contains("grpc://HOST:PORT/MODEL"), "{error}");
    let mut config = ModelConfig::at(format!("grpc://{}/rows", test_support::unused_address()));
    config.server.timeout_seconds = 1;
    let error = refusal(&config);
    assert!(error.contains("/rows: "), "{error}");
}
