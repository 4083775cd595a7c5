use std::fs;

use super::*;

/// Writes the folder of a run of two phases; `events` are lines of its log.
pub(crate) fn write_run(path: &Path, temperature: f64, events: &[&str], finished: bool) {
    fs::create_dir_all(path).unwrap();
    let config = format!(
        "seed = 1\nthreads = 2\n\
         [network]\ninput = [1, 8, 8]\nclasses = 2\npreset = \"cnn\"\nwidths = [4]\n\
         [data]\npath = \"digits\"\nclass_names = [\"cat\", \"dog\"]\n\
         [[phases]]\nepochs = 2\nbatch_size = 16\n\
         loss = {{ kind = \"soft_cross_entropy\", temperature = {temperature:?} }}\n\
         [[phases]]\nepochs = 1\nbatch_size = 16\nloss = {{ kind = \"cross_entropy\" }}\n"
    );
    fs::write(path.join(CONFIG), config).unwrap();
    fs::write(path.join("metrics.jsonl"), events.join("\n")).unwrap();
    if finished {
        let manifest = serde_json::json!({
            "format_version": 1, "seed": 1, "config_sha256": "c0", "threads": 2, "numerics": "f32",
            "retort_version": "0.1.0", "dataset": "da", "train_samples": 90, "validation_samples": 10,
            "teacher": {"model_id": "7e", "numerics": "f32", "probe_sha256": "9"},
            "bit_reproducible": true, "model_id": "57", "seconds": 12.5,
        });
        fs::write(path.join("manifest.json"), manifest.to_string()).unwrap();
    }
}

pub(crate) const STARTED: &str =
    r#"{"event":"phase_started","phase":0,"kind":"distill","epochs":2,"steps_per_epoch":10}"#;
pub(crate) const EPOCH_1: &str = r#"{"event":"epoch_finished","phase":0,"epoch":1,"train_loss":0.5,"train_accuracy":null,"validation_accuracy":0.75,"learning_rate":0.1,"seconds":2.0}"#;
pub(crate) const EPOCH_2: &str = r#"{"event":"epoch_finished","phase":0,"epoch":2,"train_loss":0.25,"train_accuracy":0.5,"validation_accuracy":0.8,"learning_rate":0.1,"seconds":2.5}"#;

#[test]
fn a_finished_and_an_unfinished_run_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student");
    let notice = r#"{"event":"notice","text":"a teacher is away"}"#;
    let newer = r#"{"event":"epoch_finished","phase":0,"epoch":2,"train_loss":0.25,"train_accuracy":0.5,"validation_accuracy":0.8,"learning_rate":0.1,"seconds":2.5,"gradient_norm":1.0}"#;
    write_run(
        &path,
        2.0,
        &[STARTED, EPOCH_1, notice, newer, "{\"event"],
        false,
    );
    let run = RunFolder::read(&path).unwrap();
    assert_eq!(run.name(), "student");
    let [phase] = &run.history.phases[..] else {
        panic!("{:?}", run.history)
    };
    assert_eq!(phase.epochs.len(), 2);
    assert!(phase.epochs[0].unlabelled && !phase.epochs[1].unlabelled);
    assert_eq!(run.seconds(), 4.5);
    assert_eq!(run.planned_epochs(), [2, 1]);
    assert!(run.quantization_aware_phases().is_empty());
    assert!(run.manifest.is_none());
    let network = "input = [1, 8, 8]\nclasses = 2\npreset = \"cnn\"\nwidths = [4]";
    let cost = networks::cost(&NetworkSpec::from_toml(network).unwrap()).unwrap();
    assert_eq!(run.figures().parameters, Some(cost.parameters));
    assert_eq!(run.figures().accuracy, None);

    write_run(&path, 2.0, &[STARTED, EPOCH_1], true);
    let run = RunFolder::read(&path).unwrap();
    assert_eq!(run.seconds(), 12.5);
    assert_eq!(run.manifest.unwrap().teacher.unwrap().model_id, "7e");

    let file = path.join(CONFIG);
    let config = fs::read_to_string(&file).unwrap() + "quantization_aware = true\n";
    fs::write(file, config).unwrap();
    let run = RunFolder::read(&path).unwrap();
    assert_eq!(run.quantization_aware_phases(), [2]);
}

#[test]
fn the_evaluation_of_a_run_is_in_its_folder_or_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = |accuracy: f64| serde_json::json!({"accuracy": accuracy, "agreement": 0.5, "parameters": 54, "predictions": [1]});
    let evaluation = serde_json::json!({
        "samples": 1, "labels": [1],
        "models": {"student": model(0.25), "baseline": model(0.75)},
    });
    fs::write(folder.path().join(Evaluation::FILE), evaluation.to_string()).unwrap();
    for (name, accuracy) in [("baseline", 0.75), ("run", 0.25)] {
        let path = folder.path().join(name);
        write_run(&path, 2.0, &[], true);
        let run = RunFolder::read(&path).unwrap();
        assert_eq!(run.figures().accuracy, Some(accuracy), "{name}");
    }
    // Its student is another run's.
    let path = folder.path().join("other");
    write_run(&path, 2.0, &[], true);
    assert_eq!(RunFolder::read(&path).unwrap().figures().accuracy, None);
    // The folder that `retort distill` made.
    let run = RunFolder::read(folder.path()).unwrap();
    assert_eq!(run.path, folder.path().join("run"));
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(run.name(), name);
}

#[test]
fn what_is_damaged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = RunFolder::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("holds no run"), "{error}");
    let url = Path::new("s3://bucket/runs/student");
    let error = RunFolder::read(url).unwrap_err().to_string();
    let how = "student-trainer fetch s3://bucket/runs/student FOLDER";
    assert!(error.contains(how), "{error}");
    for (file, content, problem) in [
        ("config.toml", "seed =", "config.toml: "),
        ("manifest.json", "{", "manifest.json: "),
        ("evaluation.json", "[]", "evaluation.json"),
    ] {
        let path = folder.path().join(file.replace('.', "-"));
        write_run(&path, 2.0, &[], true);
        fs::write(path.join(file), content).unwrap();
        let error = RunFolder::read(&path).unwrap_err().to_string();
        assert!(error.contains(problem) && !error.contains('\n'), "{error}");
    }
}
