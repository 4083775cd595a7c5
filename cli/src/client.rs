//! A service at an address. Every error names both.

use retort_client::{Client, ClientError, ClientOptions};
use server::security::client::{Channel, ConnectError, CredentialArguments, Credentials};
use tonic::{Code, Status};

use crate::CliError;

/// The address of a service, and its name in messages.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    service: &'static str,
    address: String,
    credentials: Credentials,
}

impl Remote {
    /// A trainer's run service.
    pub(crate) fn trainer(address: impl Into<String>) -> Self {
        Self::new("trainer", address)
    }

    /// A teacher service.
    pub(crate) fn teacher(address: impl Into<String>) -> Self {
        Self::new("teacher", address)
    }

    /// An inference service's port for predictions.
    pub(crate) fn inference(address: impl Into<String>) -> Self {
        Self::new("inference service", address)
    }

    /// An inference service's port for publishing and versions.
    pub(crate) fn admin(address: impl Into<String>) -> Self {
        Self::new("inference service's admin port", address)
    }

    fn new(service: &'static str, address: impl Into<String>) -> Self {
        Self {
            service,
            address: address.into(),
            credentials: Credentials::default(),
        }
    }

    /// Uses the credentials of the command line and the environment.
    pub(crate) fn with(mut self, credentials: &CredentialArguments) -> Result<Self, CliError> {
        self.credentials = credentials.credentials()?;
        Ok(self)
    }

    /// Connects once.
    pub(crate) async fn connect(&self) -> Result<Channel, CliError> {
        let connected = self.credentials.connect(&self.address).await;
        connected.map_err(|error| match error {
            ConnectError::Unreachable(reason) => CliError::Unreachable {
                service: self.service,
                address: self.address.clone(),
                reason,
            },
            error => error.into(),
        })
    }

    /// A client of an inference service, which connects when it is used.
    pub(crate) fn inference_client(&self) -> Result<Client, CliError> {
        let options = ClientOptions {
            credentials: self.credentials.clone(),
            ..ClientOptions::default()
        };
        Ok(Client::new(&self.address, options)?)
    }

    /// For `map_err`: converts the error of [`inference_client`](Self::inference_client).
    pub(crate) fn failed(&self) -> impl Fn(ClientError) -> CliError {
        |error| match error {
            ClientError::Connect(error) => error.into(),
            ClientError::Unreachable { reason, .. } => CliError::Unreachable {
                service: self.service,
                address: self.address.clone(),
                reason,
            },
            ClientError::Refused { code, message, .. } => CliError::Refused {
                service: self.service,
                address: self.address.clone(),
                code,
                message,
            },
            ClientError::Deadline { limit, .. } => CliError::Refused {
                service: self.service,
                address: self.address.clone(),
                code: Code::DeadlineExceeded,
                message: format!("no answer within {limit:?}"),
            },
            ClientError::Answer { problem, .. } => self.invalid_answer(problem),
        }
    }

    /// For `map_err`: converts the status that the service returned.
    pub(crate) fn refused(&self) -> impl Fn(Status) -> CliError {
        |status| CliError::Refused {
            service: self.service,
            address: self.address.clone(),
            code: status.code(),
            message: self.credentials.reason(&status),
        }
    }

    /// The error for an answer that violates the contract.
    pub(crate) fn invalid_answer(&self, problem: impl Into<String>) -> CliError {
        CliError::Answer {
            service: self.service,
            address: self.address.clone(),
            problem: problem.into(),
        }
    }
}
