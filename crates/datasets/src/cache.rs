//! Decoded pictures on disk, reduced to the size that training needs.
//!
//! A cache file is a header, the pixels of the cached samples, one after the other, and an index. The header holds
//! a digest of everything after it, which is checked when the file is opened.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::atomic_file;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::{
    DatasetError, Geometry, Interpolation, Layout, Picture, Progress, Renderer, Sample,
    SampleError, SampleKind, Source,
};

/// A cache of decoded pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSpec {
    /// Folder of the cache files.
    pub folder: PathBuf,
    /// Pictures whose shorter side has more pixels are reduced to this.
    pub shorter_side: usize,
    /// Most bytes of a cache file. The samples that do not fit are decoded on access.
    pub max_bytes: u64,
}

const MAGIC: &[u8; 16] = b"retort cache 1\n\0";
/// Magic, digest, key, number of samples, position of the index.
const HEADER: u64 = 16 + 32 + 32 + 8 + 8;
/// Where the part begins that the digest covers.
const DIGESTED: u64 = 16 + 32;
/// Samples that are decoded at a time: as many pictures are in memory.
const CHUNK: usize = 64;

/// `source` with its pictures reduced as `spec` says and cached. A cache file of another source or with damage is
/// written anew. `progress` is called while it is written. A source of rows stays as it is.
///
/// The result's samples and fingerprint depend on the source and the shorter side, not on what is cached.
///
/// # Errors
/// [`DatasetError`] if a sample cannot be read or the file cannot be written.
pub fn cached(
    source: Arc<dyn Source>,
    spec: &CacheSpec,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Arc<dyn Source>, DatasetError> {
    if !matches!(source.kind(), SampleKind::Image { .. }) {
        return Ok(source);
    }
    let mut hasher = Sha256::new();
    hasher.update("retort reduced 1\n");
    hasher.update(source.fingerprint());
    hasher.update((spec.shorter_side as u64).to_le_bytes());
    let key: [u8; 32] = hasher.finalize().into();
    let path = spec.folder.join(format!("{}.cache", hex::encode(key)));
    let found = CacheFile::open(&path, key, source.len(), spec.max_bytes);
    let file = match found {
        Some(file) => file,
        None => {
            write(&path, key, &*source, spec, progress)?;
            CacheFile::open(&path, key, source.len(), spec.max_bytes)
                .ok_or_else(|| DatasetError::unreadable(&path, "it changed while it was opened"))?
        }
    };
    Ok(Arc::new(Cached {
        source,
        shorter_side: spec.shorter_side,
        fingerprint: hex::encode(key),
        file,
    }))
}

/// A source whose pictures are reduced, the first of them from a file.
#[derive(Debug)]
struct Cached {
    source: Arc<dyn Source>,
    shorter_side: usize,
    fingerprint: String,
    file: CacheFile,
}

/// A valid cache file.
#[derive(Debug)]
struct CacheFile {
    file: File,
    /// Of the cached samples, from the first on.
    index: Vec<Place>,
}

/// Where the pixels of a sample lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    offset: u64,
    shape: [u32; 3],
}

impl Place {
    const BYTES: usize = 8 + 3 * 4;

    fn length(self) -> Option<u64> {
        let [channels, height, width] = self.shape.map(u64::from);
        channels.checked_mul(height)?.checked_mul(width)
    }

    fn to_bytes(self) -> Vec<u8> {
        let shape = self.shape.iter().flat_map(|side| side.to_le_bytes());
        self.offset.to_le_bytes().into_iter().chain(shape).collect()
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let side = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let [low, high] = [side(0), side(4)].map(u64::from);
        Self {
            offset: high << 32 | low,
            shape: [8, 12, 16].map(side),
        }
    }
}

impl CacheFile {
    /// The file, if it holds the samples of `key`, is undamaged and not too large.
    fn open(path: &Path, key: [u8; 32], samples: usize, max_bytes: u64) -> Option<Self> {
        if !path.is_file() {
            return None;
        }
        let mut file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        let mut header = [0; HEADER as usize];
        file.read_exact(&mut header).ok()?;
        let number = |at: usize| {
            let bytes = header[at..at + 8].iter().rev();
            bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let (cached, index) = (number(80), number(88));
        let index_bytes = cached.checked_mul(Place::BYTES as u64)?;
        let is_right = header[..16] == *MAGIC
            && header[48..80] == key
            && cached <= samples as u64
            && length <= max_bytes
            && index.checked_add(index_bytes) == Some(length);
        if !is_right || digest(&mut file).ok()? != header[16..48] {
            return None;
        }
        let mut bytes = vec![0; index_bytes as usize];
        file.read_exact_at(&mut bytes, index).ok()?;
        let (places, _) = bytes.as_chunks::<{ Place::BYTES }>();
        let places: Vec<_> = places.iter().map(Place::from_bytes).collect();
        let lies_within = |place: &Place| {
            let end = place
                .length()
                .and_then(|length| place.offset.checked_add(length));
            end.is_some_and(|end| end <= index)
        };
        places.iter().all(lies_within).then_some(Self {
            file,
            index: places,
        })
    }

    fn read(&self, place: Place) -> io::Result<Picture<'static>> {
        // Holds: every place lies within the file, whose length was checked.
        let mut pixels = vec![0; place.length().unwrap_or(0) as usize];
        self.file.read_exact_at(&mut pixels, place.offset)?;
        Ok(Picture {
            pixels: Cow::Owned(pixels),
            layout: Layout::Planar,
            shape: place.shape.map(|side| side as usize),
        })
    }
}

/// The digest of what follows the digest in the header.
fn digest(file: &mut File) -> io::Result<[u8; 32]> {
    file.seek(SeekFrom::Start(DIGESTED))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn write(
    path: &Path,
    key: [u8; 32],
    source: &dyn Source,
    spec: &CacheSpec,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), DatasetError> {
    let mut failed = None;
    let written = atomic_file::write_with(path, |file| {
        let (mut index, mut offset) = (Vec::new(), HEADER);
        let mut writer = BufWriter::with_capacity(1 << 20, &mut *file);
        writer.write_all(&[0; HEADER as usize])?;
        let samples: Vec<u32> = (0..source.len() as u32).collect();
        'chunks: for chunk in samples.chunks(CHUNK) {
            let read = |sample: &u32| reduced(source, *sample, spec.shorter_side);
            let pictures: Vec<_> = chunk.par_iter().map(read).collect();
            for picture in pictures {
                let picture = picture.map_err(|error| {
                    let text = error.to_string();
                    failed = Some(error);
                    io::Error::other(text)
                })?;
                let after = offset + picture.pixels.len() as u64;
                if after + ((index.len() + 1) * Place::BYTES) as u64 > spec.max_bytes {
                    break 'chunks;
                }
                writer.write_all(&picture.pixels)?;
                // Holds: a picture's sides are u32 in every format.
                let shape = picture.shape.map(|side| side as u32);
                index.push(Place { offset, shape });
                offset = after;
            }
            progress(Progress {
                done: index.len(),
                total: samples.len(),
            });
        }
        for place in &index {
            writer.write_all(&place.to_bytes())?;
        }
        writer.flush()?;
        drop(writer);
        let [samples, index] = [index.len() as u64, offset].map(u64::to_le_bytes);
        file.write_all_at(&[&key[..], &samples, &index].concat(), DIGESTED)?;
        let digest = digest(file)?;
        file.write_all_at(&[&MAGIC[..], &digest].concat(), 0)
    });
    match (failed, written) {
        (Some(error), _) => Err(error.into()),
        (None, written) => written.map_err(|error| DatasetError::unreadable(path, error)),
    }
}

/// The picture with a shorter side of at most `shorter_side`, planar.
fn reduced(
    source: &dyn Source,
    sample: u32,
    shorter_side: usize,
) -> Result<Picture<'_>, SampleError> {
    let picture = match source.read(sample)? {
        Sample::Image(picture) => picture,
        Sample::Row(_) => unreachable!("a source of images gives images"),
    };
    let size @ [height, width] = picture.size();
    let shape = [picture.channels(), size[0], size[1]];
    let target = reduced_size(size, shorter_side);
    if target == size && picture.layout == Layout::Planar {
        return Ok(picture);
    }
    let whole = Geometry {
        top: 0.0,
        left: 0.0,
        height: height as f64,
        width: width as f64,
        flip: false,
    };
    let shape = [shape[0], target[0], target[1]];
    let mut pixels = vec![0; shape.iter().product()];
    Renderer::default().render(&picture, whole, shape, Interpolation::Bilinear, &mut pixels);
    Ok(Picture {
        pixels: Cow::Owned(pixels),
        layout: Layout::Planar,
        shape,
    })
}

/// The size with a shorter side of at most `shorter_side`, in about the same proportion, rounded as by torchvision.
fn reduced_size([height, width]: [usize; 2], shorter_side: usize) -> [usize; 2] {
    let shorter = height.min(width);
    if shorter <= shorter_side {
        return [height, width];
    }
    [height, width].map(|side| (side * shorter_side / shorter).max(1))
}

impl Source for Cached {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn kind(&self) -> SampleKind {
        match self.source.kind() {
            SampleKind::Image { channels, size } => SampleKind::Image {
                channels,
                size: size.map(|size| reduced_size(size, self.shorter_side)),
            },
            rows @ SampleKind::Row { .. } => rows,
        }
    }

    fn class_names(&self) -> &[String] {
        self.source.class_names()
    }

    fn label(&self, sample: u32) -> Option<u32> {
        self.source.label(sample)
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn stored_position(&self, sample: u32) -> u32 {
        self.source.stored_position(sample)
    }

    fn stored_len(&self) -> usize {
        self.source.stored_len()
    }

    fn place(&self, sample: u32) -> Option<PathBuf> {
        self.source.place(sample)
    }

    fn read(&self, sample: u32) -> Result<Sample<'_>, SampleError> {
        let picture = match self.file.index.get(sample as usize) {
            Some(place) => self.file.read(*place).map_err(|error| SampleError {
                sample,
                place: "cache".to_owned(),
                problem: error.to_string(),
            })?,
            None => reduced(&*self.source, sample, self.shorter_side)?,
        };
        Ok(Sample::Image(picture))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::InMemoryImages;

    fn source(seed: u8) -> Arc<dyn Source> {
        let pixels = (0..5 * 3 * 8 * 6).map(|at| (at * 7) as u8 ^ seed).collect();
        let labels = vec![Some(0); 5];
        Arc::new(InMemoryImages::new(
            [3, 8, 6],
            vec!["a".to_owned()],
            pixels,
            labels,
        ))
    }

    fn pixels(source: &dyn Source) -> Vec<Vec<u8>> {
        let read = |sample| match source.read(sample).unwrap() {
            Sample::Image(picture) => picture.pixels.into_owned(),
            Sample::Row(_) => panic!("a row"),
        };
        (0..source.len() as u32).map(read).collect()
    }

    /// The cached source and how often its file was written.
    fn open(spec: &CacheSpec, source: Arc<dyn Source>) -> (Arc<dyn Source>, usize) {
        let written = AtomicUsize::new(0);
        let count = |_| {
            written.fetch_add(1, Ordering::Relaxed);
        };
        (cached(source, spec, &count).unwrap(), written.into_inner())
    }

    #[test]
    fn a_cache_is_written_once_and_again_if_it_is_damaged_or_of_another_source() {
        let folder = tempfile::tempdir().unwrap();
        let spec = CacheSpec {
            folder: folder.path().to_owned(),
            shorter_side: 3,
            max_bytes: 1 << 20,
        };
        let (first, written) = open(&spec, source(0));
        assert_eq!((first.len(), written), (5, 1));
        assert_eq!(
            first.kind(),
            SampleKind::Image {
                channels: 3,
                size: Some([4, 3])
            }
        );
        let (again, written) = open(&spec, source(0));
        assert_eq!((pixels(&*again), written), (pixels(&*first), 0));
        let (other, written) = open(&spec, source(1));
        assert!(written == 1 && other.fingerprint() != first.fingerprint());

        let path = folder.path().join(format!("{}.cache", first.fingerprint()));
        let whole = fs::read(&path).unwrap();
        let foreign =
            fs::read(folder.path().join(format!("{}.cache", other.fingerprint()))).unwrap();
        let mut damages = vec![whole[..whole.len() - 1].to_vec(), vec![], foreign];
        for at in (0..whole.len()).step_by(29) {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            damages.push(flipped);
        }
        for damaged in damages {
            fs::write(&path, damaged).unwrap();
            let (rebuilt, written) = open(&spec, source(0));
            assert_eq!((pixels(&*rebuilt), written), (pixels(&*first), 1));
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn what_does_not_fit_is_read_from_the_source_with_the_same_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let spec = |max_bytes| CacheSpec {
            folder: folder.path().to_owned(),
            shorter_side: 3,
            max_bytes,
        };
        let (whole, _) = open(&spec(1 << 20), source(0));
        let expected = pixels(&*whole);
        let path = folder.path().join(format!("{}.cache", whole.fingerprint()));
        // Two samples of 36 bytes, and their places.
        for max_bytes in [HEADER, HEADER + 2 * (36 + 20), HEADER + 2 * (36 + 20) + 1] {
            fs::remove_file(&path).unwrap();
            let (part, _) = open(&spec(max_bytes), source(0));
            assert!(fs::metadata(&path).unwrap().len() <= max_bytes);
            assert_eq!(pixels(&*part), expected);
            assert_eq!(part.fingerprint(), whole.fingerprint());
        }
    }

    #[test]
    fn small_pictures_keep_their_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let spec = CacheSpec {
            folder: folder.path().to_owned(),
            shorter_side: 6,
            max_bytes: 1 << 20,
        };
        let (cached, _) = open(&spec, source(0));
        assert_eq!(pixels(&*cached), pixels(&*source(0)));
        assert_eq!(reduced_size([500, 375], 256), [341, 256]);
        assert_eq!(reduced_size([10, 4000], 5), [5, 2000]);
    }
}
