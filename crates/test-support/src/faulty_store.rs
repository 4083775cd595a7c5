//! An object store in memory that fails when a test says so.

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

use crate::conditions::SOON;

/// The requests of one process to `objects`, which several processes share.
#[derive(Debug)]
pub struct FaultyStore {
    objects: Arc<InMemory>,
    fault: Mutex<StoreFault>,
    hits: AtomicUsize,
}

/// What fails, until it is changed.
#[derive(Debug, PartialEq, Eq)]
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

    /// Requests that failed or waited so far.
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
    fn check(&self) -> Result<()> {
        match self.fate(Request::Other) {
            Fate::Answered | Fate::AnsweredAfterChangeOf(_) => Ok(()),
            Fate::ReplyLost | Fate::NotSent => Err(failed()),
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
        if fate == Fate::NotSent {
            return Err(failed());
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
        self.check()?;
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fate(Request::Read(location)) {
            Fate::Answered => {}
            Fate::AnsweredAfterChangeOf(object) => self.wait_for_change_of(&object).await?,
            Fate::ReplyLost | Fate::NotSent => return Err(failed()),
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
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.check() {
            Ok(()) => self.objects.list(prefix),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.check()?;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check()?;
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
