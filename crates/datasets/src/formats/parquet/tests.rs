use std::fs;

use proptest::prelude::*;
use test_support::damage::{cases, foreign, in_modest_memory};

use super::*;
use crate::{Sample, SampleKind, open};

/// Written with pyarrow 26 and pandas 3 by scripts/golden/archives.py.
const PICTURES: &[u8] = include_bytes!("fixtures/pictures.parquet");
const NUMBERS: &[u8] = include_bytes!("fixtures/numbers.parquet");
const MISSING: &[u8] = include_bytes!("fixtures/missing.parquet");

fn opened(files: &[(&str, &[u8])], label_column: Option<&str>) -> Result<Opened, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let mut spec = DataSpec::new(folder.path());
    spec.shares.validation = 0.0;
    spec.shares.test = 0.0;
    spec.label_column = label_column.map(str::to_owned);
    open(&spec, &|_| ()).map_err(|error| error.to_string())
}

/// Label and first values of each sample.
fn samples(source: &dyn Source) -> Vec<(Option<u32>, Vec<f32>)> {
    let values = |sample: u32| match source.read(sample).unwrap() {
        Sample::Image(picture) => vec![f32::from(picture.pixels[0])],
        Sample::Row(row) => row.into_owned(),
    };
    (0..source.len() as u32)
        .map(|sample| (source.label(sample), values(sample)))
        .collect()
}

#[test]
fn pictures_are_read_with_the_names_of_their_classes() {
    let shards = [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ];
    let files = [
        (shards[0], PICTURES),
        (shards[1], PICTURES),
        ("test-0.parquet", PICTURES),
    ];
    let data = opened(&files, None).unwrap();
    assert_eq!(data.train.class_names(), ["cat", "dog"]);
    let one = [
        (Some(1), vec![10.0]),
        (Some(0), vec![20.0]),
        (Some(1), vec![30.0]),
    ];
    assert_eq!(samples(&*data.train), [one.clone(), one.clone()].concat());
    assert_eq!(samples(&*data.test.unwrap()), one);
    let size = Some([2, 3]);
    assert_eq!(data.train.kind(), SampleKind::Image { channels: 3, size });
}

#[test]
fn tables_of_numbers_are_read() {
    let data = opened(&[("train.parquet", NUMBERS)], None).unwrap().train;
    assert_eq!(data.class_names(), ["setosa", "virginica"]);
    assert_eq!(
        samples(&*data),
        [
            (Some(0), vec![0.5, 1.0, 7.0]),
            (Some(1), vec![-1.25, 2.0, 200.0]),
            (Some(0), vec![3.0, 3.0, 9.0]),
        ]
    );
}

#[test]
fn what_cannot_be_used_is_named_with_row_and_column() {
    for (files, label, problem) in [
        (
            vec![("train.parquet", MISSING)],
            None,
            "column `a`: row 1: the value is missing",
        ),
        (
            vec![("train.parquet", NUMBERS)],
            Some("b"),
            "column `species`: values of type",
        ),
        (
            vec![("train.parquet", NUMBERS)],
            Some("x"),
            "no column `x`; its columns are a, b, c",
        ),
        (
            vec![("train.parquet", PICTURES)],
            Some("x"),
            "no column `x`",
        ),
        (
            vec![("train.parquet", &NUMBERS[..500])],
            None,
            "train.parquet is not a usable Parquet",
        ),
        (
            vec![("train.parquet", NUMBERS), ("test.parquet", PICTURES)],
            None,
            "test.parquet",
        ),
    ] {
        let error = opened(&files, label).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn foreign_tables_are_samples_or_an_error(
        table in foreign(vec![PICTURES.to_vec(), NUMBERS.to_vec(), MISSING.to_vec()]),
    ) {
        if let Ok(data) = in_modest_memory(|| opened(&[("train.parquet", &table)], None)) {
            prop_assert!(!samples(&*data.train).is_empty());
        }
    }
}
