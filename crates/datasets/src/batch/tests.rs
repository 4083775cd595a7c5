use super::*;
use crate::{InMemoryImages, InMemoryRows, Interpolation, Layout, Picture};

/// Crop and flip.
fn augmentation() -> Augmentation {
    Augmentation {
        pad: 2,
        horizontal_flip: true,
        ..Augmentation::default()
    }
}

fn for_student_and_teacher(student: [usize; 3], teacher: [usize; 3]) -> Targets {
    Targets::new(&student, Some(Target::student(&teacher)))
}

/// Every change that there is, as a configuration has it.
fn everything() -> Augmentation {
    let json = serde_json::json!({
        "pad": 1,
        "horizontal_flip": true,
        "random_resized_crop": {"scale": [0.5, 1.0]},
        "random_affine": {"degrees": 20.0, "translate": [0.2, 0.1]},
        "rand_augment": {"num_ops": 2, "magnitude": 9},
        "color_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
        "random_erasing": {"value": "noise"},
        "mixup": {"alpha": 1.0},
        "cutmix": {"alpha": 1.0},
    });
    serde_json::from_value(json).unwrap()
}

fn images(side: usize) -> InMemoryImages {
    let pixels = (0..=255).cycle().take(4 * side * side).collect();
    let labels = vec![Some(0), Some(0), None, Some(0)];
    InMemoryImages::new([1, side, side], vec!["a".into()], pixels, labels)
}

fn pixels(values: &Values) -> &[u8] {
    match values {
        Values::Uint8(pixels) => pixels,
        Values::Fp32(_) => panic!("not pixels"),
    }
}

#[test]
fn a_sample_looks_the_same_in_any_batch_of_a_view_and_different_in_another_view() {
    let data = images(8);
    let of_epoch = |epoch| View::OfEpoch {
        seed: 1,
        phase: 0,
        epoch,
    };
    let fixed = |seed, view| View::Fixed { seed, view };
    let views = [
        View::Plain,
        of_epoch(0),
        of_epoch(1),
        fixed(1, 0),
        fixed(1, 1),
        fixed(2, 0),
    ];
    for augmentation in [augmentation(), everything()] {
        let mut seen = Vec::new();
        for view in views {
            let targets = for_student_and_teacher([1, 8, 8], [3, 12, 12]);
            let assembler = BatchAssembler::new(&data, augmentation, view, targets);
            let both = assembler.assemble(&[3, 1]).unwrap();
            let one = assembler.assemble(&[1]).unwrap();
            assert_eq!(pixels(&both.values)[64..], *pixels(&one.values));
            let teacher = |batch: &Batch| pixels(batch.teacher_values.as_ref().unwrap()).to_vec();
            assert_eq!(teacher(&both)[3 * 144..], teacher(&one));
            assert_eq!(
                one.mixed.is_some(),
                augmentation.mixes() && view != View::Plain
            );
            assert!(!seen.contains(&both.values), "{view:?}");
            seen.push(both.values);
        }
        let plain = read_plain(&data, &[3, 1], &[1, 8, 8]).unwrap();
        assert_eq!(plain, seen[0]);
        assert_eq!(pixels(&plain), [data.image(3), data.image(1)].concat());
    }
}

#[test]
fn what_the_teacher_sees_is_the_same_without_the_student() {
    let data = images(8);
    let view = |epoch| View::OfEpoch {
        seed: 1,
        phase: 0,
        epoch,
    };
    for augmentation in [augmentation(), everything()] {
        for targets in [
            for_student_and_teacher([1, 8, 8], [3, 12, 12]),
            for_student_and_teacher([1, 8, 8], [1, 8, 8]),
            Targets::student(&[3, 6, 5]),
        ] {
            let assembler = BatchAssembler::new(&data, augmentation, view(0), targets.clone());
            let both = assembler.assemble(&[3, 1, 1, 0]).unwrap();
            let expected = both.teacher_values.unwrap_or(both.values);
            let alone = assembler.assemble_for_teacher(&[3, 1, 1, 0]).unwrap();
            assert_eq!(alone, expected);
            let other = BatchAssembler::new(&data, augmentation, view(1), targets);
            assert_ne!(other.assemble_for_teacher(&[3, 1, 1, 0]).unwrap(), alone);
        }
    }
}

#[test]
fn rows_are_the_same_for_the_teacher_alone() {
    let rows = (0_u8..8).map(f32::from).collect();
    let data = InMemoryRows::new(2, Vec::new(), rows, vec![None; 4]);
    let augmentation = Augmentation {
        mixup: Some(crate::Mixup { alpha: 1.0 }),
        ..Augmentation::default()
    };
    let view = View::Fixed { seed: 1, view: 0 };
    let assembler = BatchAssembler::new(&data, augmentation, view, Targets::student(&[2]));
    let alone = assembler.assemble_for_teacher(&[3, 0]).unwrap();
    assert_eq!(alone, assembler.assemble(&[3, 0]).unwrap().values);
    assert_ne!(alone, assembler.assemble_for_teacher(&[3, 1]).unwrap());
}

/// Half white, half black: what a view mixes is seen in the pixels.
fn black_and_white(labels: [Option<u32>; 2]) -> InMemoryImages {
    let pixels = [[0; 64], [255; 64]].concat();
    InMemoryImages::new(
        [1, 8, 8],
        vec!["a".into(), "b".into()],
        pixels,
        labels.into(),
    )
}

#[test]
fn teacher_and_student_see_the_mixed_picture_and_the_labels_weigh_as_much() {
    let data = black_and_white([Some(0), Some(1)]);
    for (key, share) in [("mixup", 0.02), ("cutmix", 0.0)] {
        let json = serde_json::json!({ key: {"alpha": 1.0} });
        let augmentation: Augmentation = serde_json::from_value(json).unwrap();
        let (mut mixed_pictures, mut swapped) = (0, 0);
        for seed in 0..100 {
            let targets = for_student_and_teacher([1, 8, 8], [3, 16, 16]);
            let view = View::Fixed { seed, view: 3 };
            let assembler = BatchAssembler::new(&data, augmentation, view, targets);
            let batch = assembler.assemble(&[0, 1]).unwrap();
            let mixed = batch.mixed.as_ref().unwrap();
            let student = pixels(&batch.values).chunks(64);
            let teacher = pixels(batch.teacher_values.as_ref().unwrap()).chunks(3 * 256);
            for (at, (student, teacher)) in student.zip(teacher).enumerate() {
                // The share of white, in the pixels and in the labels.
                let white = student
                    .iter()
                    .map(|value| f32::from(*value) / 255.0)
                    .sum::<f32>()
                    / 64.0;
                let (first, other) = (batch.labels[at], mixed.labels[at]);
                // The samples are labelled by their positions.
                assert_eq!(i64::from(batch.prevailing[at]), first);
                let weight = mixed.weights[at];
                assert!((0.0..=0.5).contains(&weight));
                let labelled = first as f32 * (1.0 - weight) + other as f32 * weight;
                assert!(
                    (white - labelled).abs() <= share,
                    "{key} {white} {labelled}"
                );
                // The teacher sees the same at twice the size.
                for (pixel, value) in teacher.iter().enumerate() {
                    let (row, column) = (pixel % 256 / 16, pixel % 16);
                    assert_eq!(*value, student[row / 2 * 8 + column / 2]);
                }
                mixed_pictures += usize::from(white > 0.05 && white < 0.95);
                swapped += usize::from(first != at as i64);
            }
        }
        // Half of the samples get the other one as their partner. Boxes are cut off at the border, so few are large.
        assert!(
            mixed_pictures > 30 && swapped > 5,
            "{key}: {mixed_pictures}, {swapped}"
        );
    }
}

#[test]
fn unlabelled_samples_are_mixed_with_the_ignored_label() {
    let data = black_and_white([None, None]);
    let view = View::Fixed { seed: 1, view: 0 };
    let targets = Targets::student(&[1, 8, 8]);
    let batch = BatchAssembler::new(&data, everything(), view, targets)
        .assemble(&[0, 1])
        .unwrap();
    assert_eq!(batch.labels, [IGNORED_LABEL; 2]);
    assert_eq!(batch.mixed.unwrap().labels, [IGNORED_LABEL; 2]);
}

/// The bits of the views decide which recordings fit a run.
#[test]
fn the_views_of_a_version_are_pinned() {
    let data = images(8);
    let view = View::Fixed { seed: 5, view: 0 };
    let assembler = BatchAssembler::new(&data, augmentation(), view, Targets::student(&[1, 8, 8]));
    let batch = assembler.assemble(&[0, 1, 2, 3]).unwrap();
    let middles: Vec<u8> = pixels(&batch.values)
        .iter()
        .skip(27)
        .step_by(64)
        .copied()
        .collect();
    assert_eq!(middles, PINNED_MIDDLES);
}

/// Row 3, column 3 of each image.
const PINNED_MIDDLES: [u8; 4] = [27, 102, 137, 212];

/// Teacher and student see the same part: a flat image with one bright quarter stays recognizable.
#[test]
fn the_teacher_sees_the_students_part_at_its_own_size() {
    let mut image = vec![0_u8; 64 * 64];
    for row in 0..32 {
        image[row * 64..row * 64 + 32].fill(200);
    }
    let data = InMemoryImages::new([1, 64, 64], vec!["a".into()], image, vec![Some(0)]);
    let targets = for_student_and_teacher([1, 16, 16], [3, 32, 32]);
    for seed in 0..20 {
        let view = View::Fixed { seed, view: 0 };
        let assembler = BatchAssembler::new(&data, augmentation(), view, targets.clone());
        let batch = assembler.assemble(&[0]).unwrap();
        let (student, teacher) = (
            pixels(&batch.values),
            batch.teacher_values.as_ref().unwrap(),
        );
        let teacher = pixels(teacher);
        assert_eq!(teacher.len(), 3 * 32 * 32);
        assert_eq!(teacher[..1024], teacher[1024..2048]);
        // Where the student's pixel is purely bright or dark, so are the four of the teacher.
        for (at, value) in student
            .iter()
            .enumerate()
            .filter(|(_, value)| matches!(value, 0 | 200))
        {
            let (row, column) = (at / 16 * 2, at % 16 * 2);
            assert_eq!(teacher[row * 32 + column], *value, "seed {seed}, {at}");
        }
    }
}

#[test]
fn a_teacher_with_another_interpolation_has_values_of_its_own() {
    let data = images(32);
    let of = |interpolation| Target {
        shape: vec![1, 12, 12],
        interpolation,
    };
    let assembled = |teacher| {
        let targets = Targets::new(&[1, 12, 12], Some(of(teacher)));
        let view = View::Fixed { seed: 3, view: 1 };
        let assembler = BatchAssembler::new(&data, augmentation(), view, targets);
        assembler.assemble(&[0, 1]).unwrap()
    };
    let same = assembled(Interpolation::Bilinear);
    assert_eq!(same.teacher_values, None);
    let other = assembled(Interpolation::Bicubic);
    assert_eq!(other.values, same.values);
    assert_ne!(other.teacher_values.unwrap(), other.values);
    let read = |interpolation| read_plain_for(&data, &[2], of(interpolation)).unwrap();
    let plain = read_plain(&data, &[2], &[1, 12, 12]).unwrap();
    assert_eq!(read(Interpolation::Bilinear), plain);
    assert_ne!(read(Interpolation::Bicubic), plain);
}

/// Rows of numbers, and a file that disappeared.
#[derive(Debug)]
struct Rows;

impl Source for Rows {
    fn len(&self) -> usize {
        3
    }
    fn kind(&self) -> SampleKind {
        SampleKind::Row { values: 2 }
    }
    fn class_names(&self) -> &[String] {
        &[]
    }
    fn label(&self, _: u32) -> Option<u32> {
        None
    }
    fn fingerprint(&self) -> &str {
        "rows"
    }
    fn read(&self, sample: u32) -> Result<Sample<'_>, SampleError> {
        if sample == 2 {
            return Err(SampleError {
                sample,
                place: "rows.csv, line 3".into(),
                problem: "the file changed".into(),
            });
        }
        Ok(Sample::Row(vec![sample as f32, 0.5].into()))
    }
}

#[test]
fn rows_are_read_and_unlabelled_samples_get_the_ignored_label() {
    let assemble = |samples: &[u32]| {
        let view = View::Fixed { seed: 0, view: 0 };
        let targets = Targets::student(&[2]);
        BatchAssembler::new(&Rows, augmentation(), view, targets).assemble(samples)
    };
    let batch = assemble(&[1, 0]).unwrap();
    assert_eq!(batch.values, Values::Fp32(vec![1.0, 0.5, 0.0, 0.5]));
    assert_eq!(batch.labels, [IGNORED_LABEL; 2]);
    assert_eq!(batch.values.into_bytes()[..4], 1.0_f32.to_le_bytes());
    let error = assemble(&[0, 2]).unwrap_err().to_string();
    assert_eq!(error, "sample 2 (rows.csv, line 3): the file changed");
}

#[test]
fn rows_are_mixed_with_one_weight_for_all_values() {
    /// Rows of their position, of two values.
    #[derive(Debug)]
    struct Numbers;

    impl Source for Numbers {
        fn len(&self) -> usize {
            100
        }
        fn kind(&self) -> SampleKind {
            SampleKind::Row { values: 2 }
        }
        fn class_names(&self) -> &[String] {
            &[]
        }
        fn label(&self, sample: u32) -> Option<u32> {
            Some(sample)
        }
        fn fingerprint(&self) -> &str {
            "numbers"
        }
        fn read(&self, sample: u32) -> Result<Sample<'_>, SampleError> {
            Ok(Sample::Row(vec![sample as f32, 1.0].into()))
        }
    }

    let json = serde_json::json!({"mixup": {"alpha": 1.0}});
    let augmentation = serde_json::from_value(json).unwrap();
    let view = View::Fixed { seed: 1, view: 0 };
    let samples: Vec<u32> = (0..100).collect();
    let batch = BatchAssembler::new(&Numbers, augmentation, view, Targets::student(&[2]))
        .assemble(&samples)
        .unwrap();
    let (Values::Fp32(rows), Some(mixed)) = (&batch.values, &batch.mixed) else {
        panic!("rows are f32 and mixed");
    };
    for (at, row) in rows.chunks(2).enumerate() {
        let weight = mixed.weights[at];
        let labelled = batch.labels[at] as f32 * (1.0 - weight) + mixed.labels[at] as f32 * weight;
        assert!((row[0] - labelled).abs() < 1e-3 && (row[1] - 1.0).abs() < 1e-6);
    }
}

#[test]
fn targets_fit_images_or_rows() {
    let image = |channels| SampleKind::Image {
        channels,
        size: None,
    };
    for (kind, shape, expected) in [
        (image(3), &[1, 28, 28][..], true),
        (image(1), &[3, 224, 224], true),
        (image(4), &[3, 8, 8], false),
        (image(3), &[2, 8, 8], false),
        (image(3), &[3, 0, 8], false),
        (image(3), &[192], false),
        (SampleKind::Row { values: 30 }, &[30], true),
        (SampleKind::Row { values: 30 }, &[31], false),
        (SampleKind::Row { values: 30 }, &[1, 5, 6], false),
    ] {
        assert_eq!(fits(kind, shape), expected, "{kind:?} {shape:?}");
    }
    // Decoders give interleaved pixels.
    let picture = Picture {
        pixels: vec![0; 3].into(),
        layout: Layout::Interleaved,
        shape: [3, 1, 1],
    };
    assert_eq!((picture.channels(), picture.size()), (3, [1, 1]));
}
