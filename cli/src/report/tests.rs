use std::fs;

use datasets::{InMemoryImages, Opened};

use crate::run_folder::tests::{EPOCH_1, STARTED, write_run};

use super::*;

#[test]
fn a_run_without_an_evaluation_has_curves_and_provenance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small student");
    write_run(&path, 2.0, &[STARTED, EPOCH_1], true);
    let html = of_run(&path).unwrap();
    for part in [
        "<h1>small student</h1>",
        "was distilled from the teacher 7e",
        "The run took 12.5 s.",
        "was not evaluated",
        "<dt>student&#39;s model id</dt><dd>57</dd>",
        "retort run --verify &#39;",
    ] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
    assert!(!html.contains("Confusion matrix"));

    write_run(&path, 2.0, &[STARTED], false);
    fs::remove_file(path.join("manifest.json")).unwrap();
    let html = of_run(&path).unwrap();
    assert!(html.contains("the run is not finished"), "{html}");
    let error = of_run(folder.path()).unwrap_err();
    assert_eq!(error.exit_code(), 64, "{error}");
}

#[test]
fn what_retort_distill_made_names_teacher_and_command_and_missing_data_is_said() {
    let folder = tempfile::tempdir().unwrap();
    write_run(&folder.path().join("run"), 2.0, &[], true);
    let summary =
        r#"{"teacher": "big.onnx", "command": "retort distill --teacher big.onnx", "seed": 1}"#;
    fs::write(folder.path().join("summary.json"), summary).unwrap();
    let model = r#"{"accuracy": 0.5, "predictions": [0, 0], "confidences": [0.9, 0.8]}"#;
    let evaluation = format!(
        r#"{{"samples": 2, "labels": [0, 1], "models": {{"student": {model}, "teacher": {model}}}}}"#
    );
    fs::write(folder.path().join(Evaluation::FILE), evaluation).unwrap();
    let html = of_run(folder.path()).unwrap();
    for part in [
        "was distilled from big.onnx",
        "<pre>retort distill --teacher big.onnx</pre>",
        "Measured on 2 samples",
        "Without pictures of the samples",
        "1 of the samples",
    ] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
}

#[test]
fn models_are_evaluated_on_the_test_split_or_what_was_held_out() {
    let names: Vec<String> = ["cat", "dog"].map(str::to_owned).to_vec();
    let images = |count: usize| {
        let labels = vec![Some(0); count];
        let images = InMemoryImages::new([1, 1, 1], names.clone(), vec![0; count], labels);
        std::sync::Arc::new(images) as std::sync::Arc<dyn Source>
    };
    let opened = |validation: Option<usize>, test: Option<usize>| Opened {
        train: images(10),
        validation: validation.map(images),
        test: test.map(images),
        unreadable: vec![],
    };
    for (validation, test, held_out, expected) in [
        (Some(3), Some(2), 0, Some(2)),
        (Some(3), None, 0, Some(3)),
        (Some(3), None, 4, Some(4)),
        (None, None, 4, Some(4)),
        (None, None, 0, None),
    ] {
        let found = opened(validation, test).to_evaluate(held_out).unwrap();
        assert_eq!(found.map(|samples| samples.len()), expected);
    }
}
