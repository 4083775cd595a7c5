//! An object store in memory that fails or is silent when a test says so.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
    path::Path,
};
use tokio_util::sync::CancellationToken;

use crate::conditions::SOON;

/// The requests of one process to `objects`, which several processes share.
#[derive(Debug)]
pub struct FaultyStore {
    objects: Arc<InMemory>,
    fault: Mutex<StoreFault>,
    hits: AtomicUsize,
}

/// What fails, until it is changed.
#[derive(Debug)]
pub enum StoreFault {
    Nothing,
    /// Every request.
    Everything,
    /// Every request after so many, as if the process was killed then.
    KilledAfter {
        requests: usize,
        /// Whether the first request after them takes effect, though its reply is lost.
        loses_reply: bool,
    },
    /// Every request after so many gets no answer. The first one cancels `stop`, as if the process was asked to stop while
    /// it waits. A process that waits all the same gets an error after a long time.
    SilentAfter {
        requests: usize,
        stop: CancellationToken,
    },
    /// Writes of this object; others work.
    Writes(Path),
    /// Writes of this object take effect, but their replies are lost.
    RepliesToWrites(Path),
    /// Other objects are read only after this one has changed.
    ReadsUntilChangeOf(Path),
}

/// What a request does, as far as its fate depends on it.
enum Request<'a> {
    Write(&'a Path),
    Read(&'a Path),
    Other,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    AnsweredAfterChangeOf(Path),
    ReplyLost,
    NotSent,
    Unanswered,
}

impl FaultyStore {
    /// A store without a fault.
    pub fn over(objects: &Arc<InMemory>) -> Arc<Self> {
        Self::with(StoreFault::Nothing, objects)
    }

    /// A store that answers `requests` requests. With `loses_reply`, the next one takes effect without a reply.
    pub fn killed_after(requests: usize, loses_reply: bool, objects: &Arc<InMemory>) -> Arc<Self> {
        let fault = StoreFault::KilledAfter {
            requests,
            loses_reply,
        };
        Self::with(fault, objects)
    }

    /// A store that answers `requests` requests. The next one cancels `stop` and gets no answer; nor do those after it.
    pub fn silent_after(
        requests: usize,
        stop: &CancellationToken,
        objects: &Arc<InMemory>,
    ) -> Arc<Self> {
        let stop = stop.clone();
        Self::with(StoreFault::SilentAfter { requests, stop }, objects)
    }

    fn with(fault: StoreFault, objects: &Arc<InMemory>) -> Arc<Self> {
        Arc::new(Self {
            objects: Arc::clone(objects),
            fault: Mutex::new(fault),
            hits: AtomicUsize::new(0),
        })
    }

    pub fn set(&self, fault: StoreFault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Requests so far that failed, waited or got no answer.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// The fate of the next request; counts a hit.
    fn fate(&self, request: Request<'_>) -> Fate {
        let fate = self.fault.lock().unwrap().fate(request);
        if fate != Fate::Answered {
            self.hits.fetch_add(1, Ordering::SeqCst);
        }
        fate
    }

    /// Fails unless the next request is answered, which neither reads nor writes an object.
    async fn check(&self) -> Result<()> {
        match self.fate(Request::Other) {
            Fate::Answered | Fate::AnsweredAfterChangeOf(_) => Ok(()),
            Fate::ReplyLost | Fate::NotSent => Err(failed()),
            Fate::Unanswered => Err(no_answer().await),
        }
    }

    async fn wait_for_change_of(&self, object: &Path) -> Result<()> {
        let deadline = Instant::now() + SOON;
        let first = self.tag(object).await?;
        while self.tag(object).await? == first {
            if Instant::now() > deadline {
                return Err(failed());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn tag(&self, object: &Path) -> Result<Option<String>> {
        let options = GetOptions::default();
        Ok(self.objects.get_opts(object, options).await?.meta.e_tag)
    }
}

impl StoreFault {
    fn fate(&mut self, request: Request<'_>) -> Fate {
        match (self, request) {
            (Self::Everything, _) => Fate::NotSent,
            (
                Self::KilledAfter {
                    requests,
                    loses_reply,
                },
                _,
            ) => {
                if *requests > 0 {
                    *requests -= 1;
                    Fate::Answered
                } else if *loses_reply {
                    *loses_reply = false;
                    Fate::ReplyLost
                } else {
                    Fate::NotSent
                }
            }
            (Self::SilentAfter { requests, stop }, _) => {
                if *requests > 0 {
                    *requests -= 1;
                    return Fate::Answered;
                }
                stop.cancel();
                Fate::Unanswered
            }
            (Self::Writes(object), Request::Write(path)) if *object == *path => Fate::NotSent,
            (Self::RepliesToWrites(object), Request::Write(path)) if *object == *path => {
                Fate::ReplyLost
            }
            (Self::ReadsUntilChangeOf(object), Request::Read(path)) if *object != *path => {
                Fate::AnsweredAfterChangeOf(object.clone())
            }
            _ => Fate::Answered,
        }
    }
}

fn failed() -> Error {
    Error::Generic {
        store: "faulty",
        source: "it fails".into(),
    }
}

/// The error of a process that waits for an answer for a long time.
async fn no_answer() -> Error {
    tokio::time::sleep(SOON).await;
    failed()
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let fate = self.fate(Request::Write(location));
        match fate {
            Fate::Answered | Fate::AnsweredAfterChangeOf(_) | Fate::ReplyLost => {}
            Fate::NotSent => return Err(failed()),
            Fate::Unanswered => return Err(no_answer().await),
        }
        let put = self.objects.put_opts(location, payload, options).await;
        if fate == Fate::ReplyLost {
            return Err(failed());
        }
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        // Its parts and its end are not requests of this store.
        self.check().await?;
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fate(Request::Read(location)) {
            Fate::Answered => {}
            Fate::AnsweredAfterChangeOf(object) => self.wait_for_change_of(&object).await?,
            Fate::ReplyLost | Fate::NotSent => return Err(failed()),
            Fate::Unanswered => return Err(no_answer().await),
        }
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.fate(Request::Other) {
            Fate::Answered | Fate::AnsweredAfterChangeOf(_) => {
                self.objects.delete_stream(locations)
            }
            Fate::ReplyLost => {
                let deleted = self.objects.delete_stream(locations);
                deleted.map(|_| Err(failed())).boxed()
            }
            Fate::NotSent => stream::iter([Err(failed())]).boxed(),
            Fate::Unanswered => stream::once(no_answer()).map(Err).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.fate(Request::Other) {
            Fate::Answered | Fate::AnsweredAfterChangeOf(_) => self.objects.list(prefix),
            Fate::ReplyLost | Fate::NotSent => stream::iter([Err(failed())]).boxed(),
            Fate::Unanswered => stream::once(no_answer()).map(Err).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.check().await?;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check().await?;
        self.objects.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use object_store::ObjectStoreExt;

    use super::*;

    const RECORD: &str = "record";
    const OTHER: &str = "other";

    /// Whether these objects are there after they were written to a store with `fault`, with whether each write was
    /// answered.
    fn written<const N: usize>(fault: StoreFault, objects: [&str; N]) -> [(bool, bool); N] {
        let memory = Arc::new(InMemory::new());
        let store = FaultyStore::with(fault, &memory);
        objects.map(|name| {
            let path = Path::from(name);
            let answered = block_on(store.put(&path, "content".into())).is_ok();
            (answered, block_on(memory.head(&path)).is_ok())
        })
    }

    #[test]
    fn a_write_fails_before_or_after_its_effect() {
        const ANSWERED: (bool, bool) = (true, true);
        const REPLY_LOST: (bool, bool) = (false, true);
        const NOT_SENT: (bool, bool) = (false, false);
        let killed = |loses_reply: bool| StoreFault::KilledAfter {
            requests: 1,
            loses_reply,
        };
        let writes = StoreFault::Writes(RECORD.into());
        let replies = StoreFault::RepliesToWrites(RECORD.into());
        for (fault, expected) in [
            (StoreFault::Nothing, [ANSWERED; 3]),
            (StoreFault::Everything, [NOT_SENT; 3]),
            (killed(false), [ANSWERED, NOT_SENT, NOT_SENT]),
            (killed(true), [ANSWERED, REPLY_LOST, NOT_SENT]),
            (writes, [ANSWERED, NOT_SENT, ANSWERED]),
            (replies, [ANSWERED, REPLY_LOST, ANSWERED]),
        ] {
            let text = format!("{fault:?}");
            let found = written(fault, [OTHER, RECORD, "third"]);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[tokio::test]
    async fn a_silent_store_asks_the_process_to_stop_and_answers_no_kind_of_request() {
        let path = Path::from(RECORD);
        for kind in 0..4 {
            let stop = CancellationToken::new();
            let store = FaultyStore::silent_after(1, &stop, &Arc::default());
            store.put(&path, "content".into()).await.unwrap();
            assert!(!stop.is_cancelled());
            let request = async {
                match kind {
                    0 => store.put(&path, "other".into()).await.is_ok(),
                    1 => store.get(&path).await.is_ok(),
                    2 => store.delete(&path).await.is_ok(),
                    _ => store.list(None).next().await.is_some(),
                }
            };
            let answered = stop.run_until_cancelled(request).await;
            assert_eq!((answered, store.hits()), (None, 1), "{kind}");
            assert!(stop.is_cancelled(), "{kind}");
            let kept = store.objects.get(&path).await.unwrap().bytes().await;
            assert_eq!(kept.unwrap(), "content", "{kind}");
        }
    }

    #[test]
    fn hits_are_counted_until_the_fault_is_over() {
        let store = FaultyStore::over(&Arc::default());
        let put = || block_on(store.put(&Path::from(RECORD), "content".into()));
        put().unwrap();
        store.set(StoreFault::Everything);
        put().unwrap_err();
        put().unwrap_err();
        assert_eq!(store.hits(), 2);
        store.set(StoreFault::Nothing);
        put().unwrap();
        assert_eq!(store.hits(), 2);
    }
}
