//! Authorization of calls: every call with every kind of wrong credentials.

use std::{fs, io::Cursor, marker::PhantomData};
use test_support::certificates::Keys;
use test_support::refusals::{self, Guarded};

use image::{GrayImage, ImageFormat};
use proto::{
    inference::{
        InferParameter, ModelInferRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient,
        infer_parameter::ParameterChoice,
    },
    predict::v1::{ClassifyRequest, predictor_service_client::PredictorServiceClient},
    publish::v1::{ActivateVersionRequest, publisher_service_client::PublisherServiceClient},
};
use server::security::{
    Scope,
    client::{Credentials, TokenSource},
};
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::{
    security::channel,
    support::{Artifact, Connection, MODEL, Service, ServiceOptions, infer_request, publish},
};

/// Part of every request's content, which must not be logged.
const PAYLOAD: &str = "PAYLOAD ";

/// A call that is repeated with different credentials.
trait Call {
    const SCOPE: Scope;

    /// The result of the call; `None` if there is no connection.
    async fn make(service: &Service, credentials: &Credentials) -> Result<(), Option<Status>>;
}

/// A service that receives only the call `C`.
struct Asked<C>(Service, PhantomData<C>);

impl<C: Call> Guarded for Asked<C> {
    const SCOPE: Scope = C::SCOPE;

    fn log(&self) -> String {
        self.0.log()
    }

    async fn call(&self, credentials: &Credentials) -> Result<(), Option<Status>> {
        C::make(&self.0, credentials).await
    }
}

/// A store with two versions of one model.
async fn stored() -> TempDir {
    let store = tempfile::tempdir().expect("a temporary folder");
    let service = Service::start(&ServiceOptions {
        store: Some(store.path()),
        ..ServiceOptions::default()
    });
    for n in [1, 2] {
        publish(&service, &Artifact::constant(n)).await;
    }
    store
}

async fn rejects_all_but_good_callers<C: Call>(store: &TempDir) {
    let keys = Keys::new();
    let mut settings = refusals::settings(&keys, C::SCOPE);
    settings.push("log.access=true".to_owned());
    let set: Vec<_> = settings.iter().map(String::as_str).collect();
    let service = Service::start(&ServiceOptions {
        store: Some(store.path()),
        set: &set,
        ..ServiceOptions::default()
    });
    let asked = Asked::<C>(service, PhantomData);
    refusals::refuses_all_but_good_callers(&asked, &keys).await;
    let log = asked.log();
    assert!(!log.contains(PAYLOAD.trim()), "{log}");
}

#[tokio::test]
async fn predictions_over_grpc_require_credentials() {
    let store = stored().await;
    rejects_all_but_good_callers::<Infer>(&store).await;
    rejects_all_but_good_callers::<StreamInfer>(&store).await;
    rejects_all_but_good_callers::<Classify>(&store).await;
}

#[tokio::test]
async fn changes_require_credentials() {
    let store = stored().await;
    rejects_all_but_good_callers::<Publish>(&store).await;
    rejects_all_but_good_callers::<Activate>(&store).await;
    rejects_all_but_good_callers::<Unload>(&store).await;
}

#[tokio::test]
async fn predictions_over_http_require_credentials() {
    let store = stored().await;
    rejects_all_but_good_callers::<InferOverHttp>(&store).await;
    rejects_all_but_good_callers::<ClassifyOverHttp>(&store).await;
}

fn request() -> ModelInferRequest {
    let (mut request, _) = infer_request(1);
    let size = request.raw_input_contents[0].len();
    let payload = PAYLOAD.repeat(size / PAYLOAD.len());
    request.raw_input_contents[0] = payload.into();
    let note = ParameterChoice::StringParam(PAYLOAD.to_owned());
    let note = InferParameter {
        parameter_choice: Some(note),
    };
    request.parameters.insert("note".to_owned(), note);
    request
}

fn image() -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    let image = GrayImage::new(8, 8);
    image
        .write_to(&mut png, ImageFormat::Png)
        .expect("memory is written");
    png.into_inner()
}

struct Infer;

impl Call for Infer {
    const SCOPE: Scope = Scope::Predict;

    async fn make(service: &Service, credentials: &Credentials) -> Result<(), Option<Status>> {
        let channel = channel(service, "grpc", credentials).await?;
        let mut client = GrpcInferenceServiceClient::new(channel);
        client.model_infer(request()).await.map(drop).map_err(Some)
    }
}

struct StreamInfer;

impl Call for StreamInfer {
    const SCOPE: Scope = Scope::Predict;

    async fn make(service: &Service, credentials: &Credentials) -> Result<(), Option<Status>> {
        let channel = channel(service, "grpc", credentials).await?;
        let requests = tokio_stream::iter([request()]);
        let mut client = GrpcInferenceServiceClient::new(channel);
        let stream = client.model_stream_infer(requests).await;
        let mut stream = stream.map_err(Some)?.into_inner();
        let answer = stream.message().await.map_err(Some)?.expect("an answer");
        assert_eq!(answer.error_message, "");
        Ok(())
    }
}

struct Classify;

impl Call for Classify {
    const SCOPE: Scope = Scope::Predict;

    async fn make(service: &Service, credentials: &Credentials) -> Result<(), Option<Status>> {
        let channel = channel(service, "grpc", credentials).await?;
        let request = ClassifyRequest {
            model_name: MODEL.to_owned(),
            images: vec![image().into()],
            ..ClassifyRequest::default()
        };
        let mut client = PredictorServiceClient::new(channel);
        client.classify(request).await.map(drop).map_err(Some)
    }
}

struct Publish;

impl Call for Publish {
    const SCOPE: Scope = Scope::Publish;

    async fn make(service: &Service, credentials: &Credentials) -> Result<(), Option<Status>> {
        let channel = channel(service, "admin", credentials).await?;
        let mut artifact = Artifact::constant(2);
        artifact.manifest["provenance"]["run"] = PAYLOAD.into();
        let upload = tokio_stream::iter(artifact.upload());
        let published = PublisherServiceClient::new(channel).publish(upload).await;
        let published = published.map_err(Some)?.into_inner();
        assert!(published.already_published);
        Ok(())
    }
}

struct Activate;

impl Call for Activate {
    const SCOPE: Scope = Scope::Admin;

    async fn make(service: &Service, credentials: &Credentials) -> Result<(), Option<Status>> {
        let channel = channel(service, "admin", credentials).await?;
        let request = ActivateVersionRequest {
            model_name: MODEL.to_owned(),
            version: 1,
        };
        let mut client = PublisherServiceClient::new(channel);
        client
            .activate_version(request)
            .await
            .map(drop)
            .map_err(Some)
    }
}

struct Unload;

impl Call for Unload {
    const SCOPE: Scope = Scope::Admin;

    async fn make(service: &Service, credentials: &Credentials) -> Result<(), Option<Status>> {
        let channel = channel(service, "admin", credentials).await?;
        let request = proto::inference::RepositoryModelUnloadRequest {
            model_name: MODEL.to_owned(),
            ..Default::default()
        };
        let mut client = GrpcInferenceServiceClient::new(channel);
        client
            .repository_model_unload(request)
            .await
            .map(drop)
            .map_err(Some)
    }
}

struct InferOverHttp;

impl Call for InferOverHttp {
    const SCOPE: Scope = Scope::Predict;

    async fn make(service: &Service, credentials: &Credentials) -> Result<(), Option<Status>> {
        let body = serde_json::json!({
            "parameters": {"note": PAYLOAD},
            "inputs": [{
                "name": "input", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": vec![0.5; 64],
            }],
        });
        let line = format!("POST /v2/models/{MODEL}/infer");
        over_http(service, credentials, &line, body.to_string().as_bytes())
    }
}

struct ClassifyOverHttp;

impl Call for ClassifyOverHttp {
    const SCOPE: Scope = Scope::Predict;

    async fn make(service: &Service, credentials: &Credentials) -> Result<(), Option<Status>> {
        let line = format!("POST /v1/models/{MODEL}:classify");
        over_http(service, credentials, &line, &image())
    }
}

/// Sends a request and returns its error as a gRPC status.
fn over_http(
    service: &Service,
    credentials: &Credentials,
    line: &str,
    body: &[u8],
) -> Result<(), Option<Status>> {
    let address = service.address("http");
    let mut connection = match &credentials.tls {
        Some(tls) => Connection::over_tls(&address, tls),
        None => Connection::to(&address),
    };
    let mut headers = Vec::new();
    if let TokenSource::File(file) = &credentials.token {
        let token = fs::read_to_string(file).expect("the token is there");
        headers.push(format!("Bearer {token}"));
    }
    let headers: Vec<_> = headers
        .iter()
        .map(|value| ("authorization", value.as_str()))
        .collect();
    connection.request(line, &headers, body);
    let response = connection.receive().ok_or(None)?;
    if response.status == 200 {
        return Ok(());
    }
    let code = match response.status {
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        status => panic!("{status}"),
    };
    // RFC 6750, section 3.
    let challenge = response.header("www-authenticate");
    assert_eq!(
        challenge.is_some_and(|challenge| challenge.starts_with("Bearer ")),
        code == Code::Unauthenticated
    );
    let (error, reason) = response.refusal();
    Err(Some(server::grpc::status(code, &reason, error)))
}
