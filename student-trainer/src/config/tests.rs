use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use common::compute::DeviceChoice;
use test_support::run_toml::RunToml;

use super::*;

static SMALLEST: LazyLock<String> = LazyLock::new(|| RunToml::default().to_string());

fn configs(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    root.join(name)
}

fn load(name: &str) -> RunConfig {
    RunConfig::load(&configs(name), &[]).unwrap()
}

#[test]
fn what_a_file_leaves_out_comes_from_the_shipped_defaults() {
    let config = RunConfig::from_toml(&SMALLEST).unwrap();
    assert_eq!((config.seed, config.threads), (1, 2));
    assert_eq!(config.data.class_names.len(), 10);
    assert_eq!(config.phases[0].kind(), PhaseKind::Supervised);
    assert!(config.export.onnx && config.publish.is_none());
}

#[test]
fn a_resolved_configuration_resolves_to_itself() {
    for name in ["demo/teacher.toml", "demo/student.toml"] {
        let config = load(name);
        assert_eq!(RunConfig::from_toml(&config.to_toml()).unwrap(), config);
    }
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = SMALLEST
        .replace("epochs = 1", "epochs = 0")
        .replace("cross_entropy\"", "kd\", temperature = 0.0, alpha = 2.0")
        .replace("\"sgd\"", "\"sgd\", nesterov = true")
        .replace("0.1", "-0.1")
        .replace("widths = [8]", "widths = [0]")
        + "[initial_weights]\npath = \"\"\n[publish]\nendpoint = \"nowhere\"\nmodel = \"\"\n[export]\nonnx = false\n";
    let error = RunConfig::from_toml(&text).unwrap_err().to_string();
    for part in [
        "phases[0].epochs = 0: must be 1 or more",
        "phases[0].loss.temperature = 0: must be above 0",
        "phases[0].loss.alpha = 2: must be from 0 to 1",
        "phases[0].optimizer.nesterov = true: needs a momentum",
        "phases[0].schedule.learning_rate = -0.1: must be above 0",
        "widths",
        "initial_weights.path = \"\": must name a file",
        "teacher = (none): is missing",
        "publish.endpoint = nowhere",
        "publish.model",
        "export.onnx = false: must be true where [publish] is given",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn bounds_of_the_publish_gate_are_checked() {
    let with = |bounds: &str| {
        let publish = "[publish]\nendpoint = \"h:1\"\nmodel = \"m\"\n[publish.gate]";
        RunConfig::from_toml(&format!("{}{publish}\n{bounds}", *SMALLEST))
    };
    for (bounds, part) in [
        ("", "publish.gate = {}: needs min_accuracy, min_agreement,"),
        (
            "min_accuracy = 90",
            "publish.gate.min_accuracy = 90: must be from 0 to 1",
        ),
        (
            "min_accuracy = 1.5",
            "publish.gate.min_accuracy = 1.5: must be",
        ),
        (
            "max_latency_us = 0",
            "publish.gate.max_latency_us = 0: must be above 0",
        ),
        (
            "min_gain = 0.1",
            "publish.gate.min_gain = 0.1: needs publish.gate.baseline",
        ),
        (
            "baseline = \"\"",
            "publish.gate.baseline = \"\": must name the folder",
        ),
        (
            "min_agreement = 0.9",
            "publish.gate.min_agreement = 0.9: needs [teacher]",
        ),
        ("min_acuracy = 0.9", "min_acuracy"),
    ] {
        let error = with(bounds).unwrap_err().to_string();
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let config = with("min_accuracy = 0.9\nmax_latency_us = 250\nbaseline = \"runs/b\"").unwrap();
    assert_eq!(RunConfig::from_toml(&config.to_toml()).unwrap(), config);
    let paths = config.paths();
    let baseline = ("publish.gate.baseline".to_owned(), Path::new("runs/b"));
    assert!(paths.contains(&baseline), "{paths:?}");
    let gate = config.publish.unwrap().gate.unwrap();
    assert_eq!(gate.needs_validation(), Some("publish.gate.min_accuracy"));
}

#[test]
fn the_key_that_signs_is_one_of_the_runs_files_and_must_be_a_key() {
    let publish = "[publish]\nendpoint = \"h:1\"\nmodel = \"m\"\nsigning_key = \"no-such.pem\"\n";
    let config = RunConfig::from_toml(&format!("{}{publish}", *SMALLEST)).unwrap();
    assert_eq!(RunConfig::from_toml(&config.to_toml()).unwrap(), config);
    // A submitted run may name it only below the allowed folders.
    let key = ("publish.signing_key".to_owned(), Path::new("no-such.pem"));
    assert!(config.paths().contains(&key), "{:?}", config.paths());
    let error = config.check_credentials().unwrap_err().to_string();
    assert!(
        error.contains("publish.signing_key = no-such.pem"),
        "{error}"
    );
}

#[test]
fn int8_needs_an_export_and_its_publication_needs_int8() {
    let with = |tables: &str| RunConfig::from_toml(&format!("{}{tables}", *SMALLEST));
    let publish = "[publish]\nendpoint = \"h:1\"\nmodel = \"m\"\nprecision = \"int8\"\n";
    for (tables, part) in [
        (
            "[export]\nonnx = false\nint8 = {}",
            "export.onnx = false: must be true where export.int8",
        ),
        (
            "[export]\nint8 = { calibration_samples = 0 }",
            "export.int8.calibration_samples = 0: must be from 1 to 100000",
        ),
        (publish, "publish.precision = int8: needs export.int8"),
    ] {
        let error = with(tables).unwrap_err().to_string();
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let config = with(&format!("{publish}[export]\nint8 = {{}}")).unwrap();
    assert_eq!(config.export.int8.unwrap().calibration_samples, 512);
    assert_eq!(RunConfig::from_toml(&config.to_toml()).unwrap(), config);
    assert!(!load("demo/student.toml").to_toml().contains("int8"));
}

#[test]
fn settings_that_contradict_each_other_are_refused_with_both_keys() {
    let schedule = "kind = \"constant\", learning_rate = 0.1";
    for (from, to, part) in [
        (
            "classes = 10",
            "classes = 9",
            "network.classes = 9: must be the number of data.class_names, 10",
        ),
        (
            "input = [1, 28, 28]",
            "input = [3, 28, 28]",
            "data.normalization.mean = [0.286]: must hold one value for each of the 3 channels of network.input",
        ),
        (
            "input = [1, 28, 28]",
            "input = [1, 28, 2]",
            "data.augmentation.pad = 2: must be below the height and width of network.input, 28 and 2",
        ),
        (
            schedule,
            "kind = \"cosine\", learning_rate = 0.1, final_learning_rate = 0.2",
            "phases[0].schedule.final_learning_rate = 0.2: must be from 0 to phases[0].schedule.learning_rate = 0.1",
        ),
        (
            schedule,
            "kind = \"one_cycle\", max_learning_rate = 0.1, initial_divisor = 0.5",
            "phases[0].schedule.initial_divisor = 0.5: must be 1 or more: the first rate would be above \
             phases[0].schedule.max_learning_rate",
        ),
        (
            schedule,
            "kind = \"one_cycle\", max_learning_rate = 0.1, final_divisor = 0.01",
            "phases[0].schedule.final_divisor = 0.01: times phases[0].schedule.initial_divisor = 25 must be 1",
        ),
    ] {
        assert!(SMALLEST.contains(from), "{from}");
        let error = RunConfig::from_toml(&SMALLEST.replace(from, to)).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn augmentations_are_checked_against_the_input() {
    let row = SMALLEST.replace("[1, 28, 28]", "[30]");
    for (file, augmentation, part) in [
        (
            &*SMALLEST,
            "random_affine = { degrees = 181 }",
            "data.augmentation.random_affine.degrees = 181: must be from 0 to 180",
        ),
        (
            &*SMALLEST,
            "color_jitter = { hue = 0.6 }",
            "data.augmentation.color_jitter.hue = 0.6: must be from 0 to 0.5",
        ),
        (
            &*SMALLEST,
            "mixup = { alpha = 0 }",
            "data.augmentation.mixup.alpha = 0: must be above 0",
        ),
        (
            &row,
            "cutmix = { alpha = 1 }",
            "data.augmentation.cutmix = {…}: changes images, and network.input is a row of numbers",
        ),
    ] {
        let text = format!("{file}[data.augmentation]\n{augmentation}\n");
        let error = RunConfig::from_toml(&text).unwrap_err().to_string();
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    for (file, augmentation) in [
        (
            &*SMALLEST,
            "cutmix = { alpha = 1 }\nrandom_erasing = {}\nrand_augment = {}",
        ),
        (&row, "mixup = { alpha = 0.2 }"),
    ] {
        let text = format!("{file}[data.augmentation]\n{augmentation}\n");
        let config = RunConfig::from_toml(&text).unwrap();
        assert!(config.data.augmentation.mixes());
        assert_eq!(RunConfig::from_toml(&config.to_toml()).unwrap(), config);
    }
}

#[test]
fn what_is_set_for_a_text_key_is_text() {
    let publish = "[publish]\nendpoint = \"h:1\"\nmodel = \"m\"\n[soft_targets]\n[teacher]\nendpoints = [\"h:1\"]";
    let overrides = [
        "publish.model=20240601",
        "soft_targets.teacher=12e4",
        "data.path=1.0",
        "soft_targets.folder=true",
        "teacher.encoding=f16",
        "phases[0].schedule.learning_rate=1e-2",
        "threads=0x2",
        "device=cuda:1",
    ];
    let text = format!("{}{publish}", *SMALLEST);
    let config = RunConfig::from_submitted(&text, &overrides.map(str::to_owned)).unwrap();
    let targets = config.soft_targets.as_ref().unwrap();
    assert_eq!(config.publish.as_ref().unwrap().model, "20240601");
    assert_eq!(targets.teacher.as_deref(), Some("12e4"));
    assert_eq!(targets.folder.as_deref(), Some(Path::new("true")));
    assert_eq!(config.data.path, Path::new("1.0"));
    assert_eq!((config.threads, config.device), (2, DeviceChoice::Cuda(1)));
    assert_eq!(RunConfig::from_toml(&config.to_toml()).unwrap(), config);
    let schedule = ScheduleConfig::Constant {
        learning_rate: 0.01,
    };
    assert_eq!(config.phases[0].schedule, schedule);
}

#[test]
fn a_ground_other_than_white_is_part_of_the_configuration() {
    let resolved = |ground: &str| {
        let overrides = [format!("data.ground={ground}")];
        RunConfig::from_submitted(&SMALLEST, &overrides)
            .map(|config| (config.data.ground, config.to_toml()))
    };
    let (white, default) = resolved("white").unwrap();
    assert_eq!(white, datasets::Ground::WHITE);
    // Files of earlier versions have no such key.
    assert_eq!(default, RunConfig::from_toml(&SMALLEST).unwrap().to_toml());
    assert!(!default.contains("ground"));
    let (orange, text) = resolved("#ff8000").unwrap();
    assert_eq!(orange, datasets::Ground([255, 128, 0]));
    assert_eq!(
        RunConfig::from_toml(&text).unwrap().data.spec().ground,
        orange
    );
    let error = resolved("colorful").unwrap_err().to_string();
    assert!(
        error.contains("data.ground") && error.contains("#rrggbb"),
        "{error}"
    );
}

#[test]
fn unknown_layers_losses_and_keys_are_named() {
    for (from, to, named) in [
        (
            "preset = \"mlp\"\nwidths = [8]",
            "layers = [{ type = \"swish\" }]",
            "swish",
        ),
        (
            "preset = \"mlp\"",
            "preset = \"transformer\"",
            "transformer",
        ),
        ("\"cross_entropy\"", "\"hinge\"", "hinge"),
        (
            "\"cross_entropy\"",
            "\"cross_entropy\", temperature = 1.0",
            "temperature",
        ),
        ("epochs = 1", "epoch = 1", "epoch"),
        (
            "[network]",
            "device = \"tpu\"\n[network]",
            "`tpu` is not a device",
        ),
    ] {
        let error = RunConfig::from_toml(&SMALLEST.replace(from, to)).unwrap_err();
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}

#[test]
fn baseline_and_student_differ_in_loss_and_teacher_only() {
    for (baseline, student) in [
        ("demo/baseline", "demo/student"),
        ("demo-quick/baseline", "demo-quick/student"),
        ("elpv/baseline", "elpv/student"),
        ("fashion-mnist/baseline-35k", "fashion-mnist/student-35k"),
        ("fashion-mnist/baseline-100k", "fashion-mnist/student-100k"),
    ] {
        let [baseline, mut distilled] =
            [baseline, student].map(|name| load(&format!("{name}.toml")));
        assert!(distilled.needs_teacher() && !baseline.needs_soft_targets());
        assert_ne!(distilled, baseline);
        distilled.teacher = None;
        distilled.soft_targets = None;
        for (phase, other) in distilled.phases.iter_mut().zip(&baseline.phases) {
            phase.loss = other.loss.clone();
        }
        assert_eq!(distilled, baseline, "{student}");
    }
}

#[test]
fn the_recipes_of_fashion_mnist_cost_what_the_documentation_says() {
    for (recipe, parameters, multiply_adds, most_parameters) in [
        ("teacher", 696_042, 80_508_672, u64::MAX),
        ("student-35k", 34_362, 6_532_528, 35_000),
        ("student-100k", 99_418, 16_505_168, 100_000),
    ] {
        let config = load(&format!("fashion-mnist/{recipe}.toml"));
        let found = networks::cost(&config.network).unwrap();
        let promised = networks::Cost {
            parameters,
            multiply_adds,
        };
        assert_eq!(found, promised, "{recipe}");
        assert!(found.parameters <= most_parameters, "{recipe}");
    }
}

#[test]
fn the_recipes_of_fashion_mnist_hold_out_the_same_images_and_share_a_recording() {
    let [teacher, small, large, ablation] = ["teacher", "student-35k", "student-100k", "ablation"]
        .map(|recipe| load(&format!("fashion-mnist/{recipe}.toml")));
    for config in [&teacher, &small, &ablation] {
        assert_eq!(config.data.validation_samples, 5000);
    }
    assert_eq!((&small.data, &small.teacher), (&large.data, &large.teacher));
    assert_eq!(small.soft_targets, large.soft_targets);
    assert_eq!(ablation.network, small.network);
}

/// `scripts/ablation` overrides both.
#[test]
fn a_list_replaces_a_recipes_loss_and_a_table_adds_to_its_augmentation() {
    let with = |loss: &str, augmentation: &str| {
        let overrides = [
            format!("phases[0].loss={loss}"),
            format!("data.augmentation={augmentation}"),
            "soft_targets.mode=recorded".to_owned(),
        ];
        let overrides = overrides.map(OsString::from);
        RunConfig::load(&configs("fashion-mnist/ablation.toml"), &overrides).unwrap()
    };
    let hard = "[{ kind = \"cross_entropy\" }]";
    let soft = "[{ kind = \"dist\", tau = 2 }, { kind = \"cross_entropy\" }]";
    let plain = with(hard, "{ pad = 2 }");
    assert!(!plain.needs_soft_targets() && !plain.data.augmentation.mixes());
    let mixed = with(soft, "{ pad = 2, mixup = { alpha = 0.2 } }");
    assert!(mixed.needs_soft_targets() && mixed.data.augmentation.mixes());
    assert!(mixed.data.augmentation.horizontal_flip);
    assert_eq!(mixed.phases[0].loss.terms().len(), 2);
}

/// `UPDATE_RESOLVED=1 cargo test --release -p student-trainer resolved` rewrites them.
#[test]
fn the_committed_resolved_configurations_are_up_to_date() {
    for name in ["teacher.toml", "baseline.toml", "student.toml"] {
        let resolved = load(&format!("demo/{name}")).to_toml();
        let path = configs("demo/resolved").join(name);
        if std::env::var_os("UPDATE_RESOLVED").is_some() {
            common::atomic_file::write(&path, resolved.as_bytes()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(committed, resolved, "{}", path.display());
    }
}

#[test]
fn what_recordings_need_is_checked() {
    let with = |teacher: &str, targets: &str| {
        let text = SMALLEST.replace("cross_entropy\"", "soft_cross_entropy\", temperature = 2.0");
        RunConfig::from_toml(&format!("{text}\n{teacher}\n[soft_targets]\n{targets}"))
    };
    let teacher = "[teacher]\nendpoints = [\"t:1\"]";
    let folder = "folder = \"f\"\nviews = 2";
    for (teacher, targets, part) in [
        (
            teacher,
            "mode = \"record\"",
            "soft_targets.folder = (none): is missing",
        ),
        (
            teacher,
            "mode = \"recorded\"",
            "soft_targets.views = (none): is missing",
        ),
        (
            teacher,
            "views = 0",
            "soft_targets.views = 0: must be from 1",
        ),
        (
            teacher,
            "views = 10001",
            "soft_targets.views = 10001: must be from 1 to 10000",
        ),
        (
            teacher,
            "samples_per_shard = 0",
            "soft_targets.samples_per_shard = 0",
        ),
        (teacher, "encoding = \"f8\"", "`f8` is not an encoding"),
        (
            teacher,
            "mode = \"record\"\nencoding = \"f16\"",
            "soft_targets.encoding = f16: must be teacher.encoding, f32",
        ),
        ("", "mode = \"record\"", "teacher = (none): is missing"),
    ] {
        let error = with(teacher, targets).unwrap_err().to_string();
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    for (settings, targets, part) in [
        (
            "numerics = \"any\"",
            format!("mode = \"record\"\n{folder}"),
            "teacher.numerics = any",
        ),
        (
            "",
            "fallback = \"recorded\"\nviews = 2".to_owned(),
            "soft_targets.fallback = recorded: needs soft_targets.folder",
        ),
        (
            "",
            format!("mode = \"record\"\nfallback = \"recorded\"\n{folder}"),
            "must be \"none\" unless",
        ),
        (
            "when_gone = \"hard_labels\"",
            folder.to_owned(),
            "teacher.when_gone = \"hard_labels\": unknown field `when_gone`",
        ),
    ] {
        let error = with(&format!("{teacher}\n{settings}"), &targets)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    // Replay needs no teacher.
    let config = with("", &format!("mode = \"recorded\"\n{folder}")).unwrap();
    assert!(!config.needs_teacher() && config.needs_soft_targets());
    assert_eq!(RunConfig::from_toml(&config.to_toml()).unwrap(), config);
}
