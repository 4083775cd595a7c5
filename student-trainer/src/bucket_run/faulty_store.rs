//! An object store that fails when a test says so.

use std::{
    fmt,
    sync::{
        Arc,
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
use test_support::SOON;

use super::record;

/// What fails, until it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Nothing,
    /// Every request.
    Everything,
    /// Writes of the record; others work.
    Records,
    /// Writes of the record take effect, but their replies are lost.
    RepliesToRecords,
    /// Contents are read only after the record has changed.
    SlowContents,
}

/// The requests of one process to `objects`, which several processes share.
#[derive(Debug)]
pub(super) struct FaultyStore {
    objects: Arc<InMemory>,
    fault: AtomicUsize,
    hits: AtomicUsize,
}

impl FaultyStore {
    pub(super) fn over(objects: &Arc<InMemory>) -> Arc<Self> {
        Arc::new(Self {
            objects: Arc::clone(objects),
            fault: AtomicUsize::new(Fault::Nothing as usize),
            hits: AtomicUsize::new(0),
        })
    }

    pub(super) fn set(&self, fault: Fault) {
        self.fault.store(fault as usize, Ordering::SeqCst);
    }

    /// Requests that failed so far.
    pub(super) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// Whether one of `faults` is on; counts it.
    fn fails(&self, faults: &[Fault]) -> bool {
        let now = self.fault.load(Ordering::SeqCst);
        let fails = faults.iter().any(|fault| *fault as usize == now);
        if fails {
            self.hits.fetch_add(1, Ordering::SeqCst);
        }
        fails
    }

    fn check(&self) -> Result<()> {
        match self.fails(&[Fault::Everything]) {
            true => Err(failed()),
            false => Ok(()),
        }
    }

    async fn wait_for_another_record(&self) -> Result<()> {
        let deadline = Instant::now() + SOON;
        let first = self.tag_of_record().await?;
        while self.tag_of_record().await? == first {
            if Instant::now() > deadline {
                return Err(failed());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn tag_of_record(&self) -> Result<Option<String>> {
        let (path, options) = (record::path(), GetOptions::default());
        Ok(self.objects.get_opts(&path, options).await?.meta.e_tag)
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
        self.check()?;
        let is_record = *location == record::path();
        if is_record && self.fails(&[Fault::Records]) {
            return Err(failed());
        }
        let put = self.objects.put_opts(location, payload, options).await;
        if is_record && self.fails(&[Fault::RepliesToRecords]) {
            return Err(failed());
        }
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check()?;
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check()?;
        if *location != record::path() && self.fails(&[Fault::SlowContents]) {
            self.wait_for_another_record().await?;
        }
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.check() {
            Ok(()) => self.objects.delete_stream(locations),
            Err(error) => stream::iter([Err(error)]).boxed(),
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
