//! IDX files, the format of MNIST and Fashion-MNIST (<http://yann.lecun.com/exdb/mnist/>).
//!
//! A file begins with two zero bytes, a type (8 = unsigned byte) and the number of dimensions. The
//! dimensions follow as big-endian u32, then the values, row-major.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{DataSpec, DatasetError, InMemoryImages, Opened, Split, gzip, split_files::is_there};

/// Type byte of unsigned bytes.
const UNSIGNED_BYTE: u8 = 8;
/// Bytes that a file may hold once inflated.
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
) -> Result<InMemoryImages, DatasetError> {
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
            label: labels.values[index].into(),
            classes,
        });
    }
    let labels = labels.values.into_iter().map(|label| Some(label.into()));
    Ok(InMemoryImages::new(
        [1, height, width],
        class_names.to_vec(),
        images.values,
        labels.collect(),
    ))
}

/// Opens the folder `spec.path`. Classes are the numbers from 0 to the largest label unless they are named.
///
/// # Errors
/// See [`DatasetError`]; each names the file.
pub(crate) fn open(spec: &DataSpec) -> Result<Opened, DatasetError> {
    let class_names = match &spec.class_names {
        Some(names) => names.clone(),
        None => {
            let labels = IdxFile::<1>::read(&spec.path, "train-labels-idx1-ubyte")?;
            let largest = labels.values.iter().max().copied().unwrap_or(0);
            (0..=largest).map(|class| class.to_string()).collect()
        }
    };
    let has_test = ["", ".gz"].iter().any(|suffix| {
        let name = format!("t10k-images-idx3-ubyte{suffix}");
        is_there(&spec.path.join(name))
    });
    let test = has_test
        .then(|| load_idx(&spec.path, Split::Test, &class_names))
        .transpose()?;
    let train = load_idx(&spec.path, Split::Train, &class_names)?;
    if let Some(test) = &test
        && test.shape() != train.shape()
    {
        let problem = format!(
            "the images of `t10k-images-idx3-ubyte` have the shape {:?}, those of \
             `train-images-idx3-ubyte` {:?}",
            test.shape(),
            train.shape()
        );
        return Err(DatasetError::layout(&spec.path, problem));
    }
    Ok(Opened {
        train: Arc::new(train),
        validation: None,
        test: test.map(|test| Arc::new(test) as _),
        unreadable: Vec::new(),
    })
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
        let path = if is_there(&plain) || !is_there(&zipped) {
            plain
        } else {
            zipped
        };
        let mut bytes = read(&path).map_err(|error| DatasetError::Unreadable {
            file: path.clone(),
            reason: error.to_string(),
        })?;
        let (dimensions, header) = match parse_header(&bytes) {
            Ok(header) => header,
            Err(problem) => {
                return Err(DatasetError::Malformed {
                    file: path,
                    format: "IDX",
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

/// The bytes of a file, inflated where it is a gzip file.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(|error| match fs::read_link(path) {
        Ok(target) => {
            let text = format!("it is a link to {}: {error}", target.display());
            io::Error::new(error.kind(), text)
        }
        Err(_) => error,
    })?;
    if !metadata.is_file() {
        // Reading a named pipe could wait for ever.
        let text = "it is not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let bytes = fs::read(path)?;
    if gzip::is_gzip(&bytes) {
        gzip::inflate(&bytes, LARGEST_FILE)
    } else {
        Ok(bytes)
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
    use std::{io::Write, os::unix::fs::symlink};

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;
    use crate::Source;

    const IMAGES: [u8; 24] = [
        0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8,
    ];
    const LABELS: [u8; 10] = [0, 0, 8, 1, 0, 0, 0, 2, 0, 1];

    fn names() -> Vec<String> {
        vec!["shirt".into(), "shoe".into()]
    }

    fn load(images: &[u8], labels: &[u8]) -> Result<InMemoryImages, String> {
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
            (data.len(), data.shape(), data.class_names().len()),
            (2, [1, 2, 2], 2)
        );
        assert_eq!(data.image(1), [5, 6, 7, 8]);
        assert_eq!([0, 1].map(|sample| data.label(sample)), [Some(0), Some(1)]);
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_inflated_whole() {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("t10k-images-idx3-ubyte.gz");
        let labels = folder.path().join("t10k-labels-idx1-ubyte.gz");
        fs_write(labels, &gzip(&LABELS));
        let one = gzip(&IMAGES);
        let several = [gzip(&IMAGES[..9]), gzip(&[]), gzip(&IMAGES[9..])].concat();
        for file in [&one, &several] {
            fs_write(images.clone(), file);
            let data = load_idx(folder.path(), Split::Test, &names()).unwrap();
            assert_eq!(
                [data.image(0), data.image(1)].concat(),
                [1, 2, 3, 4, 5, 6, 7, 8]
            );
        }
        let followed = [&one[..], b"garbage"].concat();
        for (file, problem) in [
            (&followed[..], "7 bytes that are no gzip member"),
            (&one[..one.len() - 1], ""),
            (&gzip(&IMAGES[..20]), "truncated?"),
        ] {
            fs_write(images.clone(), file);
            let error = load_idx(folder.path(), Split::Test, &names()).unwrap_err();
            let error = error.to_string();
            let named = error.contains("t10k-images-idx3-ubyte.gz");
            assert!(named && error.contains(problem), "{error}");
        }
    }

    #[test]
    fn links_are_followed_and_what_leads_nowhere_or_is_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs_write(path("elsewhere"), &IMAGES);
        fs_write(path("train-labels-idx1-ubyte"), &LABELS);
        // What must not be taken in place of a link that leads nowhere.
        fs_write(path("train-images-idx3-ubyte.gz"), &gzip(&IMAGES));
        let images = path("train-images-idx3-ubyte");
        let load = || load_idx(folder.path(), Split::Train, &names());
        symlink(path("elsewhere"), &images).unwrap();
        assert_eq!(load().unwrap().len(), 2);
        for (target, problem) in [
            (path("nowhere"), "nowhere: No such file"),
            (images.clone(), "Too many levels"),
            (folder.path().to_owned(), "not a regular file"),
        ] {
            fs::remove_file(&images).unwrap();
            symlink(target, &images).unwrap();
            let error = load().unwrap_err().to_string();
            assert!(error.contains("train-images-idx3-ubyte"), "{error}");
            assert!(error.contains(problem), "{error}");
        }
    }

    proptest! {
        #![proptest_config(test_support::damage::cases(256))]

        #[test]
        fn a_file_is_read_only_where_it_holds_what_its_header_announces(
            shape in prop::collection::vec(0_u32..5, 3),
            magic in prop::sample::select(vec![[0, 0, 8, 3], [0, 0, 8, 1], [0, 0, 13, 3]]),
            values in prop::collection::vec(any::<u8>(), 0..70),
        ) {
            let sizes = shape.iter().flat_map(|size| size.to_be_bytes());
            let file: Vec<u8> = magic.into_iter().chain(sizes).chain(values).collect();
            let announced = shape.iter().product::<u32>() as usize;
            for length in 0..=file.len() {
                let is_right = magic == [0, 0, 8, 3] && announced > 0 && length == 16 + announced;
                let parsed = parse_header::<3>(&file[..length]);
                prop_assert_eq!(parsed.is_ok(), is_right);
                // With one dimension the other sizes are values.
                let _ = parse_header::<1>(&file[..length]);
            }
        }
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
