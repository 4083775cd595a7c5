//! Collects captured samples to files of bounded size.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use artifacts::model_store::ModelName;
use datasets::{NpyElement, Values, npy_file};
use tracing::warn;

use super::{CaptureCounts, Message, Samples, files::Files, folder_lock};
use crate::{config::CaptureConfig, raw_samples::raw_samples};

/// Largest size of a file, bytes.
const LARGEST_FILE: u64 = 8 << 20;

/// Files that the limit of all files has room for at least.
const LEAST_FILES: u64 = 8;

/// The thread that writes.
pub(super) struct Writer {
    files: Files,
    /// Largest size of a file that is waited for, bytes.
    largest_file: u64,
    write_after: Duration,
    counts: Arc<CaptureCounts>,
    /// Wakes the uploader after each file; dropped at the end.
    uploader: Option<SyncSender<()>>,
    /// Samples that wait for others of the same file.
    parts: BTreeMap<Place, Part>,
}

/// The samples of one folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    model: ModelName,
    shape: Vec<usize>,
}

/// The content of the next file of a folder.
struct Part {
    began: Instant,
    element: NpyElement,
    samples: usize,
    data: Vec<u8>,
}

impl Writer {
    pub(super) fn new(
        config: &CaptureConfig,
        files: Files,
        uploader: Option<SyncSender<()>>,
        counts: Arc<CaptureCounts>,
    ) -> Self {
        let limit = match uploader {
            Some(_) => config.max_bytes.min(config.max_spool_bytes),
            None => config.max_bytes,
        };
        Self {
            files,
            largest_file: LARGEST_FILE.min(limit / LEAST_FILES),
            write_after: Duration::from_secs(config.write_after_seconds),
            counts,
            uploader,
            parts: BTreeMap::new(),
        }
    }

    /// Writes what arrives until the end.
    pub(super) fn work(mut self, messages: &Receiver<Message>) {
        let lock = folder_lock::take(self.files.folder());
        if let Err(error) = &lock {
            let folder = self.files.folder().display();
            warn!("cannot remove the unfinished files in {folder}: {error}");
        }
        loop {
            let first = self.parts.values().map(|part| part.began).min();
            let wait = first.map_or(self.write_after, |began| {
                self.write_after.saturating_sub(began.elapsed())
            });
            match messages.recv_timeout(wait) {
                Ok(Message::Samples(samples)) => self.add(samples),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
            let write_after = self.write_after;
            self.write(|part| part.began.elapsed() >= write_after);
        }
        self.write(|_| true);
        drop(lock);
    }

    /// Adds samples to the next file of their folder, and writes it if it is large enough.
    fn add(&mut self, samples: Samples) {
        let Samples {
            model,
            shape,
            manifest,
            input,
            samples,
            bytes,
        } = samples;
        let (element, data) = match raw_samples(&input, &manifest) {
            Values::Uint8(pixels) => (NpyElement::Uint8, pixels),
            Values::Fp32(rows) => {
                let bytes = rows.iter().flat_map(|value| value.to_le_bytes());
                (NpyElement::Fp32, bytes.collect())
            }
        };
        self.counts.waiting.fetch_sub(bytes, Ordering::Relaxed);
        let part = self
            .parts
            .entry(Place { model, shape })
            .or_insert_with(|| Part {
                began: Instant::now(),
                element,
                samples: 0,
                data: Vec::new(),
            });
        part.samples += samples;
        part.data.extend_from_slice(&data);
        let enough = self.largest_file;
        self.write(|part| part.data.len() as u64 >= enough);
    }

    /// Writes the parts that are `due`. What cannot be written is dropped.
    fn write(&mut self, due: impl Fn(&Part) -> bool) {
        let places: Vec<Place> = self
            .parts
            .iter()
            .filter(|(_, part)| due(part))
            .map(|(place, _)| place.clone())
            .collect();
        for place in places {
            let Some(part) = self.parts.remove(&place) else {
                continue;
            };
            let count = part.samples as u64;
            match self.write_part(&place, &part) {
                Ok(()) => _ = self.counts.written.fetch_add(count, Ordering::Relaxed),
                Err(error) => {
                    self.counts.dropped.fetch_add(count, Ordering::Relaxed);
                    warn!(model = %place.model, samples = count, "captured samples are dropped: {error}");
                }
            }
        }
    }

    fn write_part(&mut self, place: &Place, part: &Part) -> io::Result<()> {
        let sizes: Vec<String> = place.shape.iter().map(usize::to_string).collect();
        let folder = format!("{}/{}", place.model, sizes.join("x"));
        // Images of one channel have no dimension for it, so that no reader takes their width for channels.
        let sample = match place.shape[..] {
            [1, _, _] => &place.shape[1..],
            _ => &place.shape[..],
        };
        let shape = [&[part.samples], sample].concat();
        self.files
            .add(&folder, &npy_file(part.element, &shape, &part.data))?;
        if let Some(uploader) = &self.uploader {
            // If the channel is full, the uploader looks for files soon anyway.
            let _ = uploader.try_send(());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::mpsc::sync_channel};

    use datasets::{DataSpec, Sample, Shares, open};

    use super::*;
    use crate::{
        batcher::InputValues,
        capture::files::{CapturedFile, Purpose, Spool, oldest_first},
        test_model,
    };

    fn config(folder: &Path, max_bytes: u64) -> CaptureConfig {
        CaptureConfig {
            share: 1.0,
            folder: folder.to_owned(),
            max_bytes,
            write_after_seconds: 3600,
            spool: folder.to_owned(),
            max_spool_bytes: max_bytes,
        }
    }

    fn writer(folder: &Path, max_bytes: u64) -> Writer {
        let counts = Arc::<CaptureCounts>::default();
        let files = Files::new(folder, max_bytes, Purpose::DataSet, Arc::clone(&counts));
        Writer::new(&config(folder, max_bytes), files, None, counts)
    }

    /// `pixels` as samples of one pixel each for the model of `test_model`, which does not normalize.
    fn samples(pixels: &[u8]) -> Samples {
        let (_, manifest) = test_model::model(&[[0.0; 2]; 3]);
        let values = pixels.iter().map(|pixel| f32::from(*pixel) / 255.0);
        Samples {
            model: ModelName::new("m").unwrap(),
            shape: vec![1, 1, 1],
            manifest,
            input: InputValues::Typed(values.collect()),
            samples: pixels.len(),
            bytes: 0,
        }
    }

    /// The pixels that a run would read.
    fn read(folder: &Path) -> Vec<u8> {
        let mut spec = DataSpec::new(folder.join("m/1x1x1"));
        spec.shares = Shares {
            validation: 0.0,
            test: 0.0,
            seed: 0,
        };
        let data = open(&spec, &|_| ()).unwrap().train;
        let pixel = |sample| match data.read(sample).unwrap() {
            Sample::Image(picture) => picture.pixels[0],
            Sample::Row(_) => panic!("it is an image"),
        };
        (0..data.len() as u32).map(pixel).collect()
    }

    #[test]
    fn a_data_set_has_the_captured_samples_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(folder.path(), 1 << 20);
        let counts = Arc::clone(&writer.counts);
        let (queue, messages) = sync_channel(9);
        for pixels in [&[1, 2][..], &[3], &[255, 0]] {
            queue.send(Message::Samples(samples(pixels))).unwrap();
        }
        queue.send(Message::End).unwrap();
        writer.work(&messages);
        assert_eq!(read(folder.path()), [1, 2, 3, 255, 0]);
        assert_eq!((counts.written(), counts.dropped()), (5, 0));

        // The next process continues.
        let mut next = self::writer(folder.path(), 1 << 20);
        next.add(samples(&[7]));
        next.write(|_| true);
        assert_eq!(read(folder.path()), [1, 2, 3, 255, 0, 7]);
    }

    #[test]
    fn the_oldest_files_make_room_within_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let max_bytes = 1 << 16;
        let mut writer = writer(folder.path(), max_bytes);
        let total = || -> u64 {
            let files = oldest_first(folder.path()).unwrap().into_iter();
            let size = |file: CapturedFile| fs::metadata(file.path).unwrap().len();
            files.map(size).sum()
        };
        // Each file has an eighth of the limit.
        for round in 0..20 {
            writer.add(samples(&[round; 1 << 13]));
            assert!(writer.parts.is_empty(), "it is written");
            assert!(total() <= max_bytes);
        }
        assert!(total() > max_bytes / 2);
        let mut kept = read(folder.path());
        kept.dedup();
        assert!(kept.ends_with(&[17, 18, 19]), "{kept:?}");
        assert!(!kept.contains(&0), "{kept:?}");
        assert_eq!(writer.counts.written(), 20 << 13);
    }

    #[test]
    fn a_spool_holds_what_the_data_set_would_and_wakes_the_uploader() {
        let [data, spool] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (uploader, wakes) = sync_channel(1);
        let counts = Arc::<CaptureCounts>::default();
        let purpose = Purpose::Spool(Spool::default());
        let files = Files::new(spool.path(), 1 << 20, purpose, Arc::clone(&counts));
        let config = config(spool.path(), 1 << 20);
        let spooling = Writer::new(&config, files, Some(uploader), counts);
        for mut writer in [writer(data.path(), 1 << 20), spooling] {
            for pixels in [&[1, 2][..], &[3]] {
                writer.add(samples(pixels));
                writer.write(|_| true);
            }
        }
        assert_eq!(read(spool.path()), [1, 2, 3]);
        assert_eq!(read(spool.path()), read(data.path()));
        // One message stands for both files, and the writer has ended.
        assert!(wakes.recv().is_ok() && wakes.recv().is_err());
    }

    #[test]
    fn samples_that_cannot_be_written_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let mut writer = writer(&file, 1 << 20);
        writer.add(samples(&[1, 2]));
        writer.write(|_| true);
        assert_eq!((writer.counts.written(), writer.counts.dropped()), (0, 2));
    }
}
