use datasets::View;
use proptest::{collection::vec, prelude::*};
use prost::Message as _;
use proto::teacher::v1 as wire;

use super::*;
use test_support::damage::{cases, foreign, foreign_text, in_modest_memory};

/// Encodes the first samples of a data set.
fn encode(encoding: Encoding, logits: &[f32], classes: usize) -> SoftTargets {
    let samples = (logits.len() / classes) as u32;
    let seeds = DrawSeeds::of(encoding, View::Fixed { seed: 1, view: 0 }, 0..samples);
    Encoder::default()
        .encode_with_seeds(encoding, logits, classes, &seeds)
        .unwrap()
}

fn top(k: u32, values: ValueType) -> Encoding {
    Encoding::TopK { k, values }
}

fn sampled(draws: u32, temperature: u32) -> Encoding {
    Encoding::Sampled(Sampling { draws, temperature })
}

/// log Σ exp(z / T), computed directly.
fn log_mass(logits: &[f32], temperature: f64) -> f64 {
    let exponential = |z: &f32| (f64::from(*z) / temperature).exp();
    logits.iter().map(exponential).sum::<f64>().ln()
}

prop_compose! {
    /// Generates rows of logits: (values, number of classes).
    fn rows()(classes in 1usize..40)(
        logits in (1usize..6).prop_flat_map(move |rows| vec(-30f32..30.0, rows * classes)),
        classes in Just(classes),
    ) -> (Vec<f32>, usize) {
        (logits, classes)
    }
}

fn encodings() -> impl Strategy<Value = Encoding> {
    let values = prop_oneof![Just(ValueType::F32), Just(ValueType::F16)];
    prop_oneof![
        values.clone().prop_map(Encoding::Dense),
        (1u32..50, values).prop_map(|(k, values)| Encoding::TopK { k, values }),
        (1u32..50, 1u32..=100).prop_map(|(draws, temperature)| sampled(draws, temperature)),
    ]
}

/// An encoding of each kind.
fn every_kind() -> [Encoding; 5] {
    [
        Encoding::F32,
        Encoding::F16,
        top(2, ValueType::F32),
        top(2, ValueType::F16),
        sampled(4, 2),
    ]
}

/// Returns an encoded answer in every encoding.
fn answers() -> Vec<Vec<u8>> {
    let answer = |encoding| encode(encoding, &[0.5, 3.0, -2.0, 1.0, 0.25, 9.0], 3).to_wire(7);
    every_kind()
        .map(|encoding| answer(encoding).encode_to_vec())
        .into()
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_foreign_answer_is_refused_or_means_what_it_says(answer in foreign(answers())) {
        let Ok(answer) = wire::SoftTargets::decode(answer.as_slice()) else {
            return Ok(());
        };
        for encoding in every_kind() {
            let read = in_modest_memory(|| SoftTargets::from_wire(answer.clone(), encoding, 2, 3));
            if let Ok(targets) = read {
                prop_assert!(targets.logits().all(f32::is_finite));
                prop_assert_eq!(targets.logits().count(), 2 * logits_per_row(&targets));
                prop_assert_eq!(targets.kept_classes().count(), 2 * targets.kept());
                prop_assert!(targets.kept_classes().all(|class| class < 3));
                prop_assert_eq!(targets.to_wire(answer.id), answer.clone());
            }
        }
    }

    #[test]
    fn a_text_names_one_encoding_or_none(
        text in foreign_text(["f32", "f16", "top-8", "top-32-f32", "sampled-50", "sampled-7-t12"].map(str::to_owned).into()),
    ) {
        if let Ok(encoding) = text.parse::<Encoding>() {
            prop_assert_eq!(encoding.to_string(), text);
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn what_is_encoded_passes_its_own_check_and_the_wire((logits, classes) in rows(), encoding in encodings()) {
        let targets = encode(encoding, &logits, classes);
        let samples = logits.len() / classes;
        let again = SoftTargets::new(encoding, samples, classes, targets.parts().clone()).unwrap();
        prop_assert_eq!(&again, &targets);
        let message = targets.to_wire(7);
        prop_assert_eq!(message.id, 7);
        let read = SoftTargets::from_wire(message, encoding, samples, classes).unwrap();
        prop_assert_eq!(&read, &targets);
        let all = (0..samples).map(|row| (&targets, row));
        prop_assert_eq!(&SoftTargets::gather(&targets, all), &targets);
        let single: Vec<_> = (0..samples).map(|row| SoftTargets::gather(&targets, [(&targets, row)].into_iter())).collect();
        let whole = SoftTargets::concat(&single).unwrap();
        prop_assert_eq!(&whole, &targets);
        let first = targets.take(1);
        prop_assert_eq!(first, encode(encoding, &logits[..classes], classes));
    }

    #[test]
    fn kept_logits_are_the_largest_and_exact_or_rounded((logits, classes) in rows(), encoding in encodings()) {
        let targets = encode(encoding, &logits, classes);
        let kept = targets.kept();
        let (values, chosen): (Vec<f32>, Vec<u32>) = (targets.logits().collect(), targets.kept_classes().collect());
        for (row, (values, chosen)) in logits.chunks(classes).zip(values.chunks(kept).zip(chosen.chunks(kept))) {
            for (value, class) in values.iter().zip(chosen) {
                let exact = row[*class as usize];
                let expected = match encoding.value_type() {
                    Some(ValueType::F16) => f16::from_f32(exact).to_f32(),
                    _ => exact,
                };
                prop_assert_eq!(*value, expected);
                prop_assert!((value - exact).abs() <= exact.abs() / 2048.0 + 3e-8);
            }
            let smallest = chosen.iter().map(|class| row[*class as usize]).fold(f32::INFINITY, f32::min);
            for (class, logit) in row.iter().enumerate() {
                prop_assert!(chosen.contains(&(class as u32)) || *logit <= smallest);
            }
        }
    }

    #[test]
    fn the_tail_bucket_is_exact_at_temperature_1_and_within_the_bounds_elsewhere(
        logits in vec(-20f32..20.0, 1..30), temperature in 0.25f64..16.0,
    ) {
        let bucket = TailBucket::of(logits.iter().copied());
        let count = logits.len();
        prop_assert!((bucket.log_mass_at(1.0, count) - log_mass(&logits, 1.0)).abs() < 1e-4);
        let far = 1e7;
        prop_assert!((bucket.log_mass_at(far, count) - log_mass(&logits, far)).abs() < 1e-4);
        let one_outweighs = log_mass(&logits, 1.0) / temperature;
        let all_alike = one_outweighs + (1.0 - 1.0 / temperature) * (count as f64).ln();
        let estimate = bucket.log_mass_at(temperature, count);
        let (low, high) = (one_outweighs.min(all_alike), one_outweighs.max(all_alike));
        prop_assert!(low - 1e-4 <= estimate && estimate <= high + 1e-4, "{low} {estimate} {high}");
    }

    #[test]
    fn encodings_are_written_as_they_are_read(encoding in encodings()) {
        prop_assert_eq!(encoding.to_string().parse::<Encoding>().unwrap(), encoding);
        prop_assert_eq!(Encoding::from_open(&encoding.to_open()), Some(encoding));
    }

    /// Arbitrary bytes are accepted or rejected, without a panic.
    #[test]
    fn arbitrary_bytes_are_checked(
        logits in vec(any::<u8>(), 0..64), kept_classes in vec(any::<u8>(), 0..32), tail_buckets in vec(any::<u8>(), 0..32),
        samples in 0usize..4, classes in 1usize..9, encoding in encodings(),
    ) {
        let parts = Parts { logits: logits.into(), kept_classes: kept_classes.into(), tail_buckets: tail_buckets.into() };
        if let Ok(targets) = SoftTargets::new(encoding, samples, classes, parts) {
            prop_assert!(targets.logits().all(f32::is_finite));
            prop_assert!(targets.kept_classes().all(|class| (class as usize) < classes));
            prop_assert_eq!(targets.logits().count(), samples * logits_per_row(&targets));
            prop_assert_eq!(targets.kept_classes().count(), samples * targets.kept());
        }
    }

    #[test]
    fn the_draws_of_a_row_depend_on_its_logits_and_its_seed_alone(
        (logits, classes) in rows(), draws in 1u32..50, temperature in 1u32..=100,
    ) {
        let encoding = sampled(draws, temperature);
        let whole = encode(encoding, &logits, classes);
        let samples = logits.len() / classes;
        // Another batch: the rows in the opposite order, by an encoder that has encoded something else.
        let backward: Vec<f32> = logits.chunks(classes).rev().flatten().copied().collect();
        let view = View::Fixed { seed: 1, view: 0 };
        let seeds = DrawSeeds::of(encoding, view, (0..samples as u32).rev());
        let mut encoder = Encoder::default();
        encoder.encode(top(1, ValueType::F32), &logits, classes).unwrap();
        let other = encoder.encode_with_seeds(encoding, &backward, classes, &seeds).unwrap();
        let back = (0..samples).rev().map(|row| (&other, row));
        prop_assert_eq!(&SoftTargets::gather(&other, back), &whole);
    }
}

fn logits_per_row(targets: &SoftTargets) -> usize {
    let encoding = targets.encoding();
    encoding.value_type().map_or(0, |_| targets.kept())
}

#[test]
fn sizes_are_those_of_the_documentation() {
    for (encoding, expected) in [
        ("f32", [40, 4_000, 87_364, 400_000]),
        ("f16", [20, 2_000, 43_682, 200_000]),
        ("top-8", [40, 40, 40, 56]),
        // All ten classes are kept: there is no tail bucket.
        ("top-32", [40, 136, 136, 200]),
        ("top-32-f32", [60, 200, 200, 264]),
        // Draws, however few classes there are.
        ("sampled-50", [100, 100, 100, 200]),
        ("sampled-50-t4", [100, 100, 100, 200]),
    ] {
        let encoding: Encoding = encoding.parse().unwrap();
        let found =
            [10, 1000, 21_841, 100_000].map(|classes| encoding.sample_bytes(classes).total());
        assert_eq!(found, expected, "{encoding}");
    }
}

#[test]
fn equal_logits_keep_the_lower_classes() {
    let targets = encode(
        top(2, ValueType::F32),
        &[1.0, 3.0, 3.0, 3.0, -1.0, 0.0, 0.0, 0.0],
        4,
    );
    assert_eq!(targets.kept_classes().collect::<Vec<_>>(), [1, 2, 1, 2]);
    assert_eq!(targets.logits().collect::<Vec<_>>(), [3.0, 3.0, 0.0, 0.0]);
    let buckets: Vec<_> = targets.tail_buckets().collect();
    assert_eq!(buckets[0].mean_logit, 2.0);
    assert_eq!(buckets[1].mean_logit, -0.5);
}

#[test]
fn classes_beyond_u16_take_four_bytes() {
    let classes = 70_000;
    let mut logits = vec![0.0; classes];
    logits[69_999] = 5.0;
    let targets = encode(top(1, ValueType::F16), &logits, classes);
    assert_eq!(targets.kept_classes().collect::<Vec<_>>(), [69_999]);
    assert_eq!(targets.parts().kept_classes.len(), 4);
}

#[test]
fn what_cannot_be_encoded_is_said() {
    let encode = |encoding: &str, logit: f32| {
        let encoding = encoding.parse().unwrap();
        Encoder::default()
            .encode(encoding, &[0.0, logit], 2)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(encode("f32", f32::NAN), "a logit is NaN");
    assert_eq!(encode("top-1", f32::INFINITY), "a logit is inf");
    for encoding in ["f16", "top-1"] {
        let error = encode(encoding, 70_000.0);
        assert!(error.contains("70000") && error.contains("f32"), "{error}");
    }
}

#[test]
fn draws_need_a_seed_for_every_row() {
    let encoding = sampled(3, 1);
    let seeds = DrawSeeds::of(encoding, View::Plain, 0..3);
    let mut encoder = Encoder::default();
    let logits = [0.0; 8];
    let error = encoder.encode_with_seeds(encoding, &logits, 4, &seeds);
    let (seeds, samples) = (3, 2);
    assert_eq!(error, Err(EncodeError::Seeds { seeds, samples }));
    let error = encoder.encode(encoding, &logits, 4).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("0 seeds for the draws of 2 samples"),
        "{error}"
    );
}

#[test]
fn drawn_classes_may_repeat_but_must_exist_and_be_ascending() {
    let check = |drawn: [u16; 4]| {
        let parts = Parts {
            kept_classes: drawn.map(u16::to_le_bytes).concat().into(),
            ..Parts::default()
        };
        SoftTargets::new(sampled(2, 1), 2, 4, parts).map_err(|error| error.to_string())
    };
    assert!(check([1, 1, 0, 3]).is_ok());
    for (drawn, part) in [
        ([1, 0, 0, 3], "sample 0 do not rise"),
        ([0, 3, 2, 1], "sample 1 do not rise"),
        ([0, 3, 2, 4], "sample 1 keeps class 4"),
    ] {
        let error = check(drawn).unwrap_err();
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let logits = Parts {
        logits: vec![0; 4].into(),
        kept_classes: vec![0; 4].into(),
        ..Parts::default()
    };
    let error = SoftTargets::new(sampled(2, 1), 1, 4, logits).unwrap_err();
    assert!(error.to_string().contains("4 bytes of logits"), "{error}");
}

#[test]
fn what_is_wrong_with_bytes_is_said() {
    let targets = encode(top(2, ValueType::F32), &[1.0, 3.0, 2.0, 0.0], 4);
    let check = |change: fn(&mut Parts)| {
        let mut parts = targets.parts().clone();
        change(&mut parts);
        SoftTargets::new(targets.encoding(), 1, 4, parts)
            .unwrap_err()
            .to_string()
    };
    for (change, part) in [
        (
            (|parts| parts.logits.truncate(7)) as fn(&mut Parts),
            "7 bytes of logits",
        ),
        (
            |parts| parts.tail_buckets = Bytes::new(),
            "0 bytes of tail buckets",
        ),
        (
            |parts| parts.kept_classes = vec![2, 0, 1, 0].into(),
            "do not rise",
        ),
        (
            |parts| parts.kept_classes = vec![2, 0, 2, 0].into(),
            "do not rise",
        ),
        (
            |parts| parts.kept_classes = vec![2, 0, 4, 0].into(),
            "keeps class 4",
        ),
        (
            |parts| parts.tail_buckets = [f32::NAN; 2].map(f32::to_le_bytes).concat().into(),
            "a logit is NaN",
        ),
    ] {
        let error = check(change);
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn texts_that_name_no_encoding_are_refused() {
    for text in [
        "",
        "f64",
        "F32",
        "top",
        "top-",
        "top-0",
        "top-007",
        "top-+3",
        "top-65537",
        "top-3-f16",
        "top-3-",
        "sampled",
        "sampled-",
        "sampled-0",
        "sampled-1025",
        "sampled-50-t",
        "sampled-50-t0",
        // Has a shorter text.
        "sampled-50-t1",
        "sampled-50-t04",
        "sampled-50-t2.5",
        "sampled-50-t101",
        "sampled-50-f32",
        "sampled-50-t4-t4",
    ] {
        let error = text.parse::<Encoding>().unwrap_err().to_string();
        assert!(error.contains("top-K"), "{text}: {error}");
    }
    let open = |encoding: wire::Encoding, k, temperature| {
        Encoding::from_open(&wire::Open {
            encoding: encoding.into(),
            k,
            temperature,
            ..wire::Open::default()
        })
    };
    assert_eq!(open(wire::Encoding::TopKF16, 0, 0), None);
    assert_eq!(open(wire::Encoding::Unspecified, 1, 1), None);
    assert_eq!(open(wire::Encoding::Sampled, 5, 1), Some(sampled(5, 1)));
    for (k, temperature) in [(0, 1), (1_025, 1), (5, 0), (5, 101)] {
        assert_eq!(open(wire::Encoding::Sampled, k, temperature), None);
    }
}
