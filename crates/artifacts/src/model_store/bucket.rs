//! A model store in a bucket, which any number of processes read and write.
//!
//! ```text
//! <prefix>/<model>/onnx/<sha256>/<id>.onnx   uploads, each under a name of its own
//!                 /<version>/<sha256>.sig    if the model is signed: the signature of the manifest with this digest
//!                 /<version>/manifest.json   written last and never replaced: the commit mark
//!                 /active.json               the version that serves; replaced only where it is unchanged
//! ```
//!
//! An object store has neither locks nor renames. What decides between two writers is a small conditional request:
//! a version's number belongs to the writer that creates its `manifest.json` (`If-None-Match: *`), and `active.json`
//! is replaced only in the state that the writer read (`If-Match`). A writer that ends between two requests leaves an
//! upload without a manifest, or a version that never served; readers see neither, and [`garbage`] removes uploads.
//!
//! A signature is created before the manifest that it covers, and has the manifest's digest in its name. So readers see
//! it together with the version, and not the signature of a writer of another manifest that lost the number.
//!
//! The lost reply to a conditional request looks like another writer's success, so a writer that is refused reads
//! the object again and compares.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    path::PathBuf,
    time::Instant,
};

use bytes::Bytes;
use common::digest::Sha256;
use object_storage::{Bucket, BucketLocation};
use object_store::{PutMode, UpdateVersion, path::Path};

use super::{
    Access, ActiveVersion, ModelName, ModelState, ModelStore, SignedManifest, StoreError,
    StoreOptions, newest_equal,
};
use crate::manifest::ArtifactManifest;
use cache::Cache;
use names::ModelObjects;

mod cache;
mod garbage;
mod names;

/// A model store in a bucket. Each process keeps copies of the models that it loaded in a local folder.
#[derive(Debug)]
pub struct BucketStore {
    objects: Bucket,
    cache: Cache,
    access: Access,
}

/// `active.json`, and the condition under which it is replaced.
type Active = (ActiveVersion, UpdateVersion);

impl BucketStore {
    /// Connects to the store at `location`. If `options` permit writing, removes what interrupted publishes left.
    ///
    /// # Errors
    /// If the environment has no valid credentials, the bucket does not answer, or the cache's folder cannot be
    /// made.
    pub fn open(location: &BucketLocation, options: &StoreOptions) -> Result<Self, StoreError> {
        Self::over(Bucket::open(location, options.patience)?, options)
    }

    fn over(objects: Bucket, options: &StoreOptions) -> Result<Self, StoreError> {
        let store = Self {
            objects,
            cache: Cache::open(&options.cache, options.max_cache_bytes)?,
            access: options.access,
        };
        // Also for a reader: it fails here if the bucket cannot be listed.
        let models = store.list()?;
        if store.check_writable().is_ok() {
            for (model, objects) in models {
                if objects.may_have_garbage() {
                    store.tidy(&model);
                }
            }
        }
        Ok(store)
    }

    /// `active.json`, also of a deleted model.
    fn read_active(&self, model: &ModelName) -> Result<Option<Active>, StoreError> {
        let path = names::active(model);
        let Some(found) = self.objects.read(&path)? else {
            return Ok(None);
        };
        let active = ActiveVersion::from_json(&self.path_of(&path), &found.bytes)?;
        Ok(Some((active, found.tag)))
    }

    /// Replaces `active.json` if it is still `before`.
    fn write_active(
        &self,
        model: &ModelName,
        before: Option<Active>,
        active: ActiveVersion,
    ) -> Result<(), StoreError> {
        let mode = match before {
            Some((_, tag)) => PutMode::Update(tag),
            None => PutMode::Create,
        };
        let path = names::active(model);
        if self.objects.put(&path, active.to_json().into(), mode)? {
            return Ok(());
        }
        match self.read_active(model)? {
            Some((now, _)) if now == active => Ok(()),
            _ => Err(changed(model)),
        }
    }

    /// The whole store.
    fn list(&self) -> Result<BTreeMap<ModelName, ModelObjects>, StoreError> {
        Ok(names::models(self.objects.list(&Path::default())?))
    }

    /// All objects of a model.
    fn list_model(&self, model: &ModelName) -> Result<ModelObjects, StoreError> {
        self.list_below(model, &model.as_str().into())
    }

    /// The objects of one model below `prefix`, which is in the model's folder.
    fn list_below(&self, model: &ModelName, prefix: &Path) -> Result<ModelObjects, StoreError> {
        let mut models = names::models(self.objects.list(prefix)?);
        Ok(models.remove(model).unwrap_or_default())
    }

    /// The name of an object in errors.
    fn path_of(&self, path: &Path) -> PathBuf {
        self.objects.url(path).into()
    }

    /// Uploads the ONNX file of a new version, then commits it.
    fn commit_files(
        &self,
        model: &ModelName,
        onnx: &[u8],
        manifest: &Bytes,
        signature: Option<&Bytes>,
    ) -> Result<u64, StoreError> {
        self.check_writable()?;
        let began = Instant::now();
        let sha256 = Sha256::of(onnx);
        let upload = names::upload(model, &sha256, &random_id());
        self.objects.upload(&upload, onnx)?;
        let active = self.read_active(model)?;
        let newest = newest_number(&self.list_model(model)?.versions, active.as_ref());
        if began.elapsed() > garbage::LONGEST_PUBLISH {
            // Another process may take the upload for what an interrupted publish left.
            let problem = "the upload took too long".to_owned();
            return Err(self.objects.error(&upload, problem).into());
        }
        let version = self.commit_from(model, newest + 1, manifest, signature)?;
        self.cache.insert(&sha256, onnx);
        self.tidy(model);
        Ok(version)
    }

    /// Commits the first free number from `version`, and returns the number.
    fn commit_from(
        &self,
        model: &ModelName,
        mut version: u64,
        manifest: &Bytes,
        signature: Option<&Bytes>,
    ) -> Result<u64, StoreError> {
        while !self.create_version(model, version, manifest, signature)? {
            version += 1;
        }
        Ok(version)
    }

    /// Creates the objects of a version; returns whether its number belongs to this writer.
    fn create_version(
        &self,
        model: &ModelName,
        version: u64,
        manifest: &Bytes,
        signature: Option<&Bytes>,
    ) -> Result<bool, StoreError> {
        if let Some(signature) = signature {
            let path = names::signature(model, version, &Sha256::of(manifest));
            // Readers would find another writer's signature of the same manifest.
            if !self.create(&path, signature)? {
                return Ok(false);
            }
        }
        self.create(&names::manifest(model, version), manifest)
    }

    /// Creates an object; returns whether it has this content now. If it exists with this content, the reply to an
    /// earlier request of this writer may have been lost.
    fn create(&self, path: &Path, bytes: &Bytes) -> Result<bool, StoreError> {
        if self.objects.put(path, bytes.clone(), PutMode::Create)? {
            return Ok(true);
        }
        let found = self.objects.read(path)?;
        Ok(found.is_some_and(|found| found.bytes == bytes))
    }

    /// The manifest of a version, and its bytes.
    fn read_manifest(
        &self,
        model: &ModelName,
        version: u64,
    ) -> Result<(ArtifactManifest, Bytes), StoreError> {
        let path = names::manifest(model, version);
        let Some(found) = self.objects.read(&path)? else {
            return Err(StoreError::NoSuchVersion {
                model: model.clone(),
                version,
            });
        };
        match ArtifactManifest::from_json(&found.bytes) {
            Ok(manifest) => Ok((manifest, found.bytes)),
            Err(source) => Err(StoreError::Manifest {
                path: self.path_of(&path),
                source,
            }),
        }
    }
}

impl ModelStore for BucketStore {
    fn models(&self) -> Result<Vec<ModelName>, StoreError> {
        Ok(self.states()?.into_keys().collect())
    }

    fn version_numbers(&self, model: &ModelName) -> Result<Vec<u64>, StoreError> {
        let active = self.read_active(model)?;
        let versions = self.list_model(model)?.versions;
        Ok(existing(versions, active.as_ref()))
    }

    fn manifest(&self, model: &ModelName, version: u64) -> Result<ArtifactManifest, StoreError> {
        self.read_manifest(model, version)
            .map(|(manifest, _)| manifest)
    }

    fn signed_manifest(
        &self,
        model: &ModelName,
        version: u64,
    ) -> Result<(ArtifactManifest, Option<SignedManifest>), StoreError> {
        let (manifest, json) = self.read_manifest(model, version)?;
        let signature = names::signature(model, version, &Sha256::of(&json));
        let signature = self.objects.read(&signature)?;
        let signed = signature.map(|signature| SignedManifest {
            json: json.into(),
            signature: signature.bytes.into(),
        });
        Ok((manifest, signed))
    }

    fn onnx(
        &self,
        model: &ModelName,
        _version: u64,
        manifest: &ArtifactManifest,
    ) -> Result<Vec<u8>, StoreError> {
        let expected = &manifest.onnx;
        if let Some(onnx) = self.cache.read(&expected.sha256) {
            return Ok(onnx);
        }
        let folder = names::uploads(model, &expected.sha256);
        let corrupt = |path: &Path, problem: String| StoreError::Corrupt {
            path: self.path_of(path),
            problem,
        };
        // All uploads in the folder have the same content.
        let uploads = self.list_below(model, &folder)?.uploads;
        let Some(upload) = uploads.into_iter().max_by_key(|upload| upload.uploaded) else {
            return Err(corrupt(&folder, "the model's file is missing".to_owned()));
        };
        let path = upload.path;
        if upload.size != expected.size {
            let (found, expected) = (upload.size, expected.size);
            let problem = format!("it has {found} bytes, the manifest says {expected}");
            return Err(corrupt(&path, problem));
        }
        let onnx = self.objects.download(&path, expected.size)?;
        let found = Sha256::of(&onnx);
        if found != expected.sha256 {
            let expected = &expected.sha256;
            let problem = format!("its SHA-256 is {found}, the manifest says {expected}");
            return Err(corrupt(&path, problem));
        }
        self.cache.insert(&found, &onnx);
        Ok(onnx.into())
    }

    fn active(&self, model: &ModelName) -> Result<Option<ActiveVersion>, StoreError> {
        let active = self.read_active(model)?.map(|(active, _)| active);
        Ok(active.filter(ActiveVersion::exists))
    }

    fn states(&self) -> Result<BTreeMap<ModelName, ModelState>, StoreError> {
        let models = self.list()?.into_iter();
        let models = models.filter(|(_, objects)| !objects.versions.is_empty());
        Ok(models
            .map(|(model, objects)| {
                let state = ModelState {
                    active: objects.active,
                    versions: objects.versions.into_iter().collect(),
                };
                (model, state)
            })
            .collect())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn check_writable(&self) -> Result<(), StoreError> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(StoreError::ReadOnly),
        }
    }

    fn commit(
        &self,
        model: &ModelName,
        onnx: &[u8],
        manifest: &ArtifactManifest,
    ) -> Result<u64, StoreError> {
        self.commit_files(model, onnx, &Bytes::from(manifest.to_json()), None)
    }

    fn commit_signed(
        &self,
        model: &ModelName,
        onnx: &[u8],
        SignedManifest { json, signature }: &SignedManifest,
    ) -> Result<u64, StoreError> {
        let [json, signature] = [json, signature].map(|file| Bytes::copy_from_slice(file));
        self.commit_files(model, onnx, &json, Some(&signature))
    }

    fn replace_active(
        &self,
        model: &ModelName,
        version: u64,
        before: Option<ActiveVersion>,
    ) -> Result<(), StoreError> {
        let found = self.read_active(model)?;
        let now = found.as_ref().map(|(active, _)| *active);
        let active = now.filter(ActiveVersion::exists);
        if active.is_some_and(|active| active.version == version) {
            return Ok(());
        }
        self.check_writable()?;
        if active != before {
            return Err(changed(model));
        }
        self.manifest(model, version)?;
        if now.is_some_and(|now| version <= now.newest_deleted) {
            return Err(StoreError::NoSuchVersion {
                model: model.clone(),
                version,
            });
        }
        self.write_active(model, found, ActiveVersion::activated(now, version))
    }

    fn note_served(&self, model: &ModelName, version: u64) -> Result<(), StoreError> {
        self.check_writable()?;
        let Some((active, tag)) = self.read_active(model)? else {
            return Ok(());
        };
        let noted = active.noting(version);
        if noted == active {
            return Ok(());
        }
        self.write_active(model, Some((active, tag)), noted)
    }

    fn delete(&self, model: &ModelName, version: u64) -> Result<(), StoreError> {
        self.check_writable()?;
        let manifest = names::manifest(model, version);
        if self.objects.read(&manifest)?.is_none() {
            return Err(StoreError::NoSuchVersion {
                model: model.clone(),
                version,
            });
        }
        if let Some((active, tag)) = self.read_active(model)? {
            if active.version == version && active.exists() {
                return Err(changed(model));
            }
            // Readers may have it loaded, so no other version may get its number.
            let noted = active.noting(version);
            if noted != active {
                self.write_active(model, Some((active, tag)), noted)?;
            }
        }
        self.objects.remove(&manifest)?;
        self.tidy(model);
        Ok(())
    }

    /// The new `active.json` deletes all versions at once; what follows only removes their objects.
    fn delete_model(&self, model: &ModelName) -> Result<Vec<u64>, StoreError> {
        self.check_writable()?;
        let found = self.read_active(model)?;
        let versions = self.list_model(model)?.versions;
        let newest_stored = versions.last().copied();
        let existing = existing(versions, found.as_ref());
        let Some(newest) = newest_stored.filter(|_| !existing.is_empty()) else {
            return Err(StoreError::NoSuchModel {
                model: model.clone(),
            });
        };
        let now = found.as_ref().map(|(active, _)| *active);
        self.write_active(model, found, ActiveVersion::deleted(now, newest))?;
        self.tidy(model);
        Ok(existing)
    }

    /// Reads no manifest if the file was never uploaded.
    fn find(
        &self,
        model: &ModelName,
        manifest: &ArtifactManifest,
    ) -> Result<Option<u64>, StoreError> {
        let folder = names::uploads(model, &manifest.onnx.sha256);
        if self.list_below(model, &folder)?.uploads.is_empty() {
            return Ok(None);
        }
        newest_equal(self, model, manifest)
    }
}

/// The versions that the model's deletion did not delete, in ascending order.
fn existing(versions: BTreeSet<u64>, active: Option<&Active>) -> Vec<u64> {
    let newest_deleted = active.map_or(0, |(active, _)| active.newest_deleted);
    let mut versions: Vec<u64> = versions.into_iter().collect();
    versions.retain(|version| *version > newest_deleted);
    versions
}

/// The largest number that a version has or had: later versions get larger ones.
fn newest_number(versions: &BTreeSet<u64>, active: Option<&Active>) -> u64 {
    let newest_served = active.map_or(0, |(active, _)| active.newest_served);
    let newest_stored = versions.last().copied().unwrap_or(0);
    newest_served.max(newest_stored)
}

fn changed(model: &ModelName) -> StoreError {
    StoreError::Changed {
        model: model.clone(),
    }
}

/// Names an upload; no result depends on it.
fn random_id() -> String {
    // The standard library's hashers have random keys.
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}

#[cfg(test)]
mod tests;
