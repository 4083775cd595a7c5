//! Uploads an exported model to an inference service.

use std::{path::Path, time::Duration};

use proto::publish::v1::{
    CheckPublishHeader, CheckPublishRequest, ListVersionsRequest, PublishResponse,
    check_publish_request, publish_request::Part, publisher_service_client::PublisherServiceClient,
};
use server::{
    back_off::BackOff,
    grpc,
    security::client::{Channel, ConnectError},
    upload::{self, IfStored, ModelUpload},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::config::PublishConfig;

/// A check loads no model.
const CHECK_DEADLINE: Duration = Duration::from_secs(120);
const ATTEMPTS: usize = 5;
/// Bounds of the pauses between attempts: 200 ms, 400 ms, 800 ms and 1.6 s.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(1_600);

/// Why a model was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The endpoint is no address, or the credentials for it cannot be used.
    #[error("publish: {0}")]
    Credentials(ConnectError),
    /// The service does not answer.
    #[error(
        "the inference service at {endpoint} cannot be reached: {reason}; the model is in {} \
         and can be published later",
        artifact.display()
    )]
    Unreachable {
        /// The configured address.
        endpoint: String,
        /// Why the last attempt failed.
        reason: String,
        /// Folder of the model.
        artifact: std::path::PathBuf,
    },
    /// The service rejected the model.
    #[error("the inference service at {endpoint} refused the model: {reason} ({code:?})")]
    Refused {
        /// The configured address.
        endpoint: String,
        /// The service's message.
        reason: String,
        /// The gRPC code.
        code: Code,
    },
    /// The run was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Uploads a model and waits until it serves. Retries with back-off if the service is unavailable, the connection breaks,
/// or another publish of the model won: publishing is idempotent. A model that is stored already is activated only if no
/// version is active: a resumed run, or a late retry, must not undo an operator's choice.
///
/// Errors name `artifact`, the model's folder.
///
/// # Errors
/// See [`PublishError`].
pub async fn publish(
    config: &PublishConfig,
    upload: &ModelUpload,
    artifact: &Path,
    cancel: &CancellationToken,
) -> Result<PublishResponse, PublishError> {
    let credentials = config.credentials();
    let mut pauses = BackOff::new(FIRST_PAUSE, LONGEST_PAUSE).take(ATTEMPTS - 1);
    loop {
        let attempt = async {
            match credentials.connect(&config.endpoint).await {
                Ok(channel) => Ok(send(channel, config, upload).await),
                Err(ConnectError::Unreachable(reason)) => Ok(Err(Status::unavailable(reason))),
                Err(error) => Err(PublishError::Credentials(error)),
            }
        };
        let status = tokio::select! {
            () = cancel.cancelled() => return Err(PublishError::Cancelled),
            result = attempt => match result? {
                Ok(response) => return Ok(response),
                Err(status) => status,
            },
        };
        if !grpc::is_away(&status) && status.code() != Code::Aborted {
            return Err(PublishError::Refused {
                endpoint: config.endpoint.clone(),
                reason: grpc::reason(&status),
                code: status.code(),
            });
        }
        let Some(pause) = pauses.next() else {
            return Err(PublishError::Unreachable {
                endpoint: config.endpoint.clone(),
                reason: grpc::reason(&status),
                artifact: artifact.to_owned(),
            });
        };
        tokio::select! {
            () = cancel.cancelled() => return Err(PublishError::Cancelled),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whether an inference service would accept a model that is not trained yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishCheck {
    /// The service would accept it.
    Passed {
        /// Warnings for users of the model.
        warnings: Vec<String>,
    },
    /// The service could not be asked, or does not support the check.
    NotAsked {
        /// The cause.
        reason: String,
    },
}

/// Asks the service whether it would accept a model like `upload`, with a manifest of at most
/// `largest_manifest_bytes`, from this caller. Does not retry: the service may be started later.
///
/// # Errors
/// [`PublishError::Refused`], [`PublishError::Credentials`], [`PublishError::Cancelled`].
pub async fn check(
    config: &PublishConfig,
    upload: &ModelUpload,
    largest_manifest_bytes: u64,
    cancel: &CancellationToken,
) -> Result<PublishCheck, PublishError> {
    let credentials = config.credentials();
    let ask = async {
        let channel = match credentials.connect(&config.endpoint).await {
            Ok(channel) => channel,
            Err(ConnectError::Unreachable(reason)) => return Ok(Err(Status::unavailable(reason))),
            Err(error) => return Err(PublishError::Credentials(error)),
        };
        let mut request = tonic::Request::new(tokio_stream::iter(check_messages(
            config,
            upload,
            largest_manifest_bytes,
        )));
        request.set_timeout(CHECK_DEADLINE);
        let mut client = PublisherServiceClient::new(channel);
        let checked = client.check_publish(request).await;
        if let Err(status) = &checked
            && status.code() == Code::Unimplemented
        {
            publishes(&mut client, config).await?;
        }
        Ok(checked)
    };
    let asked = tokio::select! {
        () = cancel.cancelled() => return Err(PublishError::Cancelled),
        asked = ask => asked?,
    };
    match asked {
        Ok(response) => Ok(PublishCheck::Passed {
            warnings: response.into_inner().warnings,
        }),
        Err(status) if is_refusal(&status) => Err(PublishError::Refused {
            endpoint: config.endpoint.clone(),
            reason: grpc::reason(&status),
            code: status.code(),
        }),
        Err(status) if status.code() == Code::Unimplemented => Ok(PublishCheck::NotAsked {
            reason: "it is too old to support CheckPublish".to_owned(),
        }),
        Err(status) => Ok(PublishCheck::NotAsked {
            reason: grpc::reason(&status),
        }),
    }
}

/// Checks that an older service, which has no `CheckPublish`, publishes models on this port.
///
/// # Errors
/// [`PublishError::Refused`] if it does not: the endpoint is another port.
async fn publishes(
    client: &mut PublisherServiceClient<Channel>,
    config: &PublishConfig,
) -> Result<(), PublishError> {
    let mut request = tonic::Request::new(ListVersionsRequest {
        model_name: config.model.clone(),
        version: 0,
        omit_manifests: true,
    });
    request.set_timeout(CHECK_DEADLINE);
    match client.list_versions(request).await {
        Err(status) if status.code() == Code::Unimplemented => Err(PublishError::Refused {
            endpoint: config.endpoint.clone(),
            reason:
                "models are not published there; publish.endpoint must be its port for publishing, \
                     admin.listen"
                    .to_owned(),
            code: status.code(),
        }),
        _ => Ok(()),
    }
}

/// Whether the service would reject the model at the end of the run too.
fn is_refusal(status: &Status) -> bool {
    let refused = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::ResourceExhausted
            | Code::PermissionDenied
            | Code::Unauthenticated
    );
    refused && !grpc::is_away(status)
}

fn check_messages(
    config: &PublishConfig,
    upload: &ModelUpload,
    largest_manifest_bytes: u64,
) -> impl Iterator<Item = CheckPublishRequest> + Send + use<> {
    let messages = upload::upload(&config.model, upload.clone(), IfStored::KeepActive);
    messages.map(move |message| CheckPublishRequest {
        part: message.part.map(|part| match part {
            Part::Header(header) => check_publish_request::Part::Header(CheckPublishHeader {
                header: Some(header),
                largest_manifest_bytes,
            }),
            Part::Chunk(chunk) => check_publish_request::Part::Chunk(chunk),
        }),
    })
}

async fn send(
    channel: Channel,
    config: &PublishConfig,
    upload: &ModelUpload,
) -> Result<PublishResponse, Status> {
    let messages = upload::upload(&config.model, upload.clone(), IfStored::KeepActive);
    upload::publish(&mut PublisherServiceClient::new(channel), messages).await
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn a_missing_service_names_the_endpoint_and_the_model() {
        // A host of its own: its port cannot be given to another test meanwhile.
        let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        drop(listener);
        let config = PublishConfig {
            endpoint: endpoint.clone(),
            model: "m".to_owned(),
            precision: Default::default(),
            token_file: None,
            token_in_plain_text: Default::default(),
            tls: None,
            signing_key: None,
            gate: None,
        };
        let upload = ModelUpload {
            onnx: Bytes::from_static(b"onnx"),
            manifest_json: Bytes::new(),
            signature: Bytes::new(),
        };
        let cancel = CancellationToken::new();
        let error = publish(&config, &upload, Path::new("runs/x/artifact"), &cancel).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(&endpoint) && error.contains("runs/x/artifact"),
            "{error}"
        );
    }
}
