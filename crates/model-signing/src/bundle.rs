//! The outer form of a signature: a Sigstore bundle 0.3 that contains a DSSE envelope.
//!
//! Specifications: <https://github.com/sigstore/protobuf-specs> (`sigstore_bundle.proto`) and
//! <https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md>.

use base64::{Engine, engine::general_purpose::STANDARD};
use common::digest::Sha256;
use serde::{Deserialize, Serialize};

use crate::{SignatureError, TrustedKeys, from_json, malformed, require, shown};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// A Sigstore bundle of a signature that was made with a key. Fields that do not matter for it are ignored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bundle {
    media_type: String,
    verification_material: VerificationMaterial,
    dsse_envelope: Envelope,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerificationMaterial {
    /// Absent if the signature was made in another way, for example with a certificate.
    #[serde(default)]
    public_key: Option<PublicKeyIdentifier>,
    /// Always empty: a signature with a key is in no transparency log. Readers need the field.
    #[serde(skip_deserializing)]
    tlog_entries: [(); 0],
}

#[derive(Debug, Serialize, Deserialize)]
struct PublicKeyIdentifier {
    /// The fingerprint of the key. Versions of model-signing before 1.0 did not write it.
    #[serde(default)]
    hint: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    /// The statement in base64.
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EnvelopeSignature {
    /// The signature in base64: ECDSA in ASN.1.
    sig: String,
    /// Always empty: `hint` identifies the key.
    #[serde(default)]
    keyid: String,
}

impl Bundle {
    /// The bundle of the `signature` of `statement` with the key `fingerprint`.
    pub(crate) fn of(fingerprint: &Sha256, statement: &[u8], signature: &[u8]) -> Self {
        Self {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: VerificationMaterial {
                public_key: Some(PublicKeyIdentifier {
                    hint: Some(fingerprint.to_string()),
                }),
                tlog_entries: [],
            },
            dsse_envelope: Envelope {
                payload: STANDARD.encode(statement),
                payload_type: PAYLOAD_TYPE.to_owned(),
                signatures: vec![EnvelopeSignature {
                    sig: STANDARD.encode(signature),
                    keyid: String::new(),
                }],
            },
        }
    }

    pub(crate) fn from_json(json: &[u8]) -> Result<Self, SignatureError> {
        let bundle: Self = from_json(json)?;
        require("mediaType", &bundle.media_type, MEDIA_TYPE)?;
        let payload_type = &bundle.dsse_envelope.payload_type;
        require("dsseEnvelope.payloadType", payload_type, PAYLOAD_TYPE)?;
        Ok(bundle)
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Cannot fail: the fields are strings and lists of them.
        serde_json::to_vec(self).expect("a bundle serializes")
    }

    /// The statement, if one of `keys` signed it.
    pub(crate) fn verified_statement(&self, keys: &TrustedKeys) -> Result<Vec<u8>, SignatureError> {
        let statement = decode("payload", &self.dsse_envelope.payload)?;
        // A bundle has exactly one.
        let [signature] = &self.dsse_envelope.signatures[..] else {
            return Err(malformed("it must have one entry in signatures"));
        };
        let signature = decode("sig", &signature.sig)?;
        let Some(key) = &self.verification_material.public_key else {
            return Err(malformed(
                "it has no verificationMaterial.publicKey: it was not made with a key",
            ));
        };
        let hint = key.hint.as_deref().filter(|hint| !hint.is_empty());
        let mut candidates = keys.with_fingerprint(hint).peekable();
        if candidates.peek().is_none() {
            let key = shown(hint.unwrap_or("(none)"));
            return Err(SignatureError::Untrusted { key });
        }
        let signed = pre_authentication_encoding(&statement);
        if candidates.any(|key| key.made(&signature, &signed)) {
            Ok(statement)
        } else {
            Err(SignatureError::Mismatch)
        }
    }
}

/// The bytes that are signed: DSSE's pre-authentication encoding (PAE) of `statement`.
pub(crate) fn pre_authentication_encoding(statement: &[u8]) -> Vec<u8> {
    let (type_length, length) = (PAYLOAD_TYPE.len(), statement.len());
    let head = format!("DSSEv1 {type_length} {PAYLOAD_TYPE} {length} ");
    [head.as_bytes(), statement].concat()
}

fn decode(field: &str, text: &str) -> Result<Vec<u8>, SignatureError> {
    let decoded = STANDARD.decode(text);
    decoded.map_err(|error| malformed(&format!("{field} is not base64: {error}")))
}
