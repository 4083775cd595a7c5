//! The client: one connection to a service, with a deadline and retries for each call.

use std::{sync::Arc, time::Duration};

use proto::inference::{
    ModelConfig, ModelConfigRequest, ModelMetadataRequest, ModelMetadataResponse, ModelStatistics,
    ModelStatisticsRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
};
use server::{
    back_off::BackOff,
    grpc,
    security::client::{Channel, ConnectError, Credentials},
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use tonic::{Request, Response, Status};

use crate::{
    error::ClientError,
    inference::{InferRequest, InferResponse, version_text},
};

/// Bounds of the pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A client of one inference service; a cheap handle.
///
/// It connects at the first call, and again after a lost connection. All its calls are idempotent, so each is
/// repeated after growing pauses while the service is unavailable or cannot be reached.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: String,
    options: ClientOptions,
    channel: Mutex<Option<Channel>>,
}

/// How a client calls a service.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// TLS and token; none by default.
    pub credentials: Credentials,
    /// Longest time of a call with all its retries.
    pub deadline: Duration,
    /// How often a call is repeated at most; 0 for never.
    pub retries: usize,
}

impl Default for ClientOptions {
    /// 30 seconds and four retries.
    fn default() -> Self {
        Self {
            credentials: Credentials::default(),
            deadline: Duration::from_secs(30),
            retries: 4,
        }
    }
}

/// The generated client of the protocol.
type Calls = GrpcInferenceServiceClient<Channel>;

/// The failure of an attempt.
struct Failure {
    error: ClientError,
    /// Whether the service may answer later.
    is_away: bool,
}

impl Client {
    /// A client of the service at `address`, `host:port`.
    ///
    /// # Errors
    /// If the address has another form, or contradicts the credentials.
    pub fn new(address: impl Into<String>, options: ClientOptions) -> Result<Self, ConnectError> {
        let address = address.into();
        options.credentials.check_address(&address)?;
        Ok(Self(Arc::new(Inner {
            address,
            options,
            channel: Mutex::new(None),
        })))
    }

    /// Computes the model's outputs for a batch.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn infer(&self, request: &InferRequest) -> Result<InferResponse, ClientError> {
        let answer = self
            .call(request.to_message(), |mut calls, request| async move {
                calls.model_infer(request).await
            })
            .await?;
        InferResponse::from_message(answer).map_err(|problem| ClientError::Answer {
            address: self.0.address.clone(),
            problem,
        })
    }

    /// The inputs and outputs of a model; without `version`, of its active version.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn metadata(
        &self,
        model: &str,
        version: Option<u64>,
    ) -> Result<ModelMetadataResponse, ClientError> {
        let message = ModelMetadataRequest {
            name: model.to_owned(),
            version: version_text(version),
        };
        self.call(message, |mut calls, request| async move {
            calls.model_metadata(request).await
        })
        .await
    }

    /// The configuration of a model; without `version`, of its active version.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn config(
        &self,
        model: &str,
        version: Option<u64>,
    ) -> Result<ModelConfig, ClientError> {
        let message = ModelConfigRequest {
            name: model.to_owned(),
            version: version_text(version),
        };
        let answer = self
            .call(message, |mut calls, request| async move {
                calls.model_config(request).await
            })
            .await?;
        Ok(answer.config.unwrap_or_default())
    }

    /// The statistics of a version of a model; without `version`, of all its versions.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn statistics(
        &self,
        model: &str,
        version: Option<u64>,
    ) -> Result<Vec<ModelStatistics>, ClientError> {
        let message = ModelStatisticsRequest {
            name: model.to_owned(),
            version: version_text(version),
        };
        let answer = self
            .call(message, |mut calls, request| async move {
                calls.model_statistics(request).await
            })
            .await?;
        Ok(answer.model_stats)
    }

    /// Sends `message` with `send` until the service answers, refuses it, or the time is over.
    async fn call<M, A, F>(
        &self,
        message: M,
        send: impl Fn(Calls, Request<M>) -> F,
    ) -> Result<A, ClientError>
    where
        M: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let Inner {
            options, channel, ..
        } = &*self.0;
        let began = Instant::now();
        let left = || options.deadline.saturating_sub(began.elapsed());
        let mut pauses = BackOff::new(FIRST_PAUSE, LONGEST_PAUSE).take(options.retries);
        loop {
            let attempt = self.attempt(message.clone(), left(), &send);
            let Failure { error, is_away } = match timeout(left(), attempt).await {
                Ok(Ok(answer)) => return Ok(answer),
                // tonic reports the end of the time that the request names as CANCELLED.
                Ok(Err(_)) if left().is_zero() => return Err(self.late()),
                Ok(Err(failure)) => failure,
                Err(_) => return Err(self.late()),
            };
            let pause = pauses.next().filter(|_| is_away);
            let Some(pause) = pause.filter(|pause| *pause < left()) else {
                return Err(error);
            };
            // The next attempt connects anew. Another call may be connecting now.
            match timeout(left(), channel.lock()).await {
                Ok(mut connected) => *connected = None,
                Err(_) => return Err(self.late()),
            }
            sleep(pause).await;
        }
    }

    async fn attempt<M, A, F>(
        &self,
        message: M,
        left: Duration,
        send: impl Fn(Calls, Request<M>) -> F,
    ) -> Result<A, Failure>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let calls = Calls::new(self.channel().await?);
        let mut request = Request::new(message);
        request.set_timeout(left);
        let answer = send(calls, request).await;
        let answer = answer.map_err(|status| self.refused(&status))?;
        Ok(answer.into_inner())
    }

    /// The connection, which is made if there is none.
    async fn channel(&self) -> Result<Channel, Failure> {
        let Inner {
            address,
            options,
            channel,
        } = &*self.0;
        let mut channel = channel.lock().await;
        if let Some(connected) = &*channel {
            return Ok(connected.clone());
        }
        let connected = options.credentials.connect(address).await;
        let connected = connected.map_err(|error| match error {
            ConnectError::Unreachable(reason) => Failure {
                error: ClientError::Unreachable {
                    address: address.clone(),
                    reason,
                },
                is_away: true,
            },
            error => Failure {
                error: error.into(),
                is_away: false,
            },
        })?;
        Ok(channel.insert(connected).clone())
    }

    fn refused(&self, status: &Status) -> Failure {
        Failure {
            error: ClientError::Refused {
                address: self.0.address.clone(),
                code: status.code(),
                message: self.0.options.credentials.reason(status),
            },
            is_away: grpc::is_away(status),
        }
    }

    fn late(&self) -> ClientError {
        ClientError::Deadline {
            address: self.0.address.clone(),
            limit: self.0.options.deadline,
        }
    }
}
