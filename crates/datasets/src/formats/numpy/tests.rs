use std::fs;

use proptest::prelude::*;
use test_support::damage::{cases, foreign, in_modest_memory};

use super::*;
use crate::{Sample, SampleKind, Shares, open};

/// Written by scripts/golden/arrays.py.
const IMAGES: &[u8] = include_bytes!("fixtures/images.npz");
const ROWS: &[u8] = include_bytes!("fixtures/rows.npz");

fn opened(files: &[(&str, &[u8])]) -> Result<Opened, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let mut spec = DataSpec::new(folder.path());
    spec.shares = Shares {
        validation: 0.0,
        test: 0.0,
        seed: 0,
    };
    open(&spec, &|_| ()).map_err(|error| error.to_string())
}

fn values(source: &dyn Source, sample: u32) -> Vec<f32> {
    match source.read(sample).unwrap() {
        Sample::Row(row) => row.into_owned(),
        Sample::Image(picture) => picture
            .pixels
            .iter()
            .map(|value| f32::from(*value))
            .collect(),
    }
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (text.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], text.as_bytes(), data].concat()
}

#[test]
fn numbered_parts_are_read_in_order_as_unlabelled_samples() {
    let part = |shape: &str, data: &[u8]| npy("|u1", shape, data);
    let (second, tenth) = (part("(1, 1, 2)", &[1, 2]), part("(2, 1, 2)", &[3, 4, 5, 6]));
    let data = opened(&[("x-10.npy", &tenth), ("x-2.npy", &second)]).unwrap();
    let found: Vec<_> = (0..3).map(|at| values(&*data.train, at)).collect();
    assert_eq!(found, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    assert_eq!((data.train.len(), data.train.label(2)), (3, None));
    let rows = npy("<f4", "(1, 2)", &[0; 8]);
    let other_type = npy("|u1", "(1, 2)", &[0; 2]);
    for (parts, named) in [
        ([("x-1.npy", &second), ("x-2.npy", &rows)], "x-2.npy"),
        ([("x-1.npy", &other_type), ("x-2.npy", &rows)], "x-2.npy"),
        ([("x-1.npy", &rows), ("x-a.npy", &rows)], ""),
    ] {
        let parts = parts.map(|(name, content)| (name, content.as_slice()));
        match opened(&parts) {
            Ok(data) => assert!(named.is_empty() && data.train.len() == 1, "{named}"),
            Err(error) => assert!(!named.is_empty() && error.contains(named), "{error}"),
        }
    }
}

#[test]
fn archives_of_images_and_rows_are_read() {
    let data = opened(&[("a.npz", IMAGES)]).unwrap();
    assert_eq!(
        data.train.kind(),
        SampleKind::Image {
            channels: 3,
            size: Some([3, 2])
        }
    );
    // The red, green and blue planes of the values 18 to 35, interleaved.
    let planes = [18.0, 21.0, 24.0, 27.0, 30.0, 33.0, 19.0, 22.0];
    assert_eq!(values(&*data.train, 1)[..8], planes);
    assert_eq!(
        (data.train.label(0), data.train.label(1)),
        (Some(2), Some(0))
    );
    assert_eq!(data.train.class_names(), ["0", "1", "2"]);
    assert_eq!(data.validation.unwrap().label(0), Some(1));
    assert_eq!(data.test.unwrap().label(0), Some(2));

    let data = opened(&[("a.npz", ROWS)]).unwrap();
    assert_eq!(values(&*data.train, 0), [0.5, -1.5]);
    assert_eq!(values(&*data.test.unwrap(), 0), [7.0, 8.0]);
    assert_eq!(data.train.label(0), Some(1));
}

#[test]
fn folders_of_arrays_are_read_and_may_be_unlabelled() {
    let images = npy("|u1", "(2, 1, 2)", &[1, 2, 3, 4]);
    let data = opened(&[("X.npy", &images), ("y.npy", &npy("|i1", "(2,)", &[1, 0]))]).unwrap();
    assert_eq!(
        (values(&*data.train, 1), data.train.label(0)),
        (vec![3.0, 4.0], Some(1))
    );
    let data = opened(&[("images.npy", &images)]).unwrap();
    assert_eq!(
        (data.train.label(0), data.train.class_names().len()),
        (None, 0)
    );
    let planar = npy("|u1", "(1, 3, 1, 2)", &[1, 2, 3, 4, 5, 6]);
    let data = opened(&[("x.npy", &planar)]).unwrap();
    assert_eq!(values(&*data.train, 0), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn arrays_that_do_not_fit_are_named() {
    let images = npy("|u1", "(2, 1, 2)", &[1, 2, 3, 4]);
    let labels = |data: &[u8]| npy("|i1", &format!("({},)", data.len()), data);
    for (files, problem) in [
        (
            vec![("x.npy", &images), ("y.npy", &labels(&[1]))],
            "2 images but",
        ),
        (
            vec![("x.npy", &images), ("y.npy", &labels(&[1, 255]))],
            "label -1",
        ),
        (
            vec![("x.npy", &images), ("y.npy", &images)],
            "y.npy is not a usable NumPy file: labels of",
        ),
        (vec![("z.npy", &images)], "it has z"),
        (
            vec![("x.npy", &npy("<f4", "(1, 1, 1)", &[0; 4]))],
            "shape [1, 1, 1] is neither",
        ),
        (
            vec![("x.npy", &npy("<f4", "(1, 1)", &[0, 0, 0xc0, 0x7f]))],
            "row 0, column 0",
        ),
        (vec![("x.npy", &npy("|u1", "(0, 1)", &[]))], "holds nothing"),
        (
            vec![("x.npz", &b"PK".to_vec())],
            "x.npz is not a usable NPZ file",
        ),
    ] {
        let files: Vec<_> = files
            .iter()
            .map(|(name, content)| (*name, &content[..]))
            .collect();
        let error = opened(&files).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
    let test = [
        ("x_train.npy", &images),
        ("y_train.npy", &labels(&[0, 1])),
        ("x_test.npy", &images),
        ("y_test.npy", &labels(&[2, 0])),
    ];
    let files: Vec<_> = test
        .iter()
        .map(|(name, content)| (*name, &content[..]))
        .collect();
    assert!(
        opened(&files)
            .unwrap_err()
            .contains("the label 2 of sample 0 is none of the 2 classes")
    );
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn foreign_archives_are_samples_or_an_error(
        archive in foreign(vec![IMAGES.to_vec(), ROWS.to_vec()]),
    ) {
        if let Ok(data) = in_modest_memory(|| opened(&[("a.npz", &archive)])) {
            for sample in 0..data.train.len() as u32 {
                prop_assert!(values(&*data.train, sample).iter().all(|value| value.is_finite()));
            }
        }
    }
}
