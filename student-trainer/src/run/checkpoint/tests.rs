use std::fs;

use networks::onnx::{Range, Ranges};

use super::*;

pub fn network() -> NetworkSpec {
    let spec = "input = [1, 4, 4]\nclasses = 2\npreset = \"cnn\"\nwidths = [3]";
    toml::from_str(spec).unwrap()
}

/// A state after `step` steps, `score` the validation accuracy of an epoch that ends there.
pub fn checkpoint(step: u64, score: Option<f64>) -> Checkpoint {
    let weights = Weights::initial(&network(), step).unwrap();
    let tensors = weights.iter();
    let velocities = tensors.map(|(name, tensor)| (name.to_owned(), tensor.clone()));
    let optimizer = BTreeMap::from([("velocity".to_owned(), velocities.collect())]);
    let last_epoch = crate::engine::EpochSummary {
        train_loss: 1.0 / 3.0,
        train_accuracy: Some(0.1),
        validation_accuracy: score,
    };
    Checkpoint {
        run: RunProgress {
            step,
            phase: 0,
            kind: PhaseKind::Distill,
            phases: Vec::new(),
            circumstances: Circumstances {
                threads: 1,
                numerics: "f32 on cpu".into(),
                probe_sha256: "p".into(),
                dataset: "d".into(),
                initial_weights: Some(Sha256::of(b"w")),
            },
            teacher: None,
            class_order: None,
            teachers: BTreeMap::new(),
            bit_reproducible: true,
            metrics_bytes: 12,
            seconds: 0.1 + 0.2,
        },
        phase: PhaseState {
            progress: PhaseProgress {
                epoch: 1,
                step: u64::from(score.is_none()),
                last_epoch: Some(last_epoch),
                ..PhaseProgress::default()
            },
            optimizer,
            ema: None,
            best: None,
            ranges: None,
            weights,
        },
    }
}

#[test]
fn what_is_read_is_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.safetensors");
    let written = checkpoint(7, None);
    written.write(&file).unwrap();
    assert_eq!(Checkpoint::read(&file, &network()).unwrap(), written);
}

/// With everything that a checkpoint may contain.
fn full(step: u64) -> Checkpoint {
    let mut checkpoint = checkpoint(step, Some(0.5));
    let PhaseState {
        progress,
        optimizer,
        ema,
        best,
        ranges,
        ..
    } = &mut checkpoint.phase;
    let velocities = optimizer.remove("velocity").unwrap();
    let squares = ("exp_avg_sq".to_owned(), velocities.clone());
    *optimizer = BTreeMap::from([("exp_avg".to_owned(), velocities), squares]);
    let identity = TeacherIdentity {
        model_id: "m".to_owned(),
        numerics: "n".to_owned(),
        probe_sha256: "p".to_owned(),
    };
    let used = UsedTeacher {
        identity,
        class_order: Some(Sha256::of(b"o")),
    };
    checkpoint.run.teachers = BTreeMap::from([("big".to_owned(), used)]);
    *ema = Some(Weights::initial(&network(), step + 1).unwrap());
    *best = Some(Weights::initial(&network(), step + 2).unwrap());
    let range = Range {
        min: -1.0 / 3.0,
        max: f32::MIN_POSITIVE / 3.0,
    };
    *ranges = Some(Ranges::from([("layers.0.output".to_owned(), range)]));
    progress.best_epoch = Some(crate::engine::BestEpoch {
        epoch: 1,
        summary: progress.last_epoch.unwrap(),
    });
    checkpoint
}

#[test]
fn averages_best_weights_and_every_slot_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.safetensors");
    full(7).write(&file).unwrap();
    assert_eq!(Checkpoint::read(&file, &network()).unwrap(), full(7));
}

#[test]
fn a_phase_without_them_has_the_tensors_and_the_state_of_older_versions() {
    let checkpoint = checkpoint(7, Some(0.5));
    let none = BTreeMap::new();
    let tensors = checkpoint.tensors(&none);
    let slots = tensors.keys().map(|name| name.split('.').next().unwrap());
    let slots: std::collections::BTreeSet<_> = slots.collect();
    assert!(slots.into_iter().eq(["network", "velocity"]));
    let progress = serde_json::to_value(&checkpoint.phase.progress).unwrap();
    assert!(progress.get("best_epoch").is_none(), "{progress}");
    let run = serde_json::to_value(&checkpoint.run).unwrap();
    assert!(run.get("teachers").is_none(), "{run}");
}

#[test]
fn every_flipped_byte_and_every_truncation_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.safetensors");
    checkpoint(7, None).write(&file).unwrap();
    let whole = fs::read(&file).unwrap();
    for position in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[position] ^= 1;
        match Checkpoint::parse(&flipped, &network()) {
            Err(_) => {}
            // JSON between tokens, and padding, may be written otherwise.
            Ok(read) => assert_eq!(read, checkpoint(7, None), "byte {position}"),
        }
    }
    for length in (0..whole.len()).step_by(7) {
        let read = Checkpoint::parse(&whole[..length], &network());
        assert!(read.is_err(), "{length} bytes");
    }
}

#[test]
fn a_checkpoint_of_an_older_version_is_read_unless_it_trained_without_a_teacher() {
    let Checkpoint { run, phase } = checkpoint(7, None);
    let state = to_json(&State {
        run,
        phase: phase.progress.clone(),
    });
    let read = |from: &str, to: &str| {
        assert!(state.contains(from), "{state}");
        let state = state.replacen(from, to, 1);
        let sha256 = Sha256::of(state.as_bytes());
        let text = format!("{{\"format_version\":1,\"sha256\":\"{sha256}\",\"state\":{state}}}");
        read_envelope(&text).map(|(_, read_json, read)| {
            assert_eq!(read_json, state);
            read.phase
        })
    };
    let older = "\"hard_label_steps\":[],\"epoch_seconds\"";
    assert_eq!(read("\"epoch_seconds\"", older).unwrap(), phase.progress);
    let steps = "\"hard_label_steps\":[[3,5]],\"epoch_seconds\"";
    let phases = "\"phases\":[{\"hard_label_batches\":2}]";
    for (from, to) in [("\"epoch_seconds\"", steps), ("\"phases\":[]", phases)] {
        let error = read(from, to).unwrap_err().to_string();
        assert!(error.contains("teacher.when_gone"), "{error}");
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let text = r#"{"format_version": 2, "what": "ever"}"#;
    let error = read_envelope(text).err().unwrap().to_string();
    assert!(
        error.contains("format_version 2 is newer than 1"),
        "{error}"
    );
}
