use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::random::{Purpose, RandomStreams};

fn draws(augmentation: Augmentation, size: [usize; 2]) -> Vec<Geometry> {
    let streams = RandomStreams::new(7, Purpose::Augmentation, 0, 0);
    (0..500)
        .map(|sample| {
            augmentation
                .draw(&mut streams.at(sample), size, [32, 32])
                .geometry
        })
        .collect()
}

#[test]
fn nothing_is_drawn_by_default() {
    let centered = Geometry::centered([40, 60], [32, 32]);
    assert!(
        draws(Augmentation::default(), [40, 60])
            .iter()
            .all(|it| *it == centered)
    );
}

#[test]
fn a_pad_counts_pixels_of_the_student() {
    let augmentation = Augmentation {
        pad: 2,
        horizontal_flip: true,
        ..Augmentation::default()
    };
    let mut shifts = BTreeSet::new();
    for geometry in draws(augmentation, [64, 64]) {
        assert_eq!([geometry.height, geometry.width], [64.0, 64.0]);
        shifts.insert((geometry.top as i32, geometry.left as i32, geometry.flip));
    }
    // 5 x 5 positions, two pixels of the image apart, each mirrored or not.
    assert_eq!(shifts.len(), 50);
    assert!(
        shifts
            .iter()
            .all(|(top, left, _)| top % 2 == 0 && left.abs() <= 4)
    );
}

#[test]
fn random_boxes_stay_within_the_image_and_their_ranges() {
    let crop = RandomResizedCrop {
        scale: [0.25, 1.0],
        ratio: RandomResizedCrop::default_ratio(),
    };
    let augmentation = Augmentation {
        random_resized_crop: Some(crop),
        ..Augmentation::default()
    };
    let (mut areas, mut distinct) = (Vec::new(), BTreeSet::new());
    for geometry in draws(augmentation, [60, 80]) {
        let Geometry {
            top,
            left,
            height,
            width,
            ..
        } = geometry;
        assert!(top >= 0.0 && left >= 0.0 && top + height <= 60.0 && left + width <= 80.0);
        // Rounding to whole pixels moves the ratio a little.
        assert!((0.7..1.4).contains(&(width / height)), "{geometry:?}");
        areas.push(height * width / 4800.0);
        distinct.insert(format!("{geometry:?}"));
    }
    assert!(areas.iter().all(|area| (0.23..=1.0).contains(area)));
    // Uniform in 0.25 to 1, but for the boxes that do not fit.
    let mean = areas.iter().sum::<f64>() / areas.len() as f64;
    assert!((0.5..0.7).contains(&mean), "{mean}");
    assert!(distinct.len() > 400);
}

#[test]
fn wrong_ranges_are_named() {
    let with = |scale, ratio| Augmentation {
        random_resized_crop: Some(RandomResizedCrop { scale, ratio }),
        ..Augmentation::default()
    };
    let pad = |pad| Augmentation {
        pad,
        ..Augmentation::default()
    };
    for (augmentation, key) in [
        (pad(0), None),
        (pad(27), None),
        (pad(28), Some("pad")),
        (with([0.1, 1.0], [1.0, 1.0]), None),
        (
            with([0.0, 1.0], [1.0, 1.0]),
            Some("random_resized_crop.scale"),
        ),
        (
            with([0.5, 0.4], [1.0, 1.0]),
            Some("random_resized_crop.scale"),
        ),
        (
            with([0.5, 1.1], [1.0, 1.0]),
            Some("random_resized_crop.scale"),
        ),
        (
            with([f64::NAN, 1.0], [1.0, 1.0]),
            Some("random_resized_crop.scale"),
        ),
        (
            with([0.5, 1.0], [0.0, 1.0]),
            Some("random_resized_crop.ratio"),
        ),
        (
            with([0.5, 1.0], [1.0, f64::INFINITY]),
            Some("random_resized_crop.ratio"),
        ),
    ] {
        let found = augmentation.check([28, 30]).err().map(|error| error.field);
        assert_eq!(found, key, "{augmentation:?}");
    }
}

#[test]
fn the_serialized_form_omits_later_additions() {
    let json = serde_json::to_string(&Augmentation::default()).unwrap();
    assert_eq!(json, r#"{"pad":0,"horizontal_flip":false}"#);
}

/// The default with `key`, as a configuration has it.
fn with(key: &str, value: serde_json::Value) -> Augmentation {
    serde_json::from_value(serde_json::json!({ key: value })).unwrap()
}

fn operations(augmentation: Augmentation) -> Vec<Vec<Operation>> {
    let streams = RandomStreams::new(7, Purpose::Augmentation, 0, 0);
    let draw = |sample| augmentation.draw(&mut streams.at(sample), [40, 60], [20, 30]);
    (0..2000).map(|sample| draw(sample).operations).collect()
}

#[test]
fn later_changes_leave_the_draws_of_earlier_ones() {
    let crop = Augmentation {
        pad: 3,
        horizontal_flip: true,
        ..with("random_resized_crop", json!({"scale": [0.3, 1.0]}))
    };
    let more = Augmentation {
        random_affine: with("random_affine", json!({"degrees": 9.0})).random_affine,
        mixup: Some(Mixup { alpha: 1.0 }),
        ..crop
    };
    assert_eq!(draws(crop, [40, 60]), draws(more, [40, 60]));
}

#[test]
fn color_jitter_comes_in_random_order_within_its_limits() {
    let jitter = json!({"brightness": 0.4, "contrast": 1.5, "hue": 0.1});
    let mut first = BTreeSet::new();
    for changes in operations(with("color_jitter", jitter)) {
        assert_eq!(changes.len(), 3);
        first.insert(format!("{:?}", std::mem::discriminant(&changes[0])));
        for change in changes {
            let fits = match change {
                Operation::Brightness(factor) => (0.6..=1.4).contains(&factor),
                Operation::Contrast(factor) => (0.0..=2.5).contains(&factor),
                Operation::Hue(turn) => (-0.1001..=0.1001).contains(&turn),
                _ => false,
            };
            assert!(fits, "{change:?}");
        }
    }
    assert_eq!(first.len(), 3);
}

#[test]
fn rand_augment_draws_from_all_operations_with_both_signs() {
    let drawn = operations(with("rand_augment", json!({"num_ops": 3, "magnitude": 30})));
    assert!(drawn.iter().all(|changes| changes.len() <= 3));
    let mut distinct: BTreeMap<String, usize> = BTreeMap::new();
    for change in drawn.into_iter().flatten() {
        *distinct.entry(format!("{change:?}")).or_default() += 1;
    }
    // Nine with two signs, and four without; one of fourteen changes nothing.
    assert_eq!(distinct.len(), 9 * 2 + 4, "{distinct:?}");
    for one_sided in ["Posterize(4)", "Solarize(0.0)", "AutoContrast", "Equalize"] {
        assert!((350..510).contains(&distinct[one_sided]), "{one_sided}");
    }
}

#[test]
fn boxes_are_erased_with_their_probability_and_area() {
    let drawn = operations(with("random_erasing", json!({"p": 0.25, "value": "noise"})));
    let erased: Vec<_> = drawn.iter().flatten().collect();
    assert!((430..570).contains(&erased.len()), "{}", erased.len());
    for operation in erased {
        let Operation::Erase(erasing) = operation else {
            panic!("{operation:?}");
        };
        // Rounding to whole pixels moves the area a little.
        assert!((0.01..0.36).contains(&erasing.region.area()), "{erasing:?}");
    }
}

#[test]
fn wrong_settings_of_changes_are_named() {
    for (key, value, field) in [
        (
            "random_affine",
            json!({"degrees": 200.0}),
            "random_affine.degrees",
        ),
        (
            "random_affine",
            json!({"translate": [0.1, 1.0]}),
            "random_affine.translate",
        ),
        (
            "rand_augment",
            json!({"num_ops": 0}),
            "rand_augment.num_ops",
        ),
        (
            "rand_augment",
            json!({"magnitude": 31}),
            "rand_augment.magnitude",
        ),
        (
            "color_jitter",
            json!({"contrast": -0.1}),
            "color_jitter.contrast",
        ),
        ("color_jitter", json!({"hue": 0.6}), "color_jitter.hue"),
        ("random_erasing", json!({"p": 1.5}), "random_erasing.p"),
        (
            "random_erasing",
            json!({"scale": [0.0, 0.3]}),
            "random_erasing.scale",
        ),
        (
            "random_erasing",
            json!({"ratio": [2.0, 1.0]}),
            "random_erasing.ratio",
        ),
        ("mixup", json!({"alpha": 0.0}), "mixup.alpha"),
        ("cutmix", json!({"alpha": -1.0}), "cutmix.alpha"),
    ] {
        let error = with(key, value).check([28, 28]).unwrap_err();
        assert_eq!(error.field, field);
    }
    for key in [
        "random_affine",
        "rand_augment",
        "color_jitter",
        "random_erasing",
    ] {
        let augmentation = with(key, json!({}));
        assert_eq!(augmentation.check([28, 28]), Ok(()));
        assert_eq!(augmentation.check_rows().unwrap_err().field, key);
    }
    let mixup = with("mixup", json!({"alpha": 0.2}));
    assert_eq!(mixup.check_rows(), Ok(()));
    assert!(with("cutmix", json!({"alpha": 0.2})).check_rows().is_err());
}

#[test]
fn each_setting_is_named_in_the_serialized_form_and_in_the_text() {
    let plain = Augmentation::default();
    for (key, value, text) in [
        (
            "random_affine",
            json!({"degrees": 9.0, "translate": [0.0, 0.1]}),
            "random_affine 9 [0.0, 0.1]",
        ),
        (
            "rand_augment",
            json!({"num_ops": 2, "magnitude": 9}),
            "rand_augment 2 9",
        ),
        (
            "color_jitter",
            json!({"hue": 0.1}),
            "color_jitter 0 0 0 0.1",
        ),
        (
            "random_erasing",
            json!({}),
            "random_erasing 0.5 [0.02, 0.33] [0.3, 3.3] Black",
        ),
        ("mixup", json!({"alpha": 0.2}), "mixup 0.2"),
        ("cutmix", json!({"alpha": 1.0}), "cutmix 1"),
    ] {
        let augmentation = with(key, value);
        assert_eq!(augmentation.to_string(), format!("{plain}, {text}"));
        let json = serde_json::to_string(&augmentation).unwrap();
        assert!(json.contains(key), "{json}");
        assert_eq!(
            serde_json::from_str::<Augmentation>(&json).unwrap(),
            augmentation
        );
    }
}
