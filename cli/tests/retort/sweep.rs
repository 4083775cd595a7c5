//! `retort sweep` with a trainer service, a teacher and a recording.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use test_support::{
    Teacher, built_beside,
    run_toml::{PhaseToml, RunToml, SOFT_CROSS_ENTROPY},
    write_artifact, write_idx,
};

use crate::{distill::text, init::start};

const RATES: [&str; 2] = ["0.001", "0.1"];
const FIRST_SEED: i64 = 5;
/// Training samples, besides those for validation.
const SAMPLES: usize = 200;
const VALIDATION_SAMPLES: usize = 40;
const BATCH: usize = 40;
const VIEWS: usize = 2;

/// Writes the data, the teacher's artifact and the configuration of the runs.
fn write_files(folder: &Path, teacher: &Path) {
    write_idx(&folder.join("data"), SAMPLES + VALIDATION_SAMPLES, [8, 8]);
    let network = "input = [1, 8, 8]\nclasses = 10\npreset = \"cnn\"\nwidths = [8]";
    write_artifact(teacher, network, 1);
    fs::create_dir(folder.join("targets")).unwrap();
}

fn config(folder: &Path, teacher: &Teacher) -> String {
    let tables = format!(
        "[data]\npath = {:?}\nvalidation_samples = {VALIDATION_SAMPLES}\n\
         [soft_targets]\nmode = \"record\"\nviews = {VIEWS}\nfolder = {:?}\nsamples_per_shard = {BATCH}\n\
         [teacher]\nendpoints = [\"{}\"]\n\
         [export]\nonnx = false",
        folder.join("data").display().to_string(),
        folder.join("targets").display().to_string(),
        teacher.grpc,
    );
    let config = RunToml {
        keys: &format!("seed = {FIRST_SEED}\nthreads = 1\nprecision = \"f32\""),
        network: "input = [1, 8, 8]\nclasses = 10\npreset = \"cnn\"\nwidths = [4]",
        phases: &[PhaseToml {
            epochs: 3,
            batch_size: BATCH,
            loss: SOFT_CROSS_ENTROPY,
            ..PhaseToml::default()
        }],
        tables: &tables,
    };
    config.to_string()
}

fn sweep(folder: &Path, trainer: &str) -> Output {
    let over = format!("schedule.learning_rate={}", RATES.join(","));
    let mut command = Command::new(env!("CARGO_BIN_EXE_retort"));
    command.arg("sweep").arg(folder.join("run.toml"));
    command.args(["--over", &over, "--seeds", "2", "--trainer", trainer]);
    command.output().unwrap()
}

/// The rows of the table at the end of the output, without the headings.
fn rows(output: &Output) -> Vec<Vec<String>> {
    assert!(output.status.success(), "{}", text(output));
    let printed = String::from_utf8_lossy(&output.stdout);
    let lines = printed
        .lines()
        .skip_while(|line| !line.starts_with("  setting "));
    let cells = |line: &str| -> Vec<String> {
        let cells = line.split("  ").map(str::trim);
        cells
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    lines.skip(1).map(cells).collect()
}

/// Validation accuracy and training loss after the last epoch of each run, by learning rate and seed.
fn figures(runs: &Path) -> BTreeMap<(String, i64), [f64; 2]> {
    let folders = fs::read_dir(runs)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let of_run = |folder: &Path| {
        let config = fs::read_to_string(folder.join("config.toml")).unwrap();
        let config: toml::Table = config.parse().unwrap();
        let rate = config["phases"][0]["schedule"]["learning_rate"].as_float();
        let log = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        let events = log
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut epochs = events.filter(|event| event["event"] == "epoch_finished");
        let last = epochs.next_back().unwrap();
        let setting = (
            rate.unwrap().to_string(),
            config["seed"].as_integer().unwrap(),
        );
        let figures = ["validation_accuracy", "train_loss"].map(|key| last[key].as_f64().unwrap());
        (setting, figures)
    };
    folders
        .filter(|folder| folder.join("config.toml").exists())
        .map(|folder| of_run(&folder))
        .collect()
}

/// Compares "mean ± deviation" with that of two values.
fn check(cell: &str, [a, b]: [f64; 2], digits: i32) {
    let numbers: Vec<f64> = cell
        .trim_end_matches(" %")
        .split(" ± ")
        .map(|number| number.parse().unwrap())
        .collect();
    let expected = [(a + b) / 2.0, (a - b).abs() / 2_f64.sqrt()];
    assert_eq!(numbers.len(), 2, "{cell}");
    for (found, expected) in numbers.iter().zip(expected) {
        let difference = (found - expected).abs();
        assert!(
            difference <= 0.5001 * 10_f64.powi(-digits),
            "{cell} {expected}"
        );
    }
}

#[test]
fn every_setting_has_the_figures_of_its_runs_and_all_runs_share_one_recording() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_files(folder.path(), &path("teacher"));
    let binary = built_beside(env!("CARGO_BIN_EXE_retort"), "teacher-service");
    let teacher = Teacher::start(&binary, &path("teacher"), &[]);
    fs::write(path("run.toml"), config(folder.path(), &teacher)).unwrap();
    let settings = [
        format!("--set=runs_folder={}", path("runs").display()),
        format!(
            "--set=allowed_folders=[{:?}]",
            folder.path().display().to_string()
        ),
    ];
    let (_trainer, trainer) = start("student-trainer", folder.path(), &settings);

    let table = rows(&sweep(folder.path(), &trainer));
    let runs = figures(&path("runs"));
    assert_eq!((table.len(), runs.len()), (RATES.len(), 4), "{table:?}");
    for (row, rate) in table.iter().zip(RATES) {
        assert_eq!(row[0], format!("schedule.learning_rate={rate}"));
        assert_eq!(row[1], "2");
        let of_seed = |seed: i64| runs[&(rate.to_owned(), seed)];
        let [first, second] = [FIRST_SEED, FIRST_SEED + 1].map(of_seed);
        assert_ne!(first[1], second[1], "the seed changes nothing");
        check(&row[2], [100.0 * first[0], 100.0 * second[0]], 2);
        check(&row[3], [first[1], second[1]], 4);
    }
    assert_ne!(
        table[0][3], table[1][3],
        "the learning rate changes nothing"
    );

    // The first run asked for each view once, in batches that fill a shard; the others read the recording.
    assert_eq!(teacher.answered(), (VIEWS * SAMPLES / BATCH) as f64);
    let recordings = fs::read_dir(path("targets")).unwrap();
    let recordings = recordings.map(|entry| entry.unwrap().path());
    let recordings = recordings.filter(|recording| recording.join("recording.json").exists());
    assert_eq!(recordings.count(), 1);

    // The same command finds its runs.
    assert_eq!(rows(&sweep(folder.path(), &trainer)), table);
    assert_eq!(figures(&path("runs")), runs);
}
