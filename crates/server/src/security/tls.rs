//! Reads certificates and keys from PEM files, for servers and clients. ring provides the cryptography.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use tracing::warn;

use common::config::Problems;

/// The `[grpc.tls]` table of a service's configuration. All ports use the certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// The certificate and its intermediate certificates, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Certificates of the authorities of clients, PEM. If set, every client must show a certificate
    /// (mutual TLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// The `tls` table of a client's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// Certificates of the authorities that may have issued the server's certificate, PEM.
    pub ca: PathBuf,
    /// The client's certificate, PEM, for servers that require one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Name in the server's certificate; by default, the host of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// Why a certificate or a key cannot be used; the text names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The file has other content.
    #[error("{} contains no {expected} in PEM format", file.display())]
    NotPem {
        /// The file.
        file: PathBuf,
        /// The expected content.
        expected: &'static str,
    },
    /// The key belongs to another certificate, or is of a kind that is not supported.
    #[error("the key {} does not match the certificate {}: {reason}", key.display(), certificate.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
        /// The error of rustls.
        reason: rustls::Error,
    },
    /// A certificate is not one of an authority.
    #[error("the certificates in {} cannot be used: {reason}", file.display())]
    Rejected {
        /// The file.
        file: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The certificate or the key is missing.
    #[error("a client's certificate needs a key and vice versa: set both or none")]
    Half,
}

impl ServerTls {
    /// Adds the problems of each file to `problems`, with the keys of table `table`.
    pub(super) fn validate(&self, table: &str, problems: &mut Problems) {
        let certificate = read_certificates(&self.certificate);
        let key = read_key(&self.key);
        let mut add = |key: &str, file: &Path, error: &TlsError| {
            problems.add(format!("{table}.{key}"), file.display(), &error.to_string());
        };
        if let Err(error) = &certificate {
            add("certificate", &self.certificate, error);
        }
        if let Err(error) = &key {
            add("key", &self.key, error);
        }
        if certificate.is_ok()
            && key.is_ok()
            && let Err(error) = identity(&self.certificate, &self.key)
        {
            add("key", &self.key, &error);
        }
        if let Some(file) = &self.client_ca
            && let Err(error) = client_verifier(file)
        {
            add("client_ca", file, &error);
        }
    }

    /// All files of the table.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let always = [&self.certificate, &self.key];
        let files = always.into_iter().chain(&self.client_ca);
        files.cloned().collect()
    }

    /// Reads the files. `alpn` is the protocol of the port; `client_certificates` says whether clients must
    /// show a certificate.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub(super) fn load(
        &self,
        alpn: &[u8],
        client_certificates: bool,
    ) -> Result<ServerConfig, TlsError> {
        warn_if_readable(&self.key);
        let CertifiedKey { cert, .. } = identity(&self.certificate, &self.key)?;
        let key = read_key(&self.key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            // Holds: ring supports TLS 1.2 and 1.3.
            .expect("ring supports the default versions");
        let builder = match self.client_ca.as_deref().filter(|_| client_certificates) {
            Some(file) => builder.with_client_cert_verifier(client_verifier(file)?),
            None => builder.with_no_client_auth(),
        };
        let mut config =
            builder
                .with_single_cert(cert, key)
                .map_err(|reason| TlsError::KeyMismatch {
                    key: self.key.clone(),
                    certificate: self.certificate.clone(),
                    reason,
                })?;
        config.alpn_protocols = vec![alpn.to_owned()];
        // A resumed session would skip the check of the client's certificate, even after it has expired.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl ClientTls {
    /// Adds the problems of each file to `problems`, with the keys of table `table`.
    pub fn validate(&self, table: &str, problems: &mut Problems) {
        let mut add = |key: &str, file: &Path, error: &TlsError| {
            problems.add(format!("{table}.{key}"), file.display(), &error.to_string());
        };
        if let Err(error) = read_certificates(&self.ca) {
            add("ca", &self.ca, &error);
        }
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                if let Err(error) = identity(certificate, key) {
                    add("certificate", certificate, &error);
                }
            }
            (None, None) => {}
            (Some(file), None) => add("certificate", file, &TlsError::Half),
            (None, Some(file)) => add("key", file, &TlsError::Half),
        }
    }

    /// Each file of the table with its key.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let optional = [("certificate", &self.certificate), ("key", &self.key)];
        let optional = optional
            .into_iter()
            .filter_map(|(key, file)| Some((key, file.as_deref()?)));
        std::iter::once(("ca", self.ca.as_path())).chain(optional)
    }

    /// Reads the files for tonic.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub(super) fn load(&self) -> Result<tonic::transport::ClientTlsConfig, TlsError> {
        use tonic::transport::{Certificate, ClientTlsConfig, Identity};
        read_certificates(&self.ca)?;
        let mut config =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&self.ca)?));
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                warn_if_readable(key);
                identity(certificate, key)?;
                config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
            }
            (None, None) => {}
            _ => return Err(TlsError::Half),
        }
        Ok(match &self.server_name {
            Some(name) => config.domain_name(name),
            None => config,
        })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Reads a certificate with its intermediate certificates and its key.
fn identity(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = read_certificates(certificate)?;
    CertifiedKey::from_der(chain, read_key(key)?, &provider()).map_err(|reason| {
        TlsError::KeyMismatch {
            key: key.to_owned(),
            certificate: certificate.to_owned(),
            reason,
        }
    })
}

/// Accepts clients with certificates of the authorities in `file`.
fn client_verifier(
    file: &Path,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let rejected = |reason: String| TlsError::Rejected {
        file: file.to_owned(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| rejected(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| rejected(error.to_string()))
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::NotPem {
            file: file.to_owned(),
            expected: "certificate",
        }),
    }
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    // Without the parser's message, which quotes the line and so may contain a secret.
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|_| TlsError::NotPem {
        file: file.to_owned(),
        expected: "private key",
    })
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|error| TlsError::Unreadable {
        file: file.to_owned(),
        error,
    })
}

fn warn_if_readable(file: &Path) {
    let readable = |metadata: fs::Metadata| metadata.permissions().mode() & 0o004 != 0;
    if fs::metadata(file).is_ok_and(readable) {
        warn!(file = %file.display(), "every user of this machine can read the key: chmod o-r it");
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        /// Two certificates with their keys, and a file that is neither.
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            for name in ["one", "other"] {
                let key = KeyPair::generate().unwrap();
                let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
                let certificate = params.self_signed(&key).unwrap();
                fs::write(folder.path(&format!("{name}.pem")), certificate.pem()).unwrap();
                fs::write(folder.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
            }
            fs::write(folder.path("no.pem"), "secret words").unwrap();
            folder
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }
    }

    #[test]
    fn all_unusable_files_are_reported_with_their_keys() {
        let folder = Folder::new();
        let problems = |certificate: &str, key: &str, client_ca: &str| {
            let tls = ServerTls {
                certificate: folder.path(certificate),
                key: folder.path(key),
                client_ca: Some(folder.path(client_ca)),
            };
            let mut problems = Problems::default();
            tls.validate("grpc.tls", &mut problems);
            assert_eq!(problems.is_empty(), tls.load(b"h2", true).is_ok());
            problems.to_string()
        };
        assert_eq!(problems("one.pem", "one.key", "other.pem"), "");
        let mismatch = problems("one.pem", "other.key", "one.pem");
        assert!(mismatch.contains("grpc.tls.key"), "{mismatch}");
        assert!(mismatch.contains("does not match"), "{mismatch}");
        let all = problems("missing.pem", "no.pem", "one.key");
        for (key, words) in [
            ("grpc.tls.certificate", "missing.pem: No such file"),
            ("grpc.tls.key", "no private key in PEM format"),
            ("grpc.tls.client_ca", "no certificate in PEM format"),
        ] {
            assert!(all.contains(key) && all.contains(words), "{all}");
        }
        assert!(!all.contains("secret words"), "{all}");
    }

    #[test]
    fn a_client_needs_certificate_and_key_or_none() {
        let folder = Folder::new();
        let file = |name: &str| Some(folder.path(name));
        for (certificate, key, good) in [
            (None, None, true),
            (file("one.pem"), file("one.key"), true),
            (file("one.pem"), None, false),
            (None, file("one.key"), false),
            (file("one.pem"), file("other.key"), false),
        ] {
            let tls = ClientTls {
                ca: folder.path("one.pem"),
                certificate,
                key,
                server_name: None,
            };
            let mut problems = Problems::default();
            tls.validate("teacher.tls", &mut problems);
            assert_eq!(problems.is_empty(), good, "{problems}");
            assert_eq!(tls.load().is_ok(), good);
        }
    }
}
