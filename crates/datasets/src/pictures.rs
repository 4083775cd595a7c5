//! Encoded pictures as a source, wherever their files lie.

use std::{
    fmt, io,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::{
    Decoding, Layout, Picture, PictureFormat, Progress, Sample, SampleError, SampleKind, Source,
    UnreadableFile, decode,
};

/// Files of one format that hold a picture each.
pub(crate) trait Files: fmt::Debug + Send + Sync {
    /// Number of files.
    fn len(&self) -> usize;

    /// Name within the data set, which is part of the fingerprint.
    fn name(&self, file: usize) -> &str;

    /// The label; an index into the class names.
    fn label(&self, file: usize) -> Option<u32>;

    /// Where the file lies, for messages.
    fn place(&self, file: usize) -> PathBuf;

    /// The file's bytes. Files larger than `largest` bytes are an error.
    ///
    /// # Errors
    /// Any I/O error.
    fn read(&self, file: usize, largest: u64) -> io::Result<Vec<u8>>;
}

/// Pictures that are read and decoded on access.
#[derive(Debug)]
pub(crate) struct Pictures<F> {
    files: F,
    entries: Vec<Entry>,
    class_names: Vec<String>,
    decoding: Decoding,
    channels: usize,
    size: Option<[usize; 2]>,
    fingerprint: String,
}

/// A usable picture.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Position in the files.
    file: u32,
    /// SHA-256 of the file's bytes.
    digest: [u8; 32],
    /// [channels, height, width]
    shape: [u32; 3],
}

impl<F: Files> Pictures<F> {
    /// Reads and decodes every file once, on all threads, and lists those that cannot be used. Training never
    /// meets a broken picture unless a file changes afterwards, which [`Source::read`] detects.
    ///
    /// `progress` is called for each file.
    pub(crate) fn scan(
        files: F,
        class_names: Vec<String>,
        decoding: Decoding,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> (Self, Vec<UnreadableFile>) {
        let (done, total) = (AtomicUsize::new(0), files.len());
        let check = |file: usize| {
            let checked = check(&files, file, &decoding);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress(Progress { done, total });
            checked
        };
        // Collected in the order of the files, so nothing depends on threads.
        let checked: Vec<_> = (0..total).into_par_iter().map(check).collect();
        let mut entries = Vec::with_capacity(total);
        let mut unreadable = Vec::new();
        for (file, checked) in checked.into_iter().enumerate() {
            match checked {
                Ok(entry) => entries.push(entry),
                Err(problem) => unreadable.push(UnreadableFile {
                    path: files.place(file),
                    problem,
                }),
            }
        }
        let channels = entries
            .iter()
            .map(|entry| entry.shape[0])
            .max()
            .unwrap_or(1) as usize;
        let size_of = |entry: &Entry| [entry.shape[1] as usize, entry.shape[2] as usize];
        let first = entries.first().map(size_of);
        let size = first.filter(|first| entries.iter().all(|entry| size_of(entry) == *first));
        let fingerprint = fingerprint(&files, &entries, &class_names, &decoding);
        let pictures = Self {
            files,
            entries,
            class_names,
            decoding,
            channels,
            size,
            fingerprint,
        };
        (pictures, unreadable)
    }
}

fn check(files: &impl Files, file: usize, decoding: &Decoding) -> Result<Entry, String> {
    let bytes = files
        .read(file, largest(decoding))
        .map_err(|error| error.to_string())?;
    let picture = picture(&bytes, decoding)?;
    Ok(Entry {
        // Holds: a data set has fewer than 2^32 files, and a picture's sides are u32 in every format.
        file: file as u32,
        digest: Sha256::digest(&bytes).into(),
        shape: picture.shape.map(|side| side as u32),
    })
}

fn picture(bytes: &[u8], decoding: &Decoding) -> Result<Picture<'static>, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    let Some(format) = PictureFormat::of(bytes) else {
        return Err("is not a PNG, JPEG or WebP file; convert it".to_owned());
    };
    decode(bytes, format, decoding).map_err(|problem| problem.to_string())
}

/// Bytes that a file of the most pixels may have: uncompressed pixels of 16 bits, and as much again for what
/// cameras append.
fn largest(decoding: &Decoding) -> u64 {
    const APPENDED: u64 = 64 << 20;
    decoding
        .max_pixels
        .saturating_mul(16)
        .saturating_add(APPENDED)
}

/// SHA-256 of everything that decides samples and labels.
fn fingerprint(
    files: &impl Files,
    entries: &[Entry],
    class_names: &[String],
    decoding: &Decoding,
) -> String {
    let mut hasher = Sha256::new();
    let mut text = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    text("retort pictures 1");
    text(&format!("{:?} {:?}", decoding.alpha, decoding.turning));
    text(&class_names.len().to_string());
    class_names.iter().for_each(|name| text(name));
    for entry in entries {
        let file = entry.file as usize;
        text(files.name(file));
        text(
            &files
                .label(file)
                .map_or("-".to_owned(), |label| label.to_string()),
        );
        text(&hex::encode(entry.digest));
    }
    hex::encode(hasher.finalize())
}

impl<F: Files> Source for Pictures<F> {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn kind(&self) -> SampleKind {
        SampleKind::Image {
            channels: self.channels,
            size: self.size,
        }
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn label(&self, sample: u32) -> Option<u32> {
        self.files
            .label(self.entries[sample as usize].file as usize)
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn place(&self, sample: u32) -> Option<PathBuf> {
        let entry = &self.entries[sample as usize];
        Some(self.files.place(entry.file as usize))
    }

    fn read(&self, sample: u32) -> Result<Sample<'_>, SampleError> {
        let entry = &self.entries[sample as usize];
        let file = entry.file as usize;
        let failed = |problem: String| SampleError {
            sample,
            place: self.files.place(file).display().to_string(),
            problem,
        };
        let bytes = self.files.read(file, largest(&self.decoding));
        let bytes = bytes.map_err(|error| failed(error.to_string()))?;
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != entry.digest {
            let problem = "the file has changed since the data set was opened";
            return Err(failed(problem.to_owned()));
        }
        let picture = picture(&bytes, &self.decoding).map_err(failed)?;
        Ok(Sample::Image(with_channels(picture, self.channels)))
    }
}

/// A gray picture of a source of color pictures gets three equal channels.
fn with_channels(picture: Picture<'static>, channels: usize) -> Picture<'static> {
    if picture.channels() == channels {
        return picture;
    }
    let [_, height, width] = picture.shape;
    let pixels = picture
        .pixels
        .iter()
        .flat_map(|value| [*value; 3])
        .collect();
    Picture {
        pixels,
        layout: Layout::Interleaved,
        shape: [channels, height, width],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Alpha, Ground};

    /// A labelled file.
    #[derive(Debug)]
    struct OneFile;

    impl Files for OneFile {
        fn len(&self) -> usize {
            1
        }

        fn name(&self, _file: usize) -> &str {
            "cat/1.png"
        }

        fn label(&self, _file: usize) -> Option<u32> {
            Some(0)
        }

        fn place(&self, _file: usize) -> PathBuf {
            "cat/1.png".into()
        }

        fn read(&self, _file: usize, _largest: u64) -> io::Result<Vec<u8>> {
            Ok(Vec::new())
        }
    }

    /// Another value would orphan every recording. The digests follow from the texts that [`fingerprint`] hashes,
    /// written in Python.
    #[test]
    fn fingerprints_stay_the_same_and_tell_grounds_apart() {
        let entry = Entry {
            file: 0,
            digest: [7; 32],
            shape: [3, 1, 1],
        };
        for (ground, expected) in [
            (
                Ground::WHITE,
                "2b6ecc3ac35d5c30f57a2bb5e13c85f3564bbfd9a8084bd56a152747504c2179",
            ),
            (
                Ground([0; 3]),
                "66cd01718107164aede6a4c3bb8ea8034eeb40f7608f99623434027b6bf37f59",
            ),
        ] {
            let decoding = Decoding {
                alpha: Alpha::Over(ground.0),
                ..Decoding::upright_on_white(1)
            };
            let found = fingerprint(&OneFile, &[entry], &["cat".to_owned()], &decoding);
            assert_eq!(found, expected, "{ground}");
        }
    }
}
