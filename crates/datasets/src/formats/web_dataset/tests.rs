use std::fs;

use proptest::prelude::*;
use test_support::damage::{cases, foreign, in_modest_memory};

use super::*;
use crate::{Sample, SampleKind, open};

/// Written with Python's `tarfile` and Pillow by scripts/golden/archives.py.
const NUMBERS: &[u8] = include_bytes!("fixtures/numbers.tar");
const NAMES: &[u8] = include_bytes!("fixtures/names.tar");

fn opened(files: &[(&str, &[u8])]) -> Result<Opened, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let mut spec = DataSpec::new(folder.path());
    spec.shares.validation = 0.0;
    spec.shares.test = 0.0;
    open(&spec, &|_| ()).map_err(|error| error.to_string())
}

/// (label, red of the first pixel) of each sample.
fn samples(source: &dyn Source) -> Vec<(Option<u32>, u8)> {
    let sample = |sample: u32| match source.read(sample).unwrap() {
        Sample::Image(picture) => (source.label(sample), picture.pixels[0]),
        Sample::Row(_) => panic!("a row"),
    };
    (0..source.len() as u32).map(sample).collect()
}

#[test]
fn shards_of_pictures_with_numbers_and_names_are_read() {
    let shards = [("train-000000.tar", NUMBERS), ("train-000001.tar", NUMBERS)];
    let data = opened(&[shards[0], shards[1], ("test-000000.tar", NUMBERS)]).unwrap();
    let one = [(Some(2), 10), (Some(0), 20), (None, 30)];
    assert_eq!(samples(&*data.train), [one, one].concat());
    assert_eq!(samples(&*data.test.unwrap()), one);
    assert_eq!(data.train.class_names(), ["0", "1", "2"]);
    let size = Some([2, 3]);
    assert_eq!(data.train.kind(), SampleKind::Image { channels: 3, size });

    let data = opened(&[("train.tar", NAMES)]).unwrap();
    assert_eq!(data.train.class_names(), ["cat", "dog"]);
    assert_eq!(samples(&*data.train), [(Some(1), 10), (Some(0), 20)]);
}

#[test]
fn archives_that_cannot_be_used_are_named() {
    for (files, problem) in [
        (vec![("train.tar", &NUMBERS[..3000])], "train.tar"),
        (vec![("train.tar", &[0; 1024][..])], "it has no picture"),
        (
            vec![("train.tar", NAMES), ("val.tar", NUMBERS)],
            "is none of the classes",
        ),
    ] {
        let error = opened(&files).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn keys_end_at_the_first_dot_of_the_name() {
    assert_eq!(
        key_and_extension("a.b/c.seg.png"),
        Some(("a.b/c", "seg.png"))
    );
    assert_eq!(key_and_extension("a/.hidden"), None);
    assert_eq!(key_and_extension("a.b/c"), None);
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn foreign_archives_are_pictures_or_an_error(
        archive in foreign(vec![NUMBERS.to_vec(), NAMES.to_vec()]),
    ) {
        if let Ok(data) = in_modest_memory(|| opened(&[("train.tar", &archive)])) {
            prop_assert!(!samples(&*data.train).is_empty());
        }
    }
}
