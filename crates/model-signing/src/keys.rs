//! Elliptic-curve keys in PEM: the private key that signs, and the public keys that are trusted.

use std::{
    io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{digest::Sha256, folders};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1,
        ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        EcdsaVerificationAlgorithm, KeyPair, UnparsedPublicKey,
    },
};
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject};

/// `SubjectPublicKeyInfo` (RFC 5480) of a P-256 key before its uncompressed point: id-ecPublicKey, secp256r1.
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The same of a P-384 key: id-ecPublicKey, secp384r1.
const P384_HEAD: [u8; 23] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];

/// Characters per line of a PEM file.
const PEM_LINE: usize = 64;

/// Why a file does not contain a usable key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The file has no private key.
    #[error(
        "has no unencrypted private key in PEM (BEGIN PRIVATE KEY); `openssl pkcs8 -topk8 -nocrypt` converts other forms"
    )]
    NoPrivateKey,
    /// The file has no public key.
    #[error(
        "has no public key in PEM (BEGIN PUBLIC KEY); `openssl pkey -pubout` makes it from a private key"
    )]
    NoPublicKey,
    /// The key is of another kind.
    #[error("is not a complete key of the elliptic curve P-256 or P-384")]
    Curve,
}

/// Why a key cannot be read from a file. The text does not show the content of the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The file has no usable key.
    #[error("{}: {error}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The problem.
        error: InvalidKey,
    },
}

/// A private key.
#[derive(Debug)]
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

/// The public keys whose signatures are accepted.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys(Vec<PublicKey>);

/// A public key.
#[derive(Debug, Clone)]
pub(crate) struct PublicKey {
    curve: Curve,
    /// The uncompressed point.
    point: Vec<u8>,
    fingerprint: Sha256,
}

/// The curves that `model-signing` and ring both have.
#[derive(Debug, Clone, Copy)]
enum Curve {
    P256,
    P384,
}

impl SigningKey {
    /// Reads a private key from a PEM file (PKCS #8, not encrypted).
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn read(file: &Path) -> Result<Self, KeyFileError> {
        read(file, Self::from_pem)
    }

    /// Reads a private key in PEM.
    ///
    /// # Errors
    /// See [`InvalidKey`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidKey> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| InvalidKey::NoPrivateKey)?;
        let random = SystemRandom::new();
        let of_curve = |curve: Curve| {
            let pair =
                EcdsaKeyPair::from_pkcs8(curve.signing(), key.secret_pkcs8_der(), &random).ok()?;
            let public = PublicKey::new(curve, pair.public_key().as_ref());
            Some(Self { pair, public })
        };
        let key = Curve::ALL.into_iter().find_map(of_curve);
        key.ok_or(InvalidKey::Curve)
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature of `message` in ASN.1; `None` without random numbers.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.pair.sign(&SystemRandom::new(), message).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

impl TrustedKeys {
    /// Reads a public key from a PEM file and trusts it from now on.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn trust(&mut self, file: &Path) -> Result<(), KeyFileError> {
        self.0.push(read(file, PublicKey::from_pem)?);
        Ok(())
    }

    /// Reads one public key in PEM.
    ///
    /// # Errors
    /// See [`InvalidKey`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidKey> {
        Ok(Self(vec![PublicKey::from_pem(pem)?]))
    }

    /// Whether no key is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that a signature with this fingerprint may be from: all, if it names none.
    pub(crate) fn with_fingerprint(
        &self,
        fingerprint: Option<&str>,
    ) -> impl Iterator<Item = &PublicKey> {
        let keys = self.0.iter();
        keys.filter(move |key| fingerprint.is_none_or(|named| named == key.fingerprint.as_str()))
    }
}

impl PublicKey {
    fn from_pem(pem: &[u8]) -> Result<Self, InvalidKey> {
        let key =
            SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| InvalidKey::NoPublicKey)?;
        let der: &[u8] = &key;
        let of_curve = |curve: Curve| {
            let point = der.strip_prefix(curve.head())?;
            (point.len() == curve.point_bytes()).then(|| Self::new(curve, point))
        };
        let key = Curve::ALL.into_iter().find_map(of_curve);
        key.ok_or(InvalidKey::Curve)
    }

    fn new(curve: Curve, point: &[u8]) -> Self {
        let der = [curve.head(), point].concat();
        Self {
            curve,
            point: point.to_vec(),
            fingerprint: Sha256::of(to_pem(&der).as_bytes()),
        }
    }

    /// What `model-signing` identifies a key by: the SHA-256 of its PEM file.
    pub(crate) fn fingerprint(&self) -> &Sha256 {
        &self.fingerprint
    }

    /// Whether `signature`, in ASN.1, is one of `message` with this key.
    pub(crate) fn made(&self, signature: &[u8], message: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(self.curve.verification(), &self.point);
        key.verify(message, signature).is_ok()
    }
}

impl Curve {
    const ALL: [Self; 2] = [Self::P256, Self::P384];

    fn head(self) -> &'static [u8] {
        match self {
            Self::P256 => &P256_HEAD,
            Self::P384 => &P384_HEAD,
        }
    }

    /// Bytes of an uncompressed point.
    fn point_bytes(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::P384 => 97,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        }
    }

    fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1,
            Self::P384 => &ECDSA_P384_SHA384_ASN1,
        }
    }
}

fn read<T>(
    file: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, InvalidKey>,
) -> Result<T, KeyFileError> {
    let file = file.to_owned();
    let pem = match folders::read(&file) {
        Ok(pem) => pem,
        Err(error) => return Err(KeyFileError::Io { file, error }),
    };
    parse(&pem).map_err(|error| KeyFileError::Invalid { file, error })
}

/// The PEM file of a public key (RFC 7468), as OpenSSL writes it.
fn to_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(PEM_LINE);
    // Holds: base64 is ASCII.
    let lines: Vec<_> = lines.map(String::from_utf8_lossy).collect();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        lines.join("\n")
    )
}
