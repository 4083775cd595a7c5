//! The names of the objects of a store, and what a listing says about its models.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use common::digest::Sha256;
use object_store::{ObjectMeta, path::Path};

use crate::model_store::{ACTIVE_FILE, MANIFEST_FILE, ModelName, parse_version};

/// The folder of a model's ONNX files.
const UPLOADS: &str = "onnx";

/// How the name of a signature ends, after the digest of the manifest that it covers.
const SIGNATURE: &str = ".sig";

/// The objects of one model.
#[derive(Debug, Default)]
pub(super) struct ModelObjects {
    /// The ETag of `active.json`.
    pub(super) active: Option<String>,
    /// The versions with a manifest.
    pub(super) versions: BTreeSet<u64>,
    pub(super) uploads: Vec<Upload>,
    pub(super) signatures: Vec<Signature>,
}

impl ModelObjects {
    /// Whether an upload or a signature may have no version.
    pub(super) fn may_have_garbage(&self) -> bool {
        let mut signatures = self.signatures.iter();
        self.uploads.len() > self.versions.len()
            || signatures.any(|signature| !self.versions.contains(&signature.version))
    }
}

/// An uploaded ONNX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upload {
    pub(super) path: Path,
    pub(super) sha256: Sha256,
    pub(super) size: u64,
    /// By the clock of the object store.
    pub(super) uploaded: SystemTime,
}

/// The signature of a manifest, which its writer created to commit `version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) path: Path,
    pub(super) version: u64,
    /// By the clock of the object store.
    pub(super) uploaded: SystemTime,
}

/// The object that names the active version.
pub(super) fn active(model: &ModelName) -> Path {
    format!("{model}/{ACTIVE_FILE}").into()
}

/// The commit mark of a version.
pub(super) fn manifest(model: &ModelName, version: u64) -> Path {
    format!("{model}/{version}/{MANIFEST_FILE}").into()
}

/// The signature of the manifest with the digest `manifest` as that of `version`.
pub(super) fn signature(model: &ModelName, version: u64, manifest: &Sha256) -> Path {
    format!("{model}/{version}/{manifest}{SIGNATURE}").into()
}

/// The folder of the uploads with a digest.
pub(super) fn uploads(model: &ModelName, sha256: &Sha256) -> Path {
    format!("{model}/{UPLOADS}/{sha256}").into()
}

/// One upload of an ONNX file. No two uploads have the same `id`, so nothing that removes an old upload can remove
/// one that another process has just made.
pub(super) fn upload(model: &ModelName, sha256: &Sha256, id: &str) -> Path {
    format!("{model}/{UPLOADS}/{sha256}/{id}.onnx").into()
}

/// The models in a listing. Objects with other names are left out.
pub(super) fn models(listed: Vec<ObjectMeta>) -> BTreeMap<ModelName, ModelObjects> {
    let mut models: BTreeMap<ModelName, ModelObjects> = BTreeMap::new();
    for object in listed {
        let name = object.location.to_string();
        let parts: Vec<&str> = name.split('/').collect();
        let Some(Ok(model)) = parts.first().map(|model| ModelName::new(model)) else {
            continue;
        };
        match parts[1..] {
            [ACTIVE_FILE] => {
                // Every supported store gives an ETag; the time is as good for those who compare.
                let tag = object.e_tag;
                let tag = tag.unwrap_or_else(|| object.last_modified.to_string());
                models.entry(model).or_default().active = Some(tag);
            }
            [version, MANIFEST_FILE] => {
                let version = parse_version(version);
                models.entry(model).or_default().versions.extend(version);
            }
            [version, file] if is_signature(file) => {
                let signature = parse_version(version).map(|version| Signature {
                    version,
                    uploaded: object.last_modified.into(),
                    path: object.location,
                });
                models
                    .entry(model)
                    .or_default()
                    .signatures
                    .extend(signature);
            }
            [UPLOADS, sha256, _] => {
                let upload = Sha256::parse(sha256).map(|sha256| Upload {
                    sha256,
                    size: object.size,
                    uploaded: object.last_modified.into(),
                    path: object.location,
                });
                models.entry(model).or_default().uploads.extend(upload);
            }
            _ => {}
        }
    }
    models
}

fn is_signature(file: &str) -> bool {
    let digest = file.strip_suffix(SIGNATURE);
    digest.is_some_and(|digest| Sha256::parse(digest).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_sorted_into_models() {
        let sha256 = Sha256::of(b"one");
        let model = ModelName::new("digits").unwrap();
        let names = [
            active(&model),
            manifest(&model, 2),
            manifest(&model, 10),
            upload(&model, &sha256, "a"),
            signature(&model, 2, &sha256),
            "digits/01/manifest.json".into(),
            "digits/2/other.sig".into(),
            "digits/2/model.onnx".into(),
            "digits/onnx/abc/a.onnx".into(),
            "digits".into(),
            ".hidden/1/manifest.json".into(),
            "letters/1/manifest.json".into(),
        ];
        let listed = names.map(|location| ObjectMeta {
            location,
            last_modified: SystemTime::UNIX_EPOCH.into(),
            size: 3,
            e_tag: Some("tag".to_owned()),
            version: None,
        });
        let models = models(listed.into());
        let found: Vec<_> = models.keys().map(ModelName::as_str).collect();
        assert_eq!(found, ["digits", "letters"]);
        let digits = &models["digits"];
        assert_eq!(digits.active.as_deref(), Some("tag"));
        assert_eq!(digits.versions, BTreeSet::from([2, 10]));
        let expected = Upload {
            path: upload(&model, &sha256, "a"),
            sha256,
            size: 3,
            uploaded: SystemTime::UNIX_EPOCH,
        };
        assert_eq!(digits.uploads, [expected]);
        let expected = Signature {
            path: signature(&model, 2, &Sha256::of(b"one")),
            version: 2,
            uploaded: SystemTime::UNIX_EPOCH,
        };
        assert_eq!(digits.signatures, [expected]);
        assert!(!digits.may_have_garbage());
        assert_eq!(models["letters"].active, None);
    }
}
