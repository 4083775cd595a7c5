//! Copies of the active versions of a store in the layout of a store in a folder, also as objects in a bucket.
//!
//! ```text
//! <target>/<model>/<version>/model.onnx
//!                           /model.sig       if the model is signed
//!                           /manifest.json   written last: the commit mark
//!                 /active.json               the copied version
//! ```
//!
//! Programs that download a folder from a bucket, such as KServe, can serve the objects; an inference service cannot use
//! them as its store in a bucket, which has another layout.

use std::{fs, io, path::PathBuf, time::Duration};

use common::{atomic_file, digest::Sha256};
use object_storage::{Bucket, BucketLocation, Location};
use object_store::path::Path as ObjectPath;

use super::{
    ACTIVE_FILE, ActiveVersion, FolderStore, MANIFEST_FILE, MODEL_FILE, ModelName, ModelStore,
    SignedManifest, StoreError, folder::read_if_present, io_error, signed::SIGNATURE_FILE,
};
use crate::manifest::ArtifactManifest;

/// Largest `active.json`, manifest or signature that is read, bytes.
const LARGEST_RECORD: u64 = 1 << 28;

/// Where the copies are.
#[derive(Debug)]
pub enum ExportTarget {
    /// A store in a folder, which this process has open to write.
    Folder {
        /// The folder.
        root: PathBuf,
        /// Holds the lock of the folder.
        store: FolderStore,
    },
    /// A prefix in a bucket. One process at a time may export to it.
    Bucket(Bucket),
}

/// A copied version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Its number, the same as in the store.
    pub version: u64,
    /// Whether the target had it already.
    pub was_there: bool,
}

impl ExportTarget {
    /// Opens the target at `location`. A request to a bucket is repeated for `patience`.
    ///
    /// # Errors
    /// Those of [`FolderStore::open`] and [`Bucket::open`].
    pub fn open(location: &Location, patience: Duration) -> Result<Self, StoreError> {
        match location {
            Location::Folder(root) => Ok(Self::Folder {
                root: root.clone(),
                store: FolderStore::open(root)?,
            }),
            Location::Bucket(location) => Self::in_bucket(location, patience),
        }
    }

    fn in_bucket(location: &BucketLocation, patience: Duration) -> Result<Self, StoreError> {
        Ok(Self::Bucket(Bucket::open(location, patience)?))
    }

    /// Copies the active version of `model` from `store`, and makes it the active version of the target; `None` if no version
    /// is active. A version that the target has is not written again: it has the same manifest and signature, and the size and
    /// SHA-256 of its model are those in the manifest. A damaged model is replaced.
    ///
    /// # Errors
    /// If the store cannot be read, its files are damaged, or the target cannot be written; and [`StoreError::Corrupt`] if the
    /// target has another model under the same name and number.
    pub fn export(
        &self,
        store: &dyn ModelStore,
        model: &ModelName,
    ) -> Result<Option<Exported>, StoreError> {
        let Some(active) = store.active(model)? else {
            return Ok(None);
        };
        let version = active.version;
        let (manifest, signed) = store.signed_manifest(model, version)?;
        let folder = format!("{model}/{version}");
        let was_there = self.has(&folder, &manifest, signed.as_ref())?;
        if !was_there {
            let onnx = store.onnx(model, version, &manifest)?;
            let (json, signature) = match signed {
                Some(SignedManifest { json, signature }) => (json, Some(signature)),
                None => (manifest.to_json(), None),
            };
            self.write(&format!("{folder}/{MODEL_FILE}"), &onnx)?;
            if let Some(signature) = signature {
                self.write(&format!("{folder}/{SIGNATURE_FILE}"), &signature)?;
            }
            self.write(&format!("{folder}/{MANIFEST_FILE}"), &json)?;
        }
        self.activate(model, version)?;
        Ok(Some(Exported { version, was_there }))
    }

    /// Whether the target has this version, whole. Compares the bytes of the manifest and the signature (without a signature,
    /// what the manifest means), then the size of the model, and only if that is right its SHA-256.
    fn has(
        &self,
        folder: &str,
        manifest: &ArtifactManifest,
        signed: Option<&SignedManifest>,
    ) -> Result<bool, StoreError> {
        let path = format!("{folder}/{MANIFEST_FILE}");
        let Some(json) = self.read(&path, LARGEST_RECORD)? else {
            return Ok(false);
        };
        let signature = self.read(&format!("{folder}/{SIGNATURE_FILE}"), LARGEST_RECORD)?;
        let is_same = match signed {
            Some(signed) => json == signed.json && signature.as_ref() == Some(&signed.signature),
            None => {
                let found = ArtifactManifest::from_json(&json);
                found.is_ok_and(|found| found == *manifest) && signature.is_none()
            }
        };
        if !is_same {
            let problem =
                "this is another model of the same name and version; export to another folder";
            return Err(StoreError::Corrupt {
                path: self.path_of(&path),
                problem: problem.to_owned(),
            });
        }
        let path = format!("{folder}/{MODEL_FILE}");
        if self.size(&path)? != Some(manifest.onnx.size) {
            return Ok(false);
        }
        let onnx = self.read(&path, manifest.onnx.size)?;
        Ok(onnx.is_some_and(|onnx| Sha256::of(&onnx) == manifest.onnx.sha256))
    }

    fn activate(&self, model: &ModelName, version: u64) -> Result<(), StoreError> {
        let path = format!("{model}/{ACTIVE_FILE}");
        let before = self.read(&path, LARGEST_RECORD)?;
        let before = before
            .map(|json| ActiveVersion::from_json(&self.path_of(&path), &json))
            .transpose()?;
        let active = ActiveVersion::activated(before, version);
        if before == Some(active) {
            return Ok(());
        }
        self.write(&path, &active.to_json())
    }

    /// The size of a file in bytes, if it exists.
    fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        match self {
            Self::Folder { root, .. } => {
                let path = root.join(path);
                match fs::metadata(&path) {
                    Ok(metadata) => Ok(Some(metadata.len())),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(io_error(&path)(error)),
                }
            }
            Self::Bucket(bucket) => Ok(bucket.size(&ObjectPath::from(path))?),
        }
    }

    /// A file of at most `size` bytes, if it exists.
    fn read(&self, path: &str, size: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Folder { root, .. } => read_if_present(&root.join(path)),
            Self::Bucket(bucket) => match bucket.download(&ObjectPath::from(path), size) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(error) if error.is_missing() => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Writes or replaces a file at once: readers see the old one or the new one.
    fn write(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::Folder { root, .. } => {
                let path = root.join(path);
                atomic_file::write(&path, bytes).map_err(io_error(&path))
            }
            Self::Bucket(bucket) => Ok(bucket.upload(&ObjectPath::from(path), bytes)?),
        }
    }

    /// The name of a file in errors.
    fn path_of(&self, path: &str) -> PathBuf {
        match self {
            Self::Folder { root, .. } => root.join(path),
            Self::Bucket(bucket) => bucket.url(&ObjectPath::from(path)).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use object_store::memory::InMemory;
    use tempfile::TempDir;

    use super::*;
    use crate::model_store::test_model::{manifest, name};

    /// A store whose model has versions 1 and 2; 2 is active, and signed.
    fn store() -> (TempDir, FolderStore, SignedManifest) {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path()).unwrap();
        let model = name("digits");
        store.commit(&model, b"one", &manifest(b"one")).unwrap();
        let signed = SignedManifest {
            // Other bytes than `to_json` gives.
            json: [manifest(b"two").to_json(), b"\n".to_vec()].concat(),
            signature: b"signature".to_vec(),
        };
        store.commit_signed(&model, b"two", &signed).unwrap();
        store.activate(&model, 2).unwrap();
        (folder, store, signed)
    }

    fn to_folder(root: &Path) -> ExportTarget {
        ExportTarget::open(&Location::Folder(root.to_owned()), Duration::ZERO).unwrap()
    }

    fn to_bucket(objects: &Arc<InMemory>) -> ExportTarget {
        let url = "s3://b/kserve".to_owned();
        let objects = Arc::clone(objects) as _;
        ExportTarget::Bucket(Bucket::over(objects, url, Duration::from_secs(60)).unwrap())
    }

    fn exported(version: u64, was_there: bool) -> Option<Exported> {
        Some(Exported { version, was_there })
    }

    #[test]
    fn the_active_version_is_copied_with_its_number_and_signature() {
        let (_folder, store, signed) = store();
        let model = name("digits");
        let root = tempfile::tempdir().unwrap();
        let target = to_folder(root.path());
        assert_eq!(target.export(&store, &model).unwrap(), exported(2, false));
        let reader = FolderStore::read_only(root.path());
        assert_eq!(reader.version_numbers(&model).unwrap(), [2]);
        assert_eq!(reader.active(&model).unwrap().unwrap().version, 2);
        let (found, signature) = reader.signed_manifest(&model, 2).unwrap();
        assert_eq!(signature, Some(signed));
        assert_eq!(reader.onnx(&model, 2, &found).unwrap(), b"two");

        // A second export writes nothing but what has changed.
        assert_eq!(target.export(&store, &model).unwrap(), exported(2, true));
        store.activate(&model, 1).unwrap();
        assert_eq!(target.export(&store, &model).unwrap(), exported(1, false));
        assert_eq!(reader.version_numbers(&model).unwrap(), [1, 2]);
        assert_eq!(reader.active(&model).unwrap().unwrap().version, 1);
        let (found, signature) = reader.signed_manifest(&model, 1).unwrap();
        assert_eq!(signature, None);
        assert_eq!(reader.onnx(&model, 1, &found).unwrap(), b"one");
    }

    #[test]
    fn a_damaged_model_in_the_target_is_replaced() {
        let (_folder, store, _) = store();
        let model = name("digits");
        let root = tempfile::tempdir().unwrap();
        let path = "digits/2/model.onnx";
        for target in [to_folder(root.path()), to_bucket(&Arc::default())] {
            assert_eq!(target.export(&store, &model).unwrap(), exported(2, false));
            for damaged in ["tw0", "two, and more", "tw", ""] {
                target.write(path, damaged.as_bytes()).unwrap();
                let export = || target.export(&store, &model).unwrap();
                assert_eq!(export(), exported(2, false), "{target:?}: {damaged}");
                assert_eq!(target.read(path, 3).unwrap().unwrap(), b"two");
                assert_eq!(export(), exported(2, true), "{target:?}: {damaged}");
            }
        }
    }

    #[test]
    fn the_objects_of_a_bucket_are_the_files_of_a_folder() {
        let (_folder, store, _) = store();
        let model = name("digits");
        let root = tempfile::tempdir().unwrap();
        to_folder(root.path()).export(&store, &model).unwrap();
        let objects = Arc::new(InMemory::new());
        let target = to_bucket(&objects);
        assert_eq!(target.export(&store, &model).unwrap(), exported(2, false));
        assert_eq!(target.export(&store, &model).unwrap(), exported(2, true));
        let ExportTarget::Bucket(bucket) = target else {
            panic!("it is a bucket");
        };
        let listed = bucket.list(&ObjectPath::default()).unwrap();
        let mut names: Vec<_> = listed.iter().map(|it| it.location.to_string()).collect();
        names.sort();
        let expected = [
            "digits/2/manifest.json",
            "digits/2/model.onnx",
            "digits/2/model.sig",
            "digits/active.json",
        ];
        assert_eq!(names, expected);
        for name in expected {
            let object = bucket.read(&ObjectPath::from(name)).unwrap().unwrap();
            assert_eq!(object.bytes, fs::read(root.path().join(name)).unwrap());
        }
    }

    #[test]
    fn another_model_of_the_same_number_is_not_replaced() {
        let (_folder, store, _) = store();
        let model = name("digits");
        let root = tempfile::tempdir().unwrap();
        let before = FolderStore::open(root.path()).unwrap();
        for onnx in [b"abc", b"def"] {
            before.commit(&model, onnx, &manifest(onnx)).unwrap();
        }
        drop(before);
        let objects = Arc::new(InMemory::new());
        let bucket = to_bucket(&objects);
        let there = manifest(b"abc").to_json();
        bucket.write("digits/2/manifest.json", &there).unwrap();
        for target in [to_folder(root.path()), bucket] {
            let error = target.export(&store, &model).unwrap_err().to_string();
            assert!(error.contains("digits/2/manifest.json"), "{error}");
            assert!(error.contains("another model"), "{error}");
            assert!(target.read("digits/active.json", 99).unwrap().is_none());
        }
        let kept = fs::read(root.path().join("digits/2/model.onnx")).unwrap();
        assert_eq!(kept, b"def");
    }

    #[test]
    fn a_damaged_model_is_not_exported_and_one_that_never_served_is_left_out() {
        let (folder, store, _) = store();
        let other = name("letters");
        store.commit(&other, b"one", &manifest(b"one")).unwrap();
        fs::write(folder.path().join("digits/2/model.onnx"), "tw0").unwrap();
        let root = tempfile::tempdir().unwrap();
        let target = to_folder(root.path());
        assert_eq!(target.export(&store, &other).unwrap(), None);
        let error = target.export(&store, &name("digits")).unwrap_err();
        assert!(error.is_damage(), "{error}");
        let reader = FolderStore::read_only(root.path());
        assert!(reader.models().unwrap().is_empty());
    }
}
