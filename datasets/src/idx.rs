//! IDX files, as MNIST and Fashion-MNIST come in (<http://yann.lecun.com/exdb/mnist/>).
//!
//! A file begins with two zero bytes, a type (8 = unsigned byte) and a number of dimensions, then
//! the dimensions as big-endian u32, then the values, row-major.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;

use crate::{Dataset, DatasetError, Split};

/// Type byte of unsigned bytes.
const UNSIGNED_BYTE: u8 = 8;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// What a file may hold once inflated.
const LARGEST_FILE: u64 = 4 << 30;

/// Loads `{train,t10k}-images-idx3-ubyte` and `...-labels-idx1-ubyte` of `folder`, each plain or
/// with `.gz`. `class_names` are in label order.
///
/// # Errors
/// See [`DatasetError`]; each names the file.
pub fn load_idx(
    folder: &Path,
    split: Split,
    class_names: &[String],
) -> Result<Dataset, DatasetError> {
    let prefix = match split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let images = IdxFile::<3>::read(folder, &format!("{prefix}-images-idx3-ubyte"))?;
    let labels = IdxFile::<1>::read(folder, &format!("{prefix}-labels-idx1-ubyte"))?;
    let ([count, height, width], [labelled]) = (images.dimensions, labels.dimensions);
    if count != labelled {
        return Err(DatasetError::CountMismatch {
            images_file: images.path,
            images: count,
            labels_file: labels.path,
            labels: labelled,
        });
    }
    let classes = class_names.len();
    let out_of_range = |label: &u8| usize::from(*label) >= classes;
    if let Some(index) = labels.values.iter().position(out_of_range) {
        return Err(DatasetError::LabelOutOfRange {
            file: labels.path,
            index,
            label: labels.values[index],
            classes,
        });
    }
    Ok(Dataset::new(
        [1, height, width],
        class_names.to_vec(),
        images.values,
        labels.values,
    ))
}

/// A file of bytes with `RANK` dimensions.
struct IdxFile<const RANK: usize> {
    path: PathBuf,
    dimensions: [usize; RANK],
    values: Vec<u8>,
}

impl<const RANK: usize> IdxFile<RANK> {
    fn read(folder: &Path, name: &str) -> Result<Self, DatasetError> {
        let plain = folder.join(name);
        let zipped = folder.join(format!("{name}.gz"));
        let path = if plain.exists() || !zipped.exists() {
            plain
        } else {
            zipped
        };
        let unreadable = |error: std::io::Error| DatasetError::Unreadable {
            file: path.clone(),
            reason: error.to_string(),
        };
        let mut bytes = fs::read(&path).map_err(unreadable)?;
        if bytes.starts_with(&GZIP_MAGIC) {
            let mut inflated = Vec::new();
            GzDecoder::new(bytes.as_slice())
                .take(LARGEST_FILE)
                .read_to_end(&mut inflated)
                .map_err(unreadable)?;
            bytes = inflated;
        }
        let (dimensions, header) = match parse_header(&bytes) {
            Ok(header) => header,
            Err(problem) => {
                return Err(DatasetError::Malformed {
                    file: path,
                    problem,
                });
            }
        };
        bytes.drain(..header);
        Ok(Self {
            path,
            dimensions,
            values: bytes,
        })
    }
}

/// Dimensions and length of the header, when the rest of `bytes` is exactly what they announce.
fn parse_header<const RANK: usize>(bytes: &[u8]) -> Result<([usize; RANK], usize), String> {
    let header = 4 + 4 * RANK;
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(format!("{} bytes are too few for a header", bytes.len()));
    };
    let expected = [0, 0, UNSIGNED_BYTE, RANK as u8];
    if *magic != expected {
        return Err(format!(
            "it begins with {magic:02x?}, expected {expected:02x?} \
             (unsigned bytes, {RANK} dimensions)"
        ));
    }
    if bytes.len() < header {
        return Err(format!(
            "it ends after {} bytes, within its header of {header}",
            bytes.len()
        ));
    }
    let mut dimensions = [0; RANK];
    for (dimension, word) in dimensions.iter_mut().zip(rest.chunks_exact(4)) {
        *dimension = u32::from_be_bytes([word[0], word[1], word[2], word[3]]) as usize;
    }
    let announced = dimensions.iter().try_fold(1_usize, |product, dimension| {
        product.checked_mul(*dimension)
    });
    let found = bytes.len() - header;
    match announced {
        Some(0) => Err(format!("its dimensions {dimensions:?} hold nothing")),
        Some(announced) if announced == found => Ok((dimensions, header)),
        Some(announced) => Err(format!(
            "its dimensions {dimensions:?} announce {announced} values but {found} follow{}",
            if found < announced {
                " (truncated?)"
            } else {
                ""
            }
        )),
        None => Err(format!("its dimensions {dimensions:?} overflow")),
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const IMAGES: [u8; 24] = [
        0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8,
    ];
    const LABELS: [u8; 10] = [0, 0, 8, 1, 0, 0, 0, 2, 0, 1];

    fn names() -> Vec<String> {
        vec!["shirt".into(), "shoe".into()]
    }

    fn load(images: &[u8], labels: &[u8]) -> Result<Dataset, String> {
        let folder = tempfile::tempdir().unwrap();
        fs_write(folder.path().join("train-images-idx3-ubyte"), images);
        fs_write(folder.path().join("train-labels-idx1-ubyte"), labels);
        load_idx(folder.path(), Split::Train, &names()).map_err(|error| error.to_string())
    }

    fn fs_write(path: PathBuf, bytes: &[u8]) {
        fs::File::create(path).unwrap().write_all(bytes).unwrap();
    }

    #[test]
    fn loads_images_and_labels() {
        let data = load(&IMAGES, &LABELS).unwrap();
        assert_eq!(
            (data.len(), data.shape(), data.classes()),
            (2, [1, 2, 2], 2)
        );
        assert_eq!(data.image(1), [5, 6, 7, 8]);
        assert_eq!(data.labels(), [0, 1]);
    }

    #[test]
    fn gzip_is_inflated() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("t10k-images-idx3-ubyte.gz", &IMAGES[..]),
            ("t10k-labels-idx1-ubyte.gz", &LABELS[..]),
        ] {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(bytes).unwrap();
            fs_write(folder.path().join(name), &encoder.finish().unwrap());
        }
        let data = load_idx(folder.path(), Split::Test, &names()).unwrap();
        assert_eq!(data.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        let changed = |at: usize, value: u8| {
            let mut bytes = IMAGES;
            bytes[at] = value;
            bytes.to_vec()
        };
        let labels = |bytes: &[u8]| bytes.to_vec();
        let mut long = IMAGES.to_vec();
        long.push(0);
        let cases = [
            (
                IMAGES[..20].to_vec(),
                labels(&LABELS),
                "images",
                "truncated",
            ),
            (IMAGES[..9].to_vec(), labels(&LABELS), "images", "header"),
            (IMAGES[..2].to_vec(), labels(&LABELS), "images", "too few"),
            (long, labels(&LABELS), "images", "announce 8 values but 9"),
            (changed(2, 9), labels(&LABELS), "images", "begins with"),
            (changed(3, 1), labels(&LABELS), "images", "begins with"),
            (changed(7, 0), labels(&LABELS), "images", "hold nothing"),
            (
                [&IMAGES[..4], &[255; 12]].concat(),
                labels(&LABELS),
                "images",
                "overflow",
            ),
            (
                IMAGES.to_vec(),
                labels(&[0, 0, 8, 1, 0, 0, 0, 1, 0]),
                "labels",
                "2 images but",
            ),
            (
                IMAGES.to_vec(),
                labels(&[0, 0, 8, 1, 0, 0, 0, 2, 0, 7]),
                "labels",
                "label 7 of sample 1",
            ),
        ];
        for (images, labels, file, problem) in cases {
            let error = load(&images, &labels).unwrap_err();
            assert!(error.contains(&format!("train-{file}-idx")), "{error}");
            assert!(error.contains(problem), "{problem} is not in: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load_idx(Path::new("/nowhere"), Split::Test, &names()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("/nowhere/t10k-images-idx3-ubyte")
        );
    }
}
