//! Requests for the objects of a store. They run on a thread of their own, so they do not hold up the caller's other
//! tasks, and callers wait without an async runtime.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{
    Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion,
    WriteMultipart, path::Path,
};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use super::names::{self, ModelObjects};
use crate::model_store::{ModelName, StoreError, io_error};

/// Larger files are uploaded in parts of this size, each repeated on its own.
const PART: usize = 8 << 20;

/// Parts of a file that are uploaded at the same time.
const PARTS_IN_FLIGHT: usize = 4;

/// Largest manifest that is read; an inference service allows no larger one.
const LARGEST_RECORD: u64 = 1 << 28;

/// More time than the pause before the last attempt of a request, so that its error is reported.
const MARGIN: Duration = Duration::from_secs(3);

/// The objects below the store's prefix.
#[derive(Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    url: String,
    /// Time limit of small requests. Without it, a server that takes a request and never answers goes unnoticed for
    /// long.
    limit: Duration,
    /// `None` only while this is dropped.
    runtime: Option<Runtime>,
}

/// The content of an object, and the condition under which it is replaced.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) bytes: Bytes,
    pub(super) tag: UpdateVersion,
}

impl Objects {
    /// The objects of `store`, which `url` names in errors. The store repeats failed requests for `patience`.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        url: String,
        patience: Duration,
    ) -> Result<Self, StoreError> {
        let mut builder = Builder::new_multi_thread();
        let builder = builder.worker_threads(1).thread_name("model-store");
        let runtime = builder.enable_all().build();
        let runtime = runtime.map_err(io_error(url.as_ref()))?;
        Ok(Self {
            store,
            url,
            limit: patience + MARGIN,
            runtime: Some(runtime),
        })
    }

    /// The name of an object in errors.
    pub(super) fn url(&self, path: &Path) -> PathBuf {
        format!("{}/{path}", self.url).into()
    }

    /// The whole store.
    pub(super) fn list(&self) -> Result<BTreeMap<ModelName, ModelObjects>, StoreError> {
        Ok(names::models(self.listed(&Path::default())?))
    }

    /// The objects of one model below `prefix`, which is in the model's folder.
    pub(super) fn list_model(
        &self,
        model: &ModelName,
        prefix: &Path,
    ) -> Result<ModelObjects, StoreError> {
        let mut models = names::models(self.listed(prefix)?);
        Ok(models.remove(model).unwrap_or_default())
    }

    fn listed(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, StoreError> {
        let listed = self.store.list(Some(prefix)).try_collect();
        self.wait_briefly(prefix, listed)
    }

    /// A manifest or `active.json`, if it exists.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Record>, StoreError> {
        let read = async {
            let found = self.store.get(path).await?;
            let tag = UpdateVersion {
                e_tag: found.meta.e_tag.clone(),
                version: found.meta.version.clone(),
            };
            let size = found.meta.size;
            if size > LARGEST_RECORD {
                return Err(too_large(size, LARGEST_RECORD));
            }
            let bytes = found.bytes().await?;
            Ok(Record { bytes, tag })
        };
        let read = async {
            match read.await {
                Err(Error::NotFound { .. }) => Ok(None),
                read => read.map(Some),
            }
        };
        self.wait_briefly(path, read)
    }

    /// A file of `size` bytes.
    pub(super) fn download(&self, path: &Path, size: u64) -> Result<Bytes, StoreError> {
        let read = async {
            let found = self.store.get(path).await?;
            if found.meta.size > size {
                return Err(too_large(found.meta.size, size));
            }
            found.bytes().await
        };
        self.wait(path, read)
    }

    /// Writes an object if it meets the condition of `mode`; returns whether it did.
    pub(super) fn put(&self, path: &Path, bytes: Bytes, mode: PutMode) -> Result<bool, StoreError> {
        let put = async {
            let payload = PutPayload::from(bytes);
            match self.store.put_opts(path, payload, mode.into()).await {
                Ok(_) => Ok(true),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.wait_briefly(path, put)
    }

    /// Uploads a file of any size.
    pub(super) fn upload(&self, path: &Path, file: &[u8]) -> Result<(), StoreError> {
        let upload = async {
            if file.len() <= PART {
                self.store.put(path, file.to_vec().into()).await?;
                return Ok(());
            }
            let upload = self.store.put_multipart(path).await?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
            for part in file.chunks(PART) {
                if let Err(error) = upload.wait_for_capacity(PARTS_IN_FLIGHT).await {
                    // The bucket's rule for unfinished uploads removes the parts if this fails.
                    let _ = upload.abort().await;
                    return Err(error);
                }
                upload.write(part);
            }
            upload.finish().await.map(drop)
        };
        self.wait(path, upload)
    }

    /// Removes an object, if it exists.
    pub(super) fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let remove = async {
            match self.store.delete(path).await {
                Err(Error::NotFound { .. }) => Ok(()),
                removed => removed,
            }
        };
        self.wait_briefly(path, remove)
    }

    /// Waits for a small request. Must not be called on a thread of an async runtime.
    fn wait_briefly<T>(
        &self,
        path: &Path,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        let limited = async {
            let no_answer = |_| generic(format!("no answer within {:?}", self.limit));
            timeout(self.limit, request).await.map_err(no_answer)?
        };
        self.wait(path, limited)
    }

    /// Waits for a request. Must not be called on a thread of an async runtime.
    fn wait<T>(
        &self,
        path: &Path,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        // Holds: only `drop` takes it.
        let runtime = self.runtime.as_ref().expect("the runtime");
        runtime
            .block_on(request)
            .map_err(|source| StoreError::Unavailable {
                url: self.url(path).display().to_string(),
                source,
            })
    }
}

impl Drop for Objects {
    /// A runtime that is simply dropped waits for its threads, which panics in async code.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn too_large(size: u64, allowed: u64) -> Error {
    generic(format!(
        "it has {size} bytes; at most {allowed} are expected"
    ))
}

/// An error that the object store does not report itself.
pub(super) fn generic(problem: String) -> Error {
    Error::Generic {
        store: "model store",
        source: problem.into(),
    }
}
