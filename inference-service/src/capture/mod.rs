//! Captures a share of the requests' samples in files that a data set can be read from.
//!
//! [`Capture`] takes samples on the path of the requests, without waiting: what the bounded queue cannot hold is
//! dropped and counted. A thread of its own writes them ([`Writer`]): to the folder of the data set, or to the spool, from
//! which another thread uploads them to a bucket ([`Uploader`]).

mod destination;
mod files;
mod folder_lock;
mod uploader;
mod writer;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use artifacts::{manifest::ArtifactManifest, model_store::ModelName};

use crate::{batcher::InputValues, loaded_version::LoadedVersion, sharing::is_selected};
use files::{Files, Purpose, Spool};
use uploader::Uploader;
use writer::Writer;

pub(crate) use destination::Destination;
pub use destination::DestinationError;

/// Requests that wait for the writer.
const WAITING: usize = 256;

/// Bytes of the requests that wait for the writer.
const WAITING_BYTES: usize = 64 << 20;

/// Takes samples of requests.
#[derive(Debug)]
pub(crate) struct Capture {
    share: f64,
    /// Requests so far.
    requests: AtomicU64,
    queue: SyncSender<Message>,
    counts: Arc<CaptureCounts>,
    writer: Mutex<Option<JoinHandle<()>>>,
    uploader: Mutex<Option<JoinHandle<()>>>,
}

/// Samples that were captured and dropped.
#[derive(Debug, Default)]
pub(crate) struct CaptureCounts {
    written: AtomicU64,
    uploaded: AtomicU64,
    dropped: AtomicU64,
    /// Bytes in the queue.
    waiting: AtomicUsize,
}

/// What the writer receives.
#[derive(Debug)]
enum Message {
    Samples(Samples),
    /// Write everything and end.
    End,
}

/// The samples of one request.
#[derive(Debug)]
struct Samples {
    model: ModelName,
    /// Of one sample: [channels, height, width] or [values].
    shape: Vec<usize>,
    manifest: Arc<ArtifactManifest>,
    input: InputValues,
    samples: usize,
    bytes: usize,
}

impl Capture {
    /// Starts the writer, and for a bucket the uploader.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    pub(crate) fn start(destination: Destination) -> io::Result<Self> {
        let Destination {
            config,
            folder,
            bucket,
        } = destination;
        let counts = Arc::new(CaptureCounts::default());
        let (mut capture, messages) = Self::with_queue(config.share, WAITING, Arc::clone(&counts));
        let (limit, purpose, wakes) = match bucket {
            None => (config.max_bytes, Purpose::DataSet, None),
            Some(bucket) => {
                let counts = Arc::clone(&counts);
                let uploader = Uploader::new(bucket, &folder, config.max_bytes, counts);
                // One message stands for any number of files.
                let (wakes, spooled) = sync_channel(1);
                let work = move || uploader.work(&spooled);
                capture.uploader = Mutex::new(Some(spawn("capture-upload", work)?));
                let purpose = Purpose::Spool(Spool::default());
                (config.max_spool_bytes, purpose, Some(wakes))
            }
        };
        let files = Files::new(&folder, limit, purpose, Arc::clone(&counts));
        let writer = Writer::new(&config, files, wakes, counts);
        let work = move || writer.work(&messages);
        capture.writer = Mutex::new(Some(spawn("capture", work)?));
        Ok(capture)
    }

    fn with_queue(
        share: f64,
        waiting: usize,
        counts: Arc<CaptureCounts>,
    ) -> (Self, Receiver<Message>) {
        let (queue, messages) = sync_channel(waiting);
        let capture = Self {
            share,
            requests: AtomicU64::new(0),
            queue,
            counts,
            writer: Mutex::default(),
            uploader: Mutex::default(),
        };
        (capture, messages)
    }

    /// Counts a valid request to `version`, and captures its samples if it is selected. Does not wait.
    pub(crate) fn take(&self, version: &LoadedVersion, input: &InputValues, samples: usize) {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if !is_selected(number, self.share) {
            return;
        }
        let values = samples * version.interface.sample_values();
        let bytes = values * size_of::<f32>();
        if self.counts.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_BYTES {
            return self.counts.drop_waiting(bytes, samples);
        }
        let message = Message::Samples(Samples {
            model: version.model.clone(),
            shape: version.interface.sample.clone(),
            manifest: Arc::clone(&version.manifest),
            input: input.first(values),
            samples,
            bytes,
        });
        if self.queue.try_send(message).is_err() {
            self.counts.drop_waiting(bytes, samples);
        }
    }

    /// The counts of this process.
    pub(crate) fn counts(&self) -> Arc<CaptureCounts> {
        Arc::clone(&self.counts)
    }

    /// Writes what was captured, and takes nothing more. Blocks.
    pub(crate) fn finish_writing(&self) {
        if let Some(writer) = take_thread(&self.writer) {
            // Fails if the thread has panicked, which the log says.
            let _ = self.queue.send(Message::End);
            let _ = writer.join();
        }
    }

    /// Uploads what was written, unless the bucket does not answer. Blocks. Call [`finish_writing`](Self::finish_writing)
    /// before.
    pub(crate) fn finish_uploading(&self) {
        if let Some(uploader) = take_thread(&self.uploader) {
            // Fails if the thread has panicked, which the log says.
            let _ = uploader.join();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn take_thread(thread: &Mutex<Option<JoinHandle<()>>>) -> Option<JoinHandle<()>> {
    thread.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl CaptureCounts {
    /// Samples in the files that were written.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Samples in the files that were uploaded to a bucket.
    pub(crate) fn uploaded(&self) -> u64 {
        self.uploaded.load(Ordering::Relaxed)
    }

    /// Samples that were selected and lost: the queue was full, writing failed, or a file made room in the spool or could not
    /// be read there.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn drop_waiting(&self, bytes: usize, samples: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        self.dropped.fetch_add(samples as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog::Catalog, test_model};

    #[tokio::test]
    async fn what_the_queue_cannot_hold_is_dropped_and_counted() {
        let model = ModelName::new("m").unwrap();
        let version = test_model::without_sessions(&Catalog::default(), &model, 1);
        let counts = Arc::new(CaptureCounts::default());
        let (capture, messages) = Capture::with_queue(0.5, 2, Arc::clone(&counts));
        let input = InputValues::Typed(vec![0.25; 3]);
        for _ in 0..10 {
            capture.take(&version, &input, 3);
        }
        // Half of the requests are selected, and two of these fit.
        assert_eq!((counts.dropped(), counts.written()), (9, 0));
        assert_eq!(counts.waiting.load(Ordering::Relaxed), 2 * 12);
        let waiting: Vec<_> = messages.try_iter().collect();
        assert_eq!(waiting.len(), 2);

        let values = WAITING_BYTES / size_of::<f32>() + 1;
        let large = InputValues::Typed(vec![0.0; values]);
        for _ in 0..2 {
            capture.take(&version, &large, values);
        }
        assert_eq!(counts.dropped(), 9 + values as u64);
        assert!(messages.try_iter().next().is_none());
    }
}
