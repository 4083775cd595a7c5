//! IDX files from anywhere: read whole, or refused with the file's name.

use std::{io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::Source;
use test_support::damage::{cases, damaged, foreign, in_modest_memory};

const NAMES: [&str; 2] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];

fn idx(dimensions: &[usize], values: &[u8]) -> Vec<u8> {
    let words = dimensions.iter().map(|size| (*size as u32).to_be_bytes());
    let words: Vec<u8> = words.flatten().collect();
    [&[0, 0, 8, dimensions.len() as u8], &words[..], values].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn load(folder: &Path, ending: &str, files: [&[u8]; 2]) -> Result<InMemoryImages, DatasetError> {
    for (name, bytes) in NAMES.into_iter().zip(files) {
        fs::write(folder.join(format!("{name}{ending}")), bytes).unwrap();
    }
    let classes = ["a", "b", "c"].map(str::to_owned);
    in_modest_memory(|| load_idx(folder, Split::Train, &classes))
}

fn images() -> Vec<u8> {
    let values: Vec<u8> = (0..24).collect();
    idx(&[3, 2, 4], &values)
}

fn labels() -> Vec<u8> {
    idx(&[3], &[2, 0, 1])
}

/// Loaded data is consistent, and an error names a file.
fn is_whole_or_named(loaded: Result<InMemoryImages, DatasetError>) -> Result<(), TestCaseError> {
    match loaded {
        Ok(data) => {
            let pixels: usize = data.shape().iter().product();
            prop_assert!((0..data.len()).all(|index| data.image(index).len() == pixels));
            prop_assert!((0..data.len()).all(|index| data.label(index as u32) < Some(3)));
        }
        Err(error) => prop_assert!(error.to_string().contains("-ubyte"), "{}", error),
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn what_is_written_is_what_is_read(
        (labels, pixels, [height, width]) in ([1..5usize, 1..5], 1..9usize).prop_flat_map(
            |(size, count)| {
                let pixels = count * size[0] * size[1];
                (vec(0..3u8, count), vec(any::<u8>(), pixels), Just(size))
            },
        ),
        zipped in any::<bool>(),
    ) {
        let files = [idx(&[labels.len(), height, width], &pixels), idx(&[labels.len()], &labels)];
        let folder = tempfile::tempdir().unwrap();
        let data = if zipped {
            load(folder.path(), ".gz", [&gzip(&files[0]), &gzip(&files[1])])
        } else {
            load(folder.path(), "", [&files[0], &files[1]])
        };
        let data = data.unwrap();
        prop_assert_eq!(data.shape(), [1, height, width]);
        let read = (0..data.len()).filter_map(|index| data.label(index as u32));
        prop_assert!(read.eq(labels.iter().copied().map(u32::from)));
        let read: Vec<u8> = (0..data.len()).flat_map(|index| data.image(index).to_vec()).collect();
        prop_assert_eq!(read, pixels);
    }
}

proptest! {
    #![proptest_config(cases(800))]

    #[test]
    fn foreign_files_are_read_whole_or_named(
        images in foreign(vec![images(), gzip(&images())]),
        labels in prop_oneof![Just(labels()), foreign(vec![labels(), gzip(&labels())])],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let loaded = load(folder.path(), "", [&images, &labels]);
        if let Ok(data) = &loaded
            && !gzip::is_gzip(&images)
        {
            let [_, height, width] = data.shape();
            let pixels: Vec<u8> = (0..data.len()).flat_map(|index| data.image(index).to_vec()).collect();
            prop_assert_eq!(idx(&[data.len(), height, width], &pixels), images);
        }
        is_whole_or_named(loaded)?;
    }

    #[test]
    fn damaged_gzip_never_gives_other_pixels(file in damaged(vec![gzip(&images())])) {
        let folder = tempfile::tempdir().unwrap();
        let loaded = load(folder.path(), ".gz", [&file, &gzip(&labels())]);
        if let Ok(data) = &loaded {
            // Its checksum is right: nothing but its header, or what follows it, has changed.
            let pixels: Vec<u8> = (0..3).flat_map(|index| data.image(index).to_vec()).collect();
            prop_assert_eq!(pixels, (0..24).collect::<Vec<u8>>());
        }
        is_whole_or_named(loaded)?;
    }
}
