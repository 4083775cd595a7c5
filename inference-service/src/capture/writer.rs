//! Writes captured samples in files of bounded size, and removes the oldest files.
//!
//! ```text
//! <folder>/<model>/<shape>/x-000001.npy   u8 [n, height, width] or [n, 3, height, width], or f32 [n, values]
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime},
};

use artifacts::model_store::ModelName;
use common::{atomic_file, folders};
use datasets::{NpyElement, Values, npy_file};
use tracing::warn;

use super::{CaptureCounts, Message, Samples, folder_lock};
use crate::{config::CaptureConfig, raw_samples::raw_samples};

/// Largest size of a file, bytes.
const LARGEST_FILE: u64 = 8 << 20;

/// Files that the limit of all files has room for at least.
const LEAST_FILES: u64 = 8;

/// The thread that writes.
pub(super) struct Writer {
    folder: PathBuf,
    max_bytes: u64,
    write_after: Duration,
    counts: Arc<CaptureCounts>,
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

/// A file in the folder of captured samples.
struct Written {
    modified: SystemTime,
    path: PathBuf,
    bytes: u64,
}

impl Writer {
    pub(super) fn new(config: &CaptureConfig, counts: Arc<CaptureCounts>) -> Self {
        Self {
            folder: config.folder.clone(),
            max_bytes: config.max_bytes,
            write_after: Duration::from_secs(config.write_after_seconds),
            counts,
            parts: BTreeMap::new(),
        }
    }

    /// Writes what arrives until the end.
    pub(super) fn work(mut self, messages: &Receiver<Message>) {
        let lock = folder_lock::take(&self.folder);
        if let Err(error) = &lock {
            let folder = self.folder.display();
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
        let enough = self.largest_file();
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

    fn write_part(&self, place: &Place, part: &Part) -> io::Result<()> {
        let sizes: Vec<String> = place.shape.iter().map(usize::to_string).collect();
        let folder = self.folder.join(place.model.as_str()).join(sizes.join("x"));
        // Images of one channel have no dimension for it, so that no reader takes their width for channels.
        let sample = match place.shape[..] {
            [1, _, _] => &place.shape[1..],
            _ => &place.shape[..],
        };
        let shape = [&[part.samples], sample].concat();
        let file = npy_file(part.element, &shape, &part.data);
        self.make_room(file.len() as u64)?;
        fs::create_dir_all(&folder)?;
        let number = newest_number(&folder)? + 1;
        let path = folder.join(format!("x-{number:06}.npy"));
        atomic_file::write_new(&path, &file)
    }

    /// Removes the oldest files, so that `bytes` more fit within the limit.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        if bytes > self.max_bytes {
            let problem = format!("one file would have {bytes} bytes (capture.max_bytes)");
            return Err(io::Error::other(problem));
        }
        let mut files = self.files()?;
        files.sort_by(|one, other| {
            let key = |file: &Written| (file.modified, file.path.clone());
            key(one).cmp(&key(other))
        });
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        for file in files {
            if total + bytes <= self.max_bytes {
                break;
            }
            fs::remove_file(&file.path)?;
            total -= file.bytes;
        }
        Ok(())
    }

    /// All files that this service, or one before it, has written.
    fn files(&self) -> io::Result<Vec<Written>> {
        let mut files = Vec::new();
        if !self.folder.is_dir() {
            return Ok(files);
        }
        for model in folders::list(&self.folder)?.folders() {
            for shape in folders::list(&model.path)?.folders() {
                for entry in folders::list(&shape.path)?.entries {
                    if part_number(&entry.name).is_some() {
                        let metadata = fs::metadata(&entry.path)?;
                        files.push(Written {
                            modified: metadata.modified()?,
                            bytes: metadata.len(),
                            path: entry.path,
                        });
                    }
                }
            }
        }
        Ok(files)
    }

    /// The size from which a file is written.
    fn largest_file(&self) -> u64 {
        LARGEST_FILE.min(self.max_bytes / LEAST_FILES)
    }
}

/// The largest number of a file in `folder`, or 0.
fn newest_number(folder: &Path) -> io::Result<u64> {
    let entries = folders::list(folder)?.entries;
    let numbers = entries.iter().filter_map(|entry| part_number(&entry.name));
    Ok(numbers.max().unwrap_or(0))
}

fn part_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("x-")?.strip_suffix(".npy")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use datasets::{DataSpec, Sample, Shares, open};

    use super::*;
    use crate::{batcher::InputValues, test_model};

    fn writer(folder: &Path, max_bytes: u64) -> Writer {
        let config = CaptureConfig {
            share: 1.0,
            folder: folder.to_owned(),
            max_bytes,
            write_after_seconds: 3600,
        };
        Writer::new(&config, Arc::default())
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
        let total = |writer: &Writer| -> u64 {
            let files = writer.files().unwrap();
            files.iter().map(|file| file.bytes).sum()
        };
        // Each file has an eighth of the limit.
        for round in 0..20 {
            writer.add(samples(&[round; 1 << 13]));
            assert!(writer.parts.is_empty(), "it is written");
            assert!(total(&writer) <= max_bytes);
        }
        assert!(total(&writer) > max_bytes / 2);
        let mut kept = read(folder.path());
        kept.dedup();
        assert!(kept.ends_with(&[17, 18, 19]), "{kept:?}");
        assert!(!kept.contains(&0), "{kept:?}");
        assert_eq!(writer.counts.written(), 20 << 13);
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
