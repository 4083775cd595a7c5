//! Runs models that Retort exports in ONNX Runtime.

use networks::{
    NetworkSpec, Weights,
    onnx::{Standardization, export_standardized},
};
use onnx_runtime::{
    Interrupt, Latency, Limits, Session, SessionError, SessionOptions, check_model,
};

fn exported() -> Vec<u8> {
    let spec = NetworkSpec::from_toml(
        r#"
        input = [1, 8, 8]
        classes = 3
        preset = "cnn"
        widths = [4]
        "#,
    )
    .expect("the spec is valid");
    let weights = Weights::initial(&spec, 1).expect("the spec is valid");
    networks::onnx::export(&spec, &weights).expect("the weights fit")
}

fn images(count: usize) -> Vec<f32> {
    (0..count * 64).map(|i| (i % 97) as f32 / 97.0).collect()
}

#[test]
fn a_sample_has_the_same_logits_alone_and_in_a_batch() {
    let onnx = exported();
    let checked = check_model(&onnx, &Limits::default()).expect("the model passes");
    let interface = checked.interface;
    for threads in [1, 2] {
        let mut session = Session::load(&onnx, SessionOptions { threads }).expect("it loads");
        assert_eq!(*session.interface(), interface);
        let input = images(5);
        let batch = session.run(&input, 5).expect("it runs");
        assert_eq!(batch.len(), 15);
        for (sample, expected) in input.chunks(64).zip(batch.chunks(3)) {
            let alone = session.run(sample, 1).expect("it runs");
            for (a, b) in alone.iter().zip(expected) {
                assert!((a - b).abs() <= 1e-5, "{alone:?} {expected:?}");
            }
        }
    }
}

#[test]
fn an_exported_model_of_rows_standardizes_them() {
    let spec = "input = [3]\nclasses = 2\npreset = \"mlp\"\nwidths = [4]";
    let spec = NetworkSpec::from_toml(spec).expect("the spec is valid");
    let weights = Weights::initial(&spec, 1).expect("the spec is valid");
    let (mean, std) = ([100.0_f32, 0.0, -3.0], [25.0_f32, 1.0, 0.125]);
    let standardization = Standardization {
        mean: &mean,
        std: &std,
    };
    let standardized = export_standardized(&spec, &weights, standardization).expect("they fit");
    let plain = networks::onnx::export(&spec, &weights).expect("the weights fit");
    let rows = [90.0_f32, 0.5, -3.25, 131.0, -2.0, -2.5];
    let by_hand: Vec<f32> = rows
        .iter()
        .zip(mean.iter().zip(&std).cycle())
        .map(|(x, (mean, std))| (x - mean) / std)
        .collect();
    let run = |onnx: &[u8], input: &[f32]| {
        let mut session = Session::load(onnx, SessionOptions::default()).expect("it loads");
        assert_eq!(session.interface().sample, [3]);
        session.run(input, 2).expect("it runs")
    };
    assert_eq!(run(&standardized, &rows), run(&plain, &by_hand));
    assert_ne!(run(&standardized, &rows), run(&plain, &rows));
}

#[test]
fn the_error_for_a_wrong_input_size_names_both_sizes() {
    let mut session = Session::load(&exported(), SessionOptions::default()).expect("it loads");
    for (values, batch, expected) in [(0, 0, 64), (63, 1, 64), (64, 2, 128), (128, 1, 64)] {
        let error = session
            .run(&vec![0.0; values], batch)
            .expect_err("it is refused");
        let SessionError::InputSize {
            found,
            expected: needed,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((found, needed), (values, expected));
    }
    assert_eq!(session.run(&images(1), 1).expect("it still runs").len(), 3);
}

#[test]
fn the_latency_of_a_model_lies_between_that_of_its_fastest_and_slowest_series() {
    let Latency {
        median,
        least,
        most,
    } = Latency::measure(&exported()).expect("it runs");
    assert!(
        0.0 < least && least <= median && median <= most,
        "{least} {median} {most}"
    );
    assert!(Latency::measure(b"no model").is_err());
}

#[test]
fn bytes_that_are_not_a_model_do_not_load() {
    let error = Session::load(b"no model", SessionOptions::default()).expect_err("it is refused");
    assert!(matches!(error, SessionError::Load(_)), "{error}");
}

#[test]
fn an_interrupt_stops_runs_permanently_and_leaves_the_session_usable() {
    let mut session = Session::load(&exported(), SessionOptions::default()).expect("it loads");
    let interrupt = Interrupt::new().expect("the library is there");
    let logits = session.run(&images(1), 1).expect("it runs");
    let same = session.run_unless(&interrupt, &images(1), 1);
    assert_eq!(same.as_ref(), Ok(&logits));

    interrupt.interrupt();
    for _ in 0..2 {
        let ended = session.run_unless(&interrupt, &images(1), 1);
        assert_eq!(ended, Err(SessionError::Interrupted));
    }
    assert_eq!(session.run(&images(1), 1), Ok(logits));
}
