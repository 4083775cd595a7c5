//! `teacher-service inspect`: each hint is given for a teacher and a card that need it, and for no others.

use std::{fs, num::NonZero, path::PathBuf};

use common::compute::{DeviceChoice, PrecisionChoice};
use datasets::Ground;
use networks::onnx::schema::ModelProto;
use teacher_service::{
    config::ComputeConfig,
    inspect::{DataChoice, Figures, Hint, HintKind, MatchedBy, Report, inspect},
    libtorch_environment::CpuIsa,
    model::ModelConfig,
};
use tempfile::TempDir;

use models::{BYTE, IMAGENET, UNIT, names, teacher, with_softmax, write, write_pictures};

mod command;
mod models;

/// Height and width of the pictures.
const SIZE: u32 = 6;
const PER_CLASS: usize = 40;
/// The dimensions of most teachers, and which of them are height and width.
const NCHW: [Option<i64>; 4] = [None, Some(3), Some(SIZE as i64), Some(SIZE as i64)];
const NCHW_AXES: [i64; 2] = [2, 3];

const UNIT_CARD: &str = "scale = \"unit\"\nmean = [0, 0, 0]\nstd = [1, 1, 1]\nchannel_order = \"rgb\"\noutput = \"logits\"\n";
const IMAGENET_CARD: &str = "scale = \"unit\"\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n\
                             channel_order = \"rgb\"\noutput = \"logits\"\n";

/// A folder with pictures in `pictures`, in one folder per class.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        write_pictures(&scene.path("pictures"), SIZE, PER_CLASS, true);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn teacher(&self, model: &ModelProto) -> PathBuf {
        let path = self.path("teacher.onnx");
        write(&path, model);
        path
    }

    /// Inspects `model` with a card and class names on the pictures.
    fn inspect(&self, model: &ModelProto, card: &str, names: &[String]) -> Report {
        let card = format!("{card}\nclass_names = {names:?}");
        self.inspect_with(model, &card, "pictures")
    }

    fn inspect_with(&self, model: &ModelProto, card: &str, data: &str) -> Report {
        let mut config = ModelConfig::at(self.teacher(model));
        config.preprocessing = toml::from_str(card).unwrap();
        let data = DataChoice {
            path: self.path(data),
            format: None,
            ground: Ground::WHITE,
            samples: NonZero::new(200).unwrap(),
        };
        inspect(&config, &compute(), Some(&data), &|_| ()).unwrap()
    }
}

fn compute() -> ComputeConfig {
    ComputeConfig {
        threads: 1,
        precision: PrecisionChoice::Auto,
        cpu_isa: CpuIsa::Auto,
        device: DeviceChoice::Cpu,
    }
}

fn settings(hint: &Hint) -> Vec<String> {
    hint.set
        .iter()
        .map(|set| format!("{} = {}", set.key, set.value))
        .collect()
}

/// Checks that the only hint is `kind`, that it restores the accuracy of the right card, and what it sets.
fn assert_hint(report: &Report, kind: HintKind, set: &[&str]) {
    let [hint] = &report.hints[..] else {
        panic!("{kind:?}: {:#?}", report.hints);
    };
    assert_eq!(hint.kinds, [kind]);
    assert_eq!(settings(hint), set);
    let Figures::Accuracy {
        before,
        after,
        samples,
        p,
    } = hint.figures
    else {
        panic!("{hint:?}");
    };
    let fit = report.data.as_ref().unwrap().fit.unwrap();
    assert!(
        before < after && after > 0.8 && p < 1e-3 && samples >= 100,
        "{hint:?}"
    );
    if samples == fit.samples {
        assert_eq!(before, fit.accuracy);
    }
}

#[test]
fn the_right_card_has_no_hints_and_figures_that_fit() {
    let scene = Scene::new();
    for (takes, card) in [(UNIT, UNIT_CARD), (IMAGENET, IMAGENET_CARD)] {
        let report = scene.inspect(&teacher(takes, &NCHW, NCHW_AXES), card, &names());
        assert_eq!(report.hints, []);
        assert_eq!(report.model.problems, [""; 0]);
        let data = report.data.unwrap();
        let fit = data.fit.unwrap();
        assert_eq!((data.samples, fit.samples, data.of_split), (200, 200, 240));
        assert!(
            fit.accuracy > 0.85 && fit.accuracy < 1.0 && data.cards_tried > 5,
            "{fit:?}"
        );
        assert!(
            fit.top_5.unwrap() > fit.accuracy && fit.loss < 0.6,
            "{fit:?}"
        );
        let calibration = fit.calibration;
        assert!(calibration.loss_at_temperature <= fit.loss, "{fit:?}");
        assert_eq!(data.classes.unwrap().by, MatchedBy::Name);
        let confusion = data.confusion.unwrap();
        let right: usize = (0..6).map(|class| confusion.counts[class][class]).sum();
        assert_eq!(right as f64 / 200.0, fit.accuracy);
    }
}

#[test]
fn swapped_channels_are_found() {
    let scene = Scene::new();
    let card = UNIT_CARD.replace("\"rgb\"", "\"bgr\"");
    let report = scene.inspect(&teacher(UNIT, &NCHW, NCHW_AXES), &card, &names());
    assert_hint(
        &report,
        HintKind::ChannelOrder,
        &["channel_order = \"rgb\""],
    );
}

#[test]
fn a_missing_a_doubled_and_another_normalization_are_found() {
    let scene = Scene::new();
    let imagenet = [
        "mean = [0.485, 0.456, 0.406]",
        "std = [0.229, 0.224, 0.225]",
    ];
    let none = ["mean = [0.0, 0.0, 0.0]", "std = [1.0, 1.0, 1.0]"];
    for (takes, card, kind, set) in [
        (
            IMAGENET,
            UNIT_CARD,
            HintKind::NormalizationMissing,
            &imagenet[..],
        ),
        (UNIT, IMAGENET_CARD, HintKind::NormalizationDoubled, &none),
        (
            BYTE,
            UNIT_CARD,
            HintKind::Normalization,
            &["scale = \"byte\""],
        ),
    ] {
        let report = scene.inspect(&teacher(takes, &NCHW, NCHW_AXES), card, &names());
        assert_hint(&report, kind, set);
    }
}

#[test]
fn two_faults_are_found_together_or_one_after_the_other() {
    let scene = Scene::new();
    let card = UNIT_CARD.replace("\"rgb\"", "\"bgr\"");
    let report = scene.inspect(&teacher(BYTE, &NCHW, NCHW_AXES), &card, &names());
    let [hint] = &report.hints[..] else {
        panic!("{:#?}", report.hints);
    };
    assert_eq!(
        hint.kinds,
        [HintKind::ChannelOrder, HintKind::Normalization]
    );
    assert_eq!(
        settings(hint),
        ["channel_order = \"rgb\"", "scale = \"byte\""]
    );

    let mut shifted = names();
    shifted.rotate_left(1);
    let report = scene.inspect(&teacher(UNIT, &NCHW, NCHW_AXES), IMAGENET_CARD, &shifted);
    let kinds: Vec<_> = report
        .hints
        .iter()
        .flat_map(|hint| hint.kinds.clone())
        .collect();
    let expected = [HintKind::LabelsShifted, HintKind::NormalizationDoubled];
    assert_eq!(kinds, expected, "{:#?}", report.hints);
    let figures: Vec<_> = report.hints.iter().map(|hint| hint.figures).collect();
    let [
        Figures::Accuracy { after: first, .. },
        Figures::Accuracy {
            before: second,
            after,
            ..
        },
    ] = figures[..]
    else {
        panic!("{figures:?}");
    };
    assert!(first == second && after > 0.85, "{figures:?}");
}

#[test]
fn shifted_and_permuted_classes_are_found() {
    let scene = Scene::new();
    let teacher = teacher(UNIT, &NCHW, NCHW_AXES);
    let right = format!("class_names = {:?}", names());
    for (kind, order) in [
        (HintKind::LabelsShifted, [1, 2, 3, 4, 5, 0]),
        (HintKind::LabelsShifted, [5, 0, 1, 2, 3, 4]),
        (HintKind::LabelsPermuted, [3, 0, 4, 1, 5, 2]),
    ] {
        let wrong: Vec<String> = order.iter().map(|class| names()[*class].clone()).collect();
        let report = scene.inspect(&teacher, UNIT_CARD, &wrong);
        assert_hint(&report, kind, &[&right]);
    }
}

#[test]
fn the_other_layout_is_found_by_its_answers_or_because_only_it_computes() {
    let scene = Scene::new();
    // Pictures of three pixels fit both layouts.
    write_pictures(&scene.path("tiny"), 3, PER_CLASS, true);
    let open = [None, None, None, None];
    let channels_last = teacher(UNIT, &open, [1, 2]);
    let card = |size: u32, layout: &str| {
        format!(
            "{UNIT_CARD}size = [{size}, {size}]\nlayout = \"{layout}\"\nclass_names = {:?}",
            names()
        )
    };
    let report = scene.inspect_with(&channels_last, &card(3, "nchw"), "tiny");
    assert_hint(&report, HintKind::Layout, &["layout = \"nhwc\""]);

    let report = scene.inspect_with(&channels_last, &card(6, "nchw"), "pictures");
    let [problem] = &report.model.problems[..] else {
        panic!("{:?}", report.model.problems);
    };
    assert!(
        problem.ends_with("with model.preprocessing.layout = \"nhwc\" it can"),
        "{problem}"
    );
    assert!(report.data.unwrap().fit.unwrap().accuracy > 0.85);

    // The dimensions of the input contradict the card.
    let card = format!(
        "{UNIT_CARD}size = [9, 9]\nlayout = \"nhwc\"\nclass_names = {:?}",
        names()
    );
    let report = scene.inspect_with(&teacher(UNIT, &NCHW, NCHW_AXES), &card, "pictures");
    let problems = report.model.problems.join("\n");
    for problem in [
        "layout: \"nhwc\", but the model takes",
        "size: [9, 9], but the model takes images of [6, 6]",
    ] {
        assert!(problems.contains(problem), "{problems}");
    }
    assert!(report.data.unwrap().fit.unwrap().accuracy > 0.85);
}

#[test]
fn another_size_is_found() {
    let scene = Scene::new();
    models::write_stripes(&scene.path("stripes"), 60);
    let card = format!("{UNIT_CARD}size = [8, 8]\nclass_names = [\"plain\", \"striped\"]");
    let report = scene.inspect_with(&models::stripes_teacher(), &card, "stripes");
    assert_hint(&report, HintKind::Size, &["size = [16, 16]"]);
}

#[test]
fn probabilities_taken_for_logits_are_found_and_the_other_way_around() {
    let scene = Scene::new();
    let logits = teacher(UNIT, &NCHW, NCHW_AXES);
    let probabilities = with_softmax(logits.clone());
    let probabilities_card = UNIT_CARD.replace("\"logits\"", "\"probabilities\"");
    for (model, card, set) in [
        (&probabilities, UNIT_CARD, "output = \"probabilities\""),
        (&logits, &probabilities_card, "output = \"logits\""),
    ] {
        let report = scene.inspect(model, card, &names());
        let [hint] = &report.hints[..] else {
            panic!("{:#?}", report.hints);
        };
        assert_eq!(hint.kinds, [HintKind::Output]);
        assert_eq!(settings(hint), [set]);
        let Figures::Values {
            loss_before: Some(before),
            loss_after: Some(after),
            samples: 200,
        } = hint.figures
        else {
            panic!("{hint:?}");
        };
        assert!(after < before && after < 0.6, "{hint:?}");
        // The service would refuse to start, for the same reason.
        assert!(
            report.model.problems[0].contains(&format!("set {set}")),
            "{:?}",
            report.model.problems
        );
    }
}

#[test]
fn without_labels_only_what_the_values_show_is_a_hint() {
    let scene = Scene::new();
    write_pictures(&scene.path("flat"), SIZE, PER_CLASS, false);
    let card = UNIT_CARD.replace("\"rgb\"", "\"bgr\"") + &format!("class_names = {:?}", names());
    let report = scene.inspect_with(&teacher(UNIT, &NCHW, NCHW_AXES), &card, "flat");
    assert_eq!(report.hints, []);
    let data = report.data.unwrap();
    assert!(data.fit.is_none() && data.classes.is_none() && data.confusion.is_none());
    let swapped = data
        .agreement
        .iter()
        .find(|other| other.kinds == [HintKind::ChannelOrder])
        .unwrap();
    assert!(
        swapped.agreement < 0.7 && swapped.agreement > 0.1,
        "{swapped:?}"
    );
    assert_eq!(
        data.answers
            .iter()
            .map(|answer| answer.samples)
            .sum::<usize>(),
        200
    );
    let report = scene.inspect_with(
        &with_softmax(teacher(UNIT, &NCHW, NCHW_AXES)),
        &card,
        "flat",
    );
    assert_eq!(report.hints[0].kinds, [HintKind::Output]);
}

#[test]
fn classes_that_do_not_match_are_described() {
    let scene = Scene::new();
    let colors = teacher(UNIT, &NCHW, NCHW_AXES);
    // By position, because no name is the same.
    let numbers: Vec<String> = (0..6).map(|class| class.to_string()).collect();
    let data = scene.inspect(&colors, UNIT_CARD, &numbers).data.unwrap();
    assert_eq!(data.classes.unwrap().by, MatchedBy::Position);
    assert!(data.fit.unwrap().accuracy > 0.85);
    // One class has another name: its samples do not count.
    let mut renamed = names();
    renamed[0] = "sky".to_owned();
    let data = scene.inspect(&colors, UNIT_CARD, &renamed).data.unwrap();
    assert_eq!(data.classes.unwrap().missing, ["azure"]);
    assert!(data.fit.unwrap().samples < 200);
    // Other classes: what the model answers for each class is still there.
    fs::rename(scene.path("pictures/red"), scene.path("pictures/rouge")).unwrap();
    for name in ["azure", "blue", "green", "orange", "purple"] {
        fs::remove_dir_all(scene.path("pictures").join(name)).unwrap();
    }
    write_pictures(&scene.path("more"), SIZE, 4, true);
    fs::rename(scene.path("more/blue"), scene.path("pictures/bleu")).unwrap();
    let report = scene.inspect(&colors, UNIT_CARD, &names());
    assert!(
        report.to_string().contains("answers:      rouge → red"),
        "{report}"
    );
    let data = report.data.unwrap();
    assert_eq!(data.classes.unwrap().by, MatchedBy::Nothing);
    assert!(data.fit.is_none());
}
