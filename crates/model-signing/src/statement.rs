//! The signed content: an in-toto statement with the digests of the files.
//!
//! Specification of the statement: <https://github.com/in-toto/attestation/tree/main/spec/v1>.

use std::collections::BTreeMap;

use common::digest::Sha256;
use serde::{Deserialize, Serialize};

use crate::{ModelFiles, SignatureError, from_json, malformed, require, shown};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
const METHOD: &str = "files";
const HASH: &str = "sha256";

/// An in-toto statement about a model. Fields that do not matter are ignored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Statement {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

/// The fields whose values decide how the others are read.
#[derive(Debug, Deserialize)]
struct Types {
    #[serde(rename = "_type")]
    statement_type: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
}

/// The model as a whole.
#[derive(Debug, Serialize, Deserialize)]
struct Subject {
    /// For people: the name of the signed folder.
    name: String,
    digest: SubjectDigest,
}

#[derive(Debug, Serialize, Deserialize)]
struct SubjectDigest {
    /// SHA-256 of the digests of all resources, one after the other.
    sha256: Sha256,
}

#[derive(Debug, Serialize, Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

/// How the resources follow from a folder. A verifier of a folder uses it to list the same files.
#[derive(Debug, Serialize, Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    #[serde(default)]
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

/// One file.
#[derive(Debug, Serialize, Deserialize)]
struct Resource {
    algorithm: String,
    digest: Sha256,
    /// Path in the folder, with `/`.
    name: String,
}

impl Statement {
    /// The statement about `files` of the model `name`.
    pub(crate) fn of(name: &str, files: &ModelFiles) -> Self {
        let resources = files.digests().map(|(name, digest)| Resource {
            algorithm: HASH.to_owned(),
            digest: digest.clone(),
            name: name.to_owned(),
        });
        let resources: Vec<_> = resources.collect();
        Self {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject {
                name: name.to_owned(),
                digest: SubjectDigest {
                    sha256: digest_of_all(&resources),
                },
            }],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: Predicate {
                serialization: Serialization {
                    method: METHOD.to_owned(),
                    hash_type: HASH.to_owned(),
                    allow_symlinks: true,
                    ignore_paths: files.ignored().to_vec(),
                },
                resources,
            },
        }
    }

    pub(crate) fn from_json(json: &[u8]) -> Result<Self, SignatureError> {
        // Before the other fields, which may differ in another version.
        let types: Types = from_json(json)?;
        require("_type", &types.statement_type, STATEMENT_TYPE)?;
        require("predicateType", &types.predicate_type, PREDICATE_TYPE)?;
        let statement: Self = from_json(json)?;
        let Serialization {
            method, hash_type, ..
        } = &statement.predicate.serialization;
        require("serialization.method", method, METHOD)?;
        require("serialization.hash_type", hash_type, HASH)?;
        for resource in &statement.predicate.resources {
            require("resources.algorithm", &resource.algorithm, HASH)?;
        }
        let [subject] = &statement.subject[..] else {
            return Err(malformed("it must have one subject"));
        };
        if subject.digest.sha256 != digest_of_all(&statement.predicate.resources) {
            return Err(malformed(
                "the digest of its subject is not that of its resources",
            ));
        }
        Ok(statement)
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Cannot fail: the fields are strings, lists of them and a Boolean.
        serde_json::to_vec(self).expect("a statement serializes")
    }

    /// Checks that every file of `files` is among the resources, with the same digest.
    pub(crate) fn check(&self, files: &ModelFiles) -> Result<(), SignatureError> {
        let mut signed = BTreeMap::new();
        for Resource { name, digest, .. } in &self.predicate.resources {
            if signed.insert(name.as_str(), digest).is_some() {
                return Err(malformed(&format!("it names `{}` twice", shown(name))));
            }
        }
        for (name, found) in files.digests() {
            let file = name.to_owned();
            let Some(&signed) = signed.get(name) else {
                return Err(SignatureError::NotCovered { file });
            };
            if found != signed {
                let (found, signed) = (found.clone(), signed.clone());
                return Err(SignatureError::Changed {
                    file,
                    found,
                    signed,
                });
            }
        }
        Ok(())
    }
}

fn digest_of_all(resources: &[Resource]) -> Sha256 {
    let digests = resources.iter().map(|resource| resource.digest.to_bytes());
    Sha256::of(&digests.collect::<Vec<_>>().concat())
}
