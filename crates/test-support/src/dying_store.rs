//! An object store whose process is killed after some requests, or whose replies are lost.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
    path::Path,
};

/// The requests of one process to `objects`.
#[derive(Debug)]
pub struct DyingStore {
    objects: Arc<InMemory>,
    /// Requests that are still answered.
    left: AtomicUsize,
    /// Whether the request after them takes effect, though its reply is lost.
    loses_reply: bool,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    ReplyLost,
    NotSent,
}

impl DyingStore {
    /// A store that answers `requests` requests. With `loses_reply`, the next one takes effect without a reply.
    pub fn after(requests: usize, loses_reply: bool, objects: &Arc<InMemory>) -> Arc<Self> {
        Arc::new(Self {
            objects: Arc::clone(objects),
            left: AtomicUsize::new(requests + usize::from(loses_reply)),
            loses_reply,
        })
    }

    fn fate(&self) -> Fate {
        let next = |left: usize| left.checked_sub(1);
        let order = Ordering::SeqCst;
        match self.left.fetch_update(order, order, next) {
            Err(_) => Fate::NotSent,
            Ok(1) if self.loses_reply => Fate::ReplyLost,
            Ok(_) => Fate::Answered,
        }
    }
}

fn killed() -> Error {
    Error::Generic {
        store: "dying",
        source: "the process was killed".into(),
    }
}

impl fmt::Display for DyingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dying")
    }
}

#[async_trait]
impl ObjectStore for DyingStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let fate = self.fate();
        if fate == Fate::NotSent {
            return Err(killed());
        }
        let put = self.objects.put_opts(location, payload, options).await;
        if fate == Fate::ReplyLost {
            return Err(killed());
        }
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.fate() {
            Fate::Answered => self.objects.put_multipart_opts(location, options).await,
            Fate::ReplyLost | Fate::NotSent => Err(killed()),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fate() {
            Fate::Answered => self.objects.get_opts(location, options).await,
            Fate::ReplyLost | Fate::NotSent => Err(killed()),
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.fate() {
            Fate::Answered => self.objects.delete_stream(locations),
            Fate::ReplyLost => {
                let deleted = self.objects.delete_stream(locations);
                deleted.map(|_| Err(killed())).boxed()
            }
            Fate::NotSent => stream::iter([Err(killed())]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.fate() {
            Fate::Answered => self.objects.list(prefix),
            Fate::ReplyLost | Fate::NotSent => stream::iter([Err(killed())]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.fate() {
            Fate::Answered => self.objects.list_with_delimiter(prefix).await,
            Fate::ReplyLost | Fate::NotSent => Err(killed()),
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
