//! The command as a process.

use std::{
    fs,
    process::{Command, Output},
};

use networks::onnx::schema::ModelProto;
use serde_json::Value;

use super::{
    NCHW, NCHW_AXES, Scene,
    models::{self, IMAGENET, UNIT, teacher, with_softmax, write},
};
use crate::support::{BINARY, SMALL, write_artifact};

impl Scene {
    fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command
            .current_dir(self.0.path())
            .arg("inspect")
            .args(arguments);
        command
            .args(["--set", "compute.threads=1"])
            .output()
            .unwrap()
    }
}

fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

#[test]
fn the_command_prints_text_or_json_and_assumes_what_is_missing() {
    let scene = Scene::new();
    scene.teacher(&with_softmax(teacher(IMAGENET, &NCHW, NCHW_AXES)));
    let described = scene.command(&["teacher.onnx"]);
    let said = text(&described);
    assert!(described.status.success(), "{said}");
    for line in [
        "model:        teacher.onnx (ONNX)",
        "input:        `input` FP32 [batch, 3, 6, 6]",
        "output:       `probabilities` FP32 [batch, 6]",
        "parameters:   24",
        "operators:    1 Gemm, 1 ReduceMean, 1 Softmax",
        "classes:      6: class 0, class 1, class 2, class 3, class 4, class 5",
        "missing:      the model does not say the order of its channels; assumed here: \
         model.preprocessing.channel_order = \"rgb\"",
        "missing:      the model does not say whether its output is logits or probabilities; assumed here: \
         model.preprocessing.output = \"probabilities\"",
    ] {
        assert!(
            said.lines().any(|found| found == line),
            "{line:?} is not in:\n{said}"
        );
    }
    assert!(
        said.contains("values:       probabilities (noise gives"),
        "{said}"
    );

    let tried = scene.command(&[
        "teacher.onnx",
        "--data",
        "pictures",
        "--set",
        "model.preprocessing.channel_order=bgr",
    ]);
    let said = text(&tried);
    assert!(tried.status.success(), "{said}");
    for part in [
        "accuracy:",
        "among the five most likely",
        "calibration:",
        "confusion:",
        "- red and blue are swapped: ",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    assert!(
        said.contains("\n    model.preprocessing.channel_order = \"rgb\"\n"),
        "{said}"
    );

    let arguments = [
        "teacher.onnx",
        "--data",
        "pictures",
        "--json",
        "--samples",
        "60",
    ];
    let output = scene.command(&arguments);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["data"]["samples"], 60);
    assert!(
        json["data"]["fit"]["accuracy"].as_f64().unwrap() > 0.8,
        "{json}"
    );
    assert_eq!(json["model"]["values"]["kind"], "probabilities");
    assert_eq!(json["hints"], Value::Array(vec![]));
    // The same command finds the same.
    assert_eq!(scene.command(&arguments).stdout, output.stdout);
}

#[test]
fn models_that_cannot_be_served_are_described_all_the_same() {
    let scene = Scene::new();
    let colors = teacher(UNIT, &NCHW, NCHW_AXES);
    let describe = |model: &ModelProto| {
        scene.teacher(model);
        let output = scene.command(&["teacher.onnx"]);
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let foreign = describe(&models::with_operator(
        colors.clone(),
        "Blend",
        "my.company",
    ));
    for part in [
        "input:        unknown",
        "operators:    1 Gemm, 1 my.company.Blend",
        "problem:      teacher.onnx: ONNX Runtime cannot load the model",
        "problem:      operators that ONNX Runtime does not have: my.company.Blend",
    ] {
        assert!(foreign.contains(part), "{part} is not in:\n{foreign}");
    }
    let refused = scene.command(&["teacher.onnx", "--data", "pictures"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused).contains("was not tried on the data"),
        "{}",
        text(&refused)
    );

    let sequence = describe(&models::bytes_teacher());
    for part in [
        "input:        `input` INT32 [batch, 16]",
        "values:       probabilities",
        "needs a student for sequences, which Retort does not have yet",
        "may not have the operators Cast",
    ] {
        assert!(sequence.contains(part), "{part} is not in:\n{sequence}");
    }

    let mut two = colors;
    let graph = two.graph.as_mut().unwrap();
    let mut second = graph.input[0].clone();
    second.name = Some("mask".to_owned());
    graph.input.push(second);
    let two = describe(&two);
    assert!(
        two.contains("`mask` FP32")
            && two.contains("problem:      teacher.onnx: a teacher has one input"),
        "{two}"
    );

    fs::write(scene.path("weights.pth"), b"\x80\x02}q\x00.").unwrap();
    let pickled = scene.command(&["weights.pth"]);
    assert_eq!(pickled.status.code(), Some(1));
    assert!(
        text(&pickled).contains("Convert a state dict with"),
        "{}",
        text(&pickled)
    );
    let missing = scene.command(&["nowhere.onnx"]);
    assert!(
        text(&missing).contains("cannot read nowhere.onnx"),
        "{}",
        text(&missing)
    );
}

#[test]
fn a_network_of_a_run_knows_its_card() {
    let scene = Scene::new();
    write_artifact(&scene.path("artifact"), SMALL, 1);
    let output = scene.command(&["artifact", "--data", "pictures"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for part in [
        "artifact (artifact of a run)",
        "card:         (x / 255 - mean) / std",
        "parameters:",
        "confidence:",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    let model = models::teacher(UNIT, &NCHW, NCHW_AXES);
    write(&scene.path("rows.onnx"), &model);
    fs::write(scene.path("rows.csv"), "a,b,label\n1,2,x\n3,4,y\n").unwrap();
    let misfit = scene.command(&["rows.onnx", "--data", "rows.csv"]);
    assert_eq!(misfit.status.code(), Some(1));
    assert!(
        text(&misfit).contains("but the data has `samples` FP32 [batch, 2]"),
        "{}",
        text(&misfit)
    );
}
