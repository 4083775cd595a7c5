//! Client side of authentication: credentials and connections.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport,
};

use super::{
    InvalidToken, Token,
    tls::{ClientTls, TlsError},
};
use crate::grpc::{self, InvalidAddress, root_cause};
use common::{config::Problems, os_text};
use traces::Scope;

/// A connection whose calls contain the client's token.
pub type Channel = InterceptedService<transport::Channel, Bearer>;

/// Environment variables for a token, and for the path of a file with one.
pub const TOKEN_VARIABLE: &str = "RETORT_TOKEN";
const TOKEN_FILE_VARIABLE: &str = "RETORT_TOKEN_FILE";

/// The credentials of a client; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Trusted authorities and the client's certificate; `None` means plain text.
    pub tls: Option<ClientTls>,
    /// The client's token.
    pub token: TokenSource,
    /// Whether the token may travel in plain text to another machine.
    pub token_in_plain_text: TokenInPlainText,
}

/// The source of a client's token. The client reads it for each connection, so that it can be replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TokenSource {
    /// No token.
    #[default]
    None,
    /// A file.
    File(PathBuf),
    /// The environment variable [`TOKEN_VARIABLE`].
    Environment,
}

/// Whether a token may travel in plain text to another machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum TokenInPlainText {
    /// No: the client does not connect.
    #[default]
    Never,
    /// Yes.
    AnyoneOnTheWayMayReadIt,
}

/// Options for credentials. There is no option for the token itself, because other users of a machine can see
/// command lines.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Credentials")]
pub struct CredentialArguments {
    /// Certificates of trusted authorities, PEM; enables TLS.
    #[arg(long, value_name = "FILE", env = "RETORT_CA", global = true)]
    ca: Option<PathBuf>,
    /// Client certificate, PEM, for services that require one.
    #[arg(long, value_name = "FILE", env = "RETORT_CERTIFICATE", global = true)]
    certificate: Option<PathBuf>,
    /// Private key of the client certificate, PEM.
    #[arg(long, value_name = "FILE", env = "RETORT_KEY", global = true)]
    key: Option<PathBuf>,
    /// Name in the service's certificate [default: the host of its address].
    #[arg(
        long,
        value_name = "NAME",
        value_parser = os_text::argument(),
        env = "RETORT_SERVER_NAME",
        global = true
    )]
    server_name: Option<String>,
    /// File with a token; the variable RETORT_TOKEN may contain the token itself.
    #[arg(long, value_name = "FILE", env = TOKEN_FILE_VARIABLE, global = true)]
    token_file: Option<PathBuf>,
    /// Whether to send the token to another machine without TLS.
    #[arg(
        long,
        value_enum,
        value_name = "WORDS",
        default_value = "never",
        hide_default_value = true,
        env = "RETORT_TOKEN_IN_PLAIN_TEXT",
        global = true
    )]
    token_in_plain_text: TokenInPlainText,
}

/// Why a client cannot connect.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is invalid.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// A certificate or key cannot be used; the text names the file.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The options contradict each other.
    #[error("{0}")]
    Options(&'static str),
    /// The token's file cannot be read.
    #[error("cannot read the token file {}: {error}", file.display())]
    TokenFile {
        /// The file.
        file: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The content is not a token; the error does not contain it.
    #[error("the content of {place} {error}")]
    Token {
        /// The file or the variable.
        place: String,
        /// The problem.
        error: InvalidToken,
    },
    /// The token would be sent in plain text.
    #[error(
        "the token is not sent to {address} in plain text, where others may read it: use TLS (ca), \
         or set token_in_plain_text = \"anyone_on_the_way_may_read_it\""
    )]
    PlainText {
        /// The address of the service.
        address: String,
    },
    /// The server does not answer, or the TLS handshake failed.
    #[error("{0}")]
    Unreachable(String),
}

impl ConnectError {
    /// Whether the configuration or command line is wrong, and not the service or the network.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Unreachable(_))
    }
}

/// Adds the token, if there is one, to every call, and the headers that name the current span.
#[derive(Debug, Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let name = header::AUTHORIZATION.as_str();
            request.metadata_mut().insert(name, token.clone());
        }
        if let Some(context) = Scope::current().context() {
            context.insert_into(request.metadata_mut().as_mut());
        }
        Ok(request)
    }
}

impl CredentialArguments {
    /// The credentials of the options and the environment.
    ///
    /// # Errors
    /// If options contradict each other.
    pub fn credentials(&self) -> Result<Credentials, ConnectError> {
        let Self {
            ca,
            certificate,
            key,
            server_name,
            token_file,
            token_in_plain_text,
        } = self.clone();
        let tls = match ca {
            Some(ca) => Some(ClientTls {
                ca,
                certificate,
                key,
                server_name,
            }),
            None if certificate.is_some() || key.is_some() || server_name.is_some() => {
                return Err(ConnectError::Options(
                    "--certificate, --key and --server-name need TLS: set --ca too",
                ));
            }
            None => None,
        };
        let token = match token_file {
            Some(file) => TokenSource::File(file),
            None if std::env::var_os(TOKEN_VARIABLE).is_some() => TokenSource::Environment,
            None => TokenSource::None,
        };
        Ok(Credentials {
            tls,
            token,
            token_in_plain_text,
        })
    }
}

impl TokenSource {
    /// The file, if there is one.
    pub fn from_file(file: Option<&Path>) -> Self {
        file.map_or(Self::None, |file| Self::File(file.to_owned()))
    }

    fn read(&self) -> Result<Option<Token>, ConnectError> {
        let (place, text) = match self {
            Self::None => return Ok(None),
            Self::File(file) => {
                let text = fs::read_to_string(file).map_err(|error| ConnectError::TokenFile {
                    file: file.clone(),
                    error,
                })?;
                (file.display().to_string(), text)
            }
            Self::Environment => {
                let text = std::env::var(TOKEN_VARIABLE).unwrap_or_default();
                (TOKEN_VARIABLE.to_owned(), text)
            }
        };
        match Token::parse(&text) {
            Ok(token) => Ok(Some(token)),
            Err(error) => Err(ConnectError::Token { place, error }),
        }
    }
}

impl Credentials {
    /// Creates the endpoint for `address`, with TLS if the credentials contain certificates.
    ///
    /// # Errors
    /// If the address is invalid, its scheme contradicts the credentials, or a file cannot be used.
    pub fn endpoint(&self, address: &str) -> Result<transport::Endpoint, ConnectError> {
        self.check_address(address)?;
        let Some(tls) = &self.tls else {
            return Ok(grpc::endpoint(address)?);
        };
        let address = if address.contains("://") {
            address.to_owned()
        } else {
            format!("https://{address}")
        };
        let endpoint = grpc::endpoint(&address)?.tls_config(tls.load()?);
        endpoint.map_err(|error| ConnectError::Unreachable(root_cause(&error)))
    }

    /// Adds the problems of the files to `problems`, with the keys `tls` and `token_file` of
    /// table `table`.
    pub fn validate(&self, table: &str, problems: &mut Problems) {
        if let Some(tls) = &self.tls {
            tls.validate(&format!("{table}.tls"), problems);
        }
        if let Err(error) = self.token.read()
            && let TokenSource::File(file) = &self.token
        {
            let key = format!("{table}.token_file");
            problems.add(key, file.display(), &error.to_string());
        }
    }

    /// Checks that `address` is valid and its scheme, if it has one, agrees with the credentials.
    ///
    /// # Errors
    /// The problem of the address.
    pub fn check_address(&self, address: &str) -> Result<(), ConnectError> {
        match (&self.tls, address.split_once("://")) {
            (None, Some(("https", _))) => Err(ConnectError::Options(
                "an address with https:// needs the authority of its certificate (ca)",
            )),
            (Some(_), Some(("http", _))) => Err(ConnectError::Options(
                "an address with http:// means plain text, but a certificate authority (ca) is given",
            )),
            _ => Ok(grpc::endpoint(address).map(drop)?),
        }
    }

    /// Like [`grpc::reason`], with a hint if the connection was lost and may need TLS.
    pub fn reason(&self, status: &Status) -> String {
        let reason = grpc::reason(status);
        match std::error::Error::source(status) {
            Some(_) if self.tls.is_none() => {
                format!(
                    "{reason}; if the service uses TLS, set the authority of its certificate (ca)"
                )
            }
            _ => reason,
        }
    }

    /// Connects to `address`, `host:port`, once.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, address: &str) -> Result<Channel, ConnectError> {
        self.connect_endpoint(self.endpoint(address)?, address)
            .await
    }

    /// Like [`connect`](Self::connect), to one `address` of the name `name`, `host:port`. The server's
    /// certificate must contain the host of `name`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_to(
        &self,
        name: &str,
        address: SocketAddr,
    ) -> Result<Channel, ConnectError> {
        let mut credentials = self.clone();
        if let Some(tls) = &mut credentials.tls
            && tls.server_name.is_none()
        {
            tls.server_name = Some(host(&grpc::endpoint(name)?).to_owned());
        }
        credentials.connect(&address.to_string()).await
    }

    async fn connect_endpoint(
        &self,
        endpoint: transport::Endpoint,
        address: &str,
    ) -> Result<Channel, ConnectError> {
        let token = self.token.read()?;
        let readable = self.tls.is_none() && !is_loopback(host(&endpoint));
        if token.is_some()
            && readable
            && self.token_in_plain_text != TokenInPlainText::AnyoneOnTheWayMayReadIt
        {
            return Err(ConnectError::PlainText {
                address: address.to_owned(),
            });
        }
        let channel = grpc::connect(&endpoint)
            .await
            .map_err(|error| ConnectError::Unreachable(root_cause(&error)))?;
        let bearer = Bearer(token.map(|token| metadata_value(&token.header())));
        Ok(InterceptedService::new(channel, bearer))
    }
}

/// The same bytes, as tonic's type.
fn metadata_value(header: &HeaderValue) -> MetadataValue<Ascii> {
    // Holds: the header is ASCII.
    let mut value = MetadataValue::try_from(header.as_bytes()).expect("a token is ASCII");
    value.set_sensitive(true);
    value
}

fn host(endpoint: &transport::Endpoint) -> &str {
    let host = endpoint.uri().host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_sent_in_plain_text_to_this_machine_or_if_permitted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, Token::generate().unwrap().reveal()).unwrap();
        let mut credentials = Credentials {
            token: TokenSource::File(file),
            ..Credentials::default()
        };
        // Port 1 of an address that is reserved for documentation: nothing is ever sent.
        for address in ["192.0.2.1:1", "no.such.host.invalid:1"] {
            let error = credentials.connect(address).await.unwrap_err();
            assert!(matches!(error, ConnectError::PlainText { .. }), "{error}");
            assert!(error.to_string().contains(address), "{error}");
        }
        for address in ["127.0.0.1:1", "[::1]:1", "localhost:1"] {
            let error = credentials.connect(address).await.unwrap_err();
            assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
        }
        credentials.token_in_plain_text = TokenInPlainText::AnyoneOnTheWayMayReadIt;
        let error = credentials.connect("no.such.host.invalid:1").await;
        assert!(matches!(error, Err(ConnectError::Unreachable(_))));
    }

    #[tokio::test]
    async fn other_content_of_a_token_file_is_neither_sent_nor_printed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passwd");
        fs::write(&file, "root:x:0:0").unwrap();
        let credentials = Credentials {
            token: TokenSource::File(file),
            ..Credentials::default()
        };
        let error = credentials.connect("127.0.0.1:1").await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("passwd") && !text.contains("root"), "{text}");
    }

    #[test]
    fn the_scheme_must_agree_with_the_credentials() {
        let plain = Credentials::default();
        assert!(plain.endpoint("http://a:1").is_ok());
        assert!(plain.endpoint("https://a:1").is_err());
    }
}
