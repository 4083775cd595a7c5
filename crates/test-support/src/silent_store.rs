//! An object store that leaves a request without an answer, while its process is asked to stop.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
    path::Path,
};
use tokio_util::sync::CancellationToken;

use crate::conditions::SOON;

/// The requests of one process to `objects`. Listings of all objects and removals always work, and do not count.
#[derive(Debug)]
pub struct SilentStore {
    objects: Arc<InMemory>,
    /// Requests that are still answered.
    left: AtomicUsize,
    unanswered: AtomicUsize,
    stop: CancellationToken,
}

impl SilentStore {
    /// A store that answers `requests` requests. The next one cancels `stop` and gets no answer; so do those after
    /// it. A process that waits for an answer all the same gets an error after a long time.
    pub fn after(requests: usize, stop: &CancellationToken, objects: &Arc<InMemory>) -> Arc<Self> {
        Arc::new(Self {
            objects: Arc::clone(objects),
            left: AtomicUsize::new(requests),
            unanswered: AtomicUsize::new(0),
            stop: stop.clone(),
        })
    }

    /// Requests that got no answer.
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::SeqCst)
    }

    async fn answer(&self) -> Result<()> {
        let next = |left: usize| left.checked_sub(1);
        let order = Ordering::SeqCst;
        if self.left.fetch_update(order, order, next).is_ok() {
            return Ok(());
        }
        self.unanswered.fetch_add(1, order);
        self.stop.cancel();
        tokio::time::sleep(SOON).await;
        Err(Error::Generic {
            store: "silent",
            source: "the process did not stop".into(),
        })
    }
}

impl fmt::Display for SilentStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("silent")
    }
}

#[async_trait]
impl ObjectStore for SilentStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.answer().await?;
        self.objects.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.answer().await?;
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.answer().await?;
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.answer().await?;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
