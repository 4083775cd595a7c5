//! Requests for the objects of a bucket. They run on a thread of their own, so they do not hold up the caller's other
//! tasks, and callers wait without an async runtime.

use std::{sync::Arc, time::Duration};

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
use tokio_util::sync::CancellationToken;

use crate::{connection::connect, location::BucketLocation};

/// Larger files are uploaded in parts of this size, each repeated on its own.
const PART: usize = 8 << 20;

/// Parts of a file that are uploaded at the same time.
const PARTS_IN_FLIGHT: usize = 4;

/// Largest object that [`Bucket::read`] reads.
const LARGEST_RECORD: u64 = 1 << 28;

/// More time than the pause before the last attempt of a request, so that its error is reported.
const MARGIN: Duration = Duration::from_secs(3);

/// The objects below a prefix of a bucket. All paths are relative to the prefix.
///
/// The methods block, and any number of threads may call them at the same time. They must not be called on a thread of
/// an async runtime, where they panic: async code calls them on a blocking thread (`tokio::task::spawn_blocking`). The
/// value itself may be created, cloned and dropped anywhere. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    url: String,
    /// Time limit of small requests. Without it, a server that takes a request and never answers goes unnoticed for
    /// long.
    limit: Duration,
    /// Cancelling it ends all requests.
    stop: CancellationToken,
    requests: Arc<Requests>,
}

/// Executes the requests of a bucket and of its clones.
#[derive(Debug)]
struct Requests {
    /// `None` only while this is dropped.
    runtime: Option<Runtime>,
}

/// The content of an object, and the condition under which it is replaced.
#[derive(Debug)]
pub struct Record {
    /// The content.
    pub bytes: Bytes,
    /// The state of the object: [`PutMode::Update`] with it replaces the object only where it is unchanged.
    pub tag: UpdateVersion,
}

/// The bucket does not answer, or rejects the request.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {source}")]
pub struct BucketError {
    /// The object or the prefix.
    pub url: String,
    /// The cause.
    pub source: Error,
}

/// The object is larger than its reader expects.
#[derive(Debug, thiserror::Error)]
#[error("it has {size} bytes; at most {allowed} are expected")]
struct TooLarge {
    size: u64,
    allowed: u64,
}

/// The process does not wait for the answer any more.
#[derive(Debug, thiserror::Error)]
#[error("the process was asked to stop")]
struct Stopped;

impl BucketError {
    /// Whether there is no such object.
    pub fn is_missing(&self) -> bool {
        matches!(self.source, Error::NotFound { .. })
    }

    /// The size of an object that is larger than its reader expects, bytes.
    pub fn larger(&self) -> Option<u64> {
        match &self.source {
            Error::Generic { source, .. } => source.downcast_ref::<TooLarge>().map(|it| it.size),
            _ => None,
        }
    }

    /// Whether the request ended because the process was asked to stop; see [`Bucket::stopped_by`].
    pub fn is_stopped(&self) -> bool {
        match &self.source {
            Error::Generic { source, .. } => source.is::<Stopped>(),
            _ => false,
        }
    }
}

impl Bucket {
    /// The objects below the prefix of `location`. Sends nothing yet. Variables of the environment that begin with
    /// `AWS_`, `GOOGLE_` or `AZURE_` give credentials, region and endpoint.
    ///
    /// A request that fails because of the network or of the store (no connection, a status 5xx or 429) is repeated
    /// with growing pauses until `patience` has passed.
    ///
    /// # Errors
    /// If the variables contradict each other, or a necessary one is missing.
    pub fn open(location: &BucketLocation, patience: Duration) -> Result<Self, BucketError> {
        let url = location.to_string();
        match connect(location, patience) {
            Ok(store) => Self::over(store, url, patience),
            Err(source) => Err(BucketError { url, source }),
        }
    }

    /// The objects of `store`, which `url` names in errors. The store repeats failed requests for `patience`.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    pub fn over(
        store: Arc<dyn ObjectStore>,
        url: String,
        patience: Duration,
    ) -> Result<Self, BucketError> {
        let mut builder = Builder::new_multi_thread();
        let builder = builder.worker_threads(1).thread_name("bucket");
        match builder.enable_all().build() {
            Ok(runtime) => Ok(Self {
                store,
                url,
                limit: patience + MARGIN,
                stop: CancellationToken::new(),
                requests: Arc::new(Requests {
                    runtime: Some(runtime),
                }),
            }),
            Err(error) => {
                let source = problem(format!("cannot start a thread: {error}"));
                Err(BucketError { url, source })
            }
        }
    }

    /// The same bucket, whose requests end as soon as `stop` is cancelled, with an error that
    /// [says so](BucketError::is_stopped). A write that ends in this way may take effect.
    pub fn stopped_by(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// The same bucket, whose small requests wait for an answer for at most `limit`.
    pub fn limited_to(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The name of an object in errors.
    pub fn url(&self, path: &Path) -> String {
        if path.is_root() {
            return self.url.clone();
        }
        format!("{}/{path}", self.url)
    }

    /// An error about an object that its reader or writer found.
    pub fn error(&self, path: &Path, found: String) -> BucketError {
        BucketError {
            url: self.url(path),
            source: problem(found),
        }
    }

    /// The folders in the folder `prefix`, but not those below them, in no particular order.
    ///
    /// # Errors
    /// [`BucketError`].
    pub fn folders(&self, prefix: &Path) -> Result<Vec<Path>, BucketError> {
        let folders = async {
            let listed = self.store.list_with_delimiter(Some(prefix)).await?;
            Ok(listed.common_prefixes)
        };
        self.wait_briefly(prefix, 0, folders)
    }

    /// The objects in the folder `prefix` and in the folders below it, in no particular order. The root of the path
    /// stands for the whole prefix.
    ///
    /// # Errors
    /// [`BucketError`].
    pub fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, BucketError> {
        let listed = async {
            let mut objects = self.store.list(Some(prefix));
            let mut listed = Vec::new();
            // There is a request for each page, and any number of pages.
            while let Some(object) = self.limited(0, objects.try_next()).await? {
                listed.push(object);
            }
            Ok(listed)
        };
        self.wait(prefix, listed)
    }

    /// The size of an object in bytes, if it exists.
    ///
    /// # Errors
    /// [`BucketError`].
    pub fn size(&self, path: &Path) -> Result<Option<u64>, BucketError> {
        let size = async {
            match self.store.head(path).await {
                Err(Error::NotFound { .. }) => Ok(None),
                found => found.map(|object| Some(object.size)),
            }
        };
        self.wait_briefly(path, 0, size)
    }

    /// A small object, if it exists.
    ///
    /// # Errors
    /// [`BucketError`], also for an object of more than 256 MiB.
    pub fn read(&self, path: &Path) -> Result<Option<Record>, BucketError> {
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
        self.wait_briefly(path, 0, read)
    }

    /// An object of at most `size` bytes.
    ///
    /// # Errors
    /// [`BucketError`], also for a larger object ([`BucketError::larger`]) or none ([`BucketError::is_missing`]).
    pub fn download(&self, path: &Path, size: u64) -> Result<Bytes, BucketError> {
        let read = async {
            let found = self.store.get(path).await?;
            if found.meta.size > size {
                return Err(too_large(found.meta.size, size));
            }
            found.bytes().await
        };
        self.wait(path, read)
    }

    /// Writes an object in one request if it meets the condition of `mode`; returns whether it did. The lost reply to a
    /// request that wrote the object looks like the success of another writer, so a writer that gets `false` reads the
    /// object and compares.
    ///
    /// # Errors
    /// [`BucketError`]; the object may have been written.
    pub fn put(&self, path: &Path, bytes: Bytes, mode: PutMode) -> Result<bool, BucketError> {
        let size = bytes.len();
        let put = async {
            let payload = PutPayload::from(bytes);
            match self.store.put_opts(path, payload, mode.into()).await {
                Ok(_) => Ok(true),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.wait_briefly(path, size, put)
    }

    /// Writes an object of any size, whether or not it exists. Readers see the old one until the new one is complete.
    ///
    /// # Errors
    /// [`BucketError`]; the object may have been written.
    pub fn upload(&self, path: &Path, file: &[u8]) -> Result<(), BucketError> {
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
    ///
    /// # Errors
    /// [`BucketError`]; the object may have been removed.
    pub fn remove(&self, path: &Path) -> Result<(), BucketError> {
        let remove = async {
            match self.store.delete(path).await {
                Err(Error::NotFound { .. }) => Ok(()),
                removed => removed,
            }
        };
        self.wait_briefly(path, 0, remove)
    }

    /// Waits for a request that sends `size` bytes. Must not be called on a thread of an async runtime.
    fn wait_briefly<T>(
        &self,
        path: &Path,
        size: usize,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, BucketError> {
        self.wait(path, self.limited(size, request))
    }

    /// A request that sends `size` bytes, with a time limit.
    async fn limited<T>(
        &self,
        size: usize,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        // A second for each MiB: a slow network is no failure.
        let limit = self.limit + Duration::from_secs(size as u64 >> 20);
        let no_answer = |_| problem(format!("no answer within {limit:?}"));
        timeout(limit, request).await.map_err(no_answer)?
    }

    /// Waits for a request. Must not be called on a thread of an async runtime.
    fn wait<T>(
        &self,
        path: &Path,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, BucketError> {
        // Holds: only `drop` takes it.
        let runtime = self.requests.runtime.as_ref().expect("the runtime");
        let answer = async {
            let answer = self.stop.run_until_cancelled(request).await;
            answer.unwrap_or_else(|| Err(problem(Stopped)))
        };
        runtime.block_on(answer).map_err(|source| BucketError {
            url: self.url(path),
            source,
        })
    }
}

impl Drop for Requests {
    /// A runtime that is simply dropped waits for its threads, which panics in async code.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn too_large(size: u64, allowed: u64) -> Error {
    problem(TooLarge { size, allowed })
}

/// An error that the object store does not report itself.
fn problem(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic {
        store: "bucket",
        source: problem.into(),
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use test_support::FaultyStore;

    use super::*;

    fn bucket() -> Bucket {
        let store = Arc::new(InMemory::new());
        Bucket::over(store, "s3://b/a".to_owned(), Duration::from_secs(60)).unwrap()
    }

    #[test]
    fn a_write_takes_place_only_where_its_condition_holds() {
        let bucket = bucket();
        let path = Path::from("c/d");
        let put = |text: &'static str, mode| bucket.put(&path, text.into(), mode).unwrap();
        let read = || bucket.read(&path).unwrap();
        assert!(read().is_none());
        assert!(put("one", PutMode::Create));
        assert!(!put("two", PutMode::Create));
        let first = read().unwrap();
        assert_eq!(first.bytes, "one");
        assert!(put("two", PutMode::Update(first.tag.clone())));
        assert!(!put("three", PutMode::Update(first.tag)));
        assert_eq!(read().unwrap().bytes, "two");
        assert!(put("four", PutMode::Overwrite));
        assert_eq!(read().unwrap().bytes, "four");

        bucket.remove(&path).unwrap();
        bucket.remove(&path).unwrap();
        assert!(read().is_none());
    }

    #[test]
    fn a_request_ends_when_the_process_is_asked_to_stop() {
        let objects = Arc::new(InMemory::new());
        let stop = CancellationToken::new();
        let silent = FaultyStore::silent_after(2, &stop, &objects);
        let store = Arc::clone(&silent);
        let url = "s3://b/a".to_owned();
        let bucket = Bucket::over(store, url, Duration::from_secs(60)).unwrap();
        let bucket = bucket.stopped_by(stop);
        let path = Path::from("c/d");
        assert!(bucket.put(&path, "one".into(), PutMode::Create).unwrap());
        let missing = bucket.download(&"c/e".into(), 3).unwrap_err();
        assert!(missing.is_missing() && !missing.is_stopped(), "{missing}");

        // This one waits for an answer, and those after it are not sent.
        let error = bucket.download(&path, 3).unwrap_err();
        assert!(error.is_stopped() && !error.is_missing(), "{error}");
        assert!(error.to_string().contains("s3://b/a/c/d"), "{error}");
        assert!(bucket.size(&path).unwrap_err().is_stopped());
        assert!(bucket.list(&Path::default()).unwrap_err().is_stopped());
        assert_eq!(silent.hits(), 1);
    }

    #[test]
    fn a_clone_has_its_own_limit_and_stop() {
        let objects = Arc::new(InMemory::new());
        let (stop, silence) = (CancellationToken::new(), CancellationToken::new());
        let store = FaultyStore::silent_after(1, &silence, &objects);
        let patience = Duration::from_secs(60);
        let bucket = Bucket::over(store, "s3://b/a".to_owned(), patience).unwrap();
        let stopped = bucket.clone().stopped_by(stop.clone());
        stop.cancel();
        let path = Path::from("c");
        assert!(stopped.size(&path).unwrap_err().is_stopped());
        assert!(bucket.put(&path, "one".into(), PutMode::Create).unwrap());

        let brief = bucket.clone().limited_to(Duration::ZERO);
        // The others still have the threads for the requests.
        drop((bucket, stopped));
        let error = brief.size(&path).unwrap_err();
        let problem = "s3://b/a/c: Generic bucket error: no answer within 0ns";
        assert_eq!(error.to_string(), problem);
        assert!(silence.is_cancelled());
    }

    #[test]
    fn a_download_has_a_limit_and_a_listing_its_folder() {
        let bucket = bucket();
        let large: Vec<u8> = (0..PART + 5).map(|i| (i / 3) as u8).collect();
        bucket.upload(&"c/large".into(), &large).unwrap();
        bucket.upload(&"cd/small".into(), b"small").unwrap();
        assert!(bucket.download(&"c/large".into(), u64::MAX).unwrap() == large);
        let error = bucket.download(&"cd/small".into(), 4).unwrap_err();
        let problem =
            "s3://b/a/cd/small: Generic bucket error: it has 5 bytes; at most 4 are expected";
        assert_eq!(error.to_string(), problem);
        assert_eq!((error.larger(), error.is_missing()), (Some(5), false));
        let error = bucket.download(&"cd/none".into(), 4).unwrap_err();
        assert_eq!((error.larger(), error.is_missing()), (None, true));
        assert_eq!(bucket.size(&"cd/small".into()).unwrap(), Some(5));
        assert_eq!(bucket.size(&"cd".into()).unwrap(), None);

        let names = |prefix: Path| {
            let listed = bucket.list(&prefix).unwrap().into_iter();
            let mut names: Vec<_> = listed.map(|object| object.location.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(names("c".into()), ["c/large"]);
        assert_eq!(names(Path::default()), ["c/large", "cd/small"]);
        let mut folders = bucket.folders(&Path::default()).unwrap();
        folders.sort();
        assert_eq!(folders, [Path::from("c"), Path::from("cd")]);
    }
}
