//! Compares a sample's bits across batch sizes.

use networks::{NetworkSpec, Weights};
use onnx_runtime::{Session, SessionOptions};

const LARGEST: usize = 64;
const NETWORKS: [(&str, &str); 3] = [
    (
        "cnn",
        "preset = \"cnn\"\nwidths = [8, 16]\nstrides = [2, 1]",
    ),
    ("resnet", "preset = \"resnet\"\nwidths = [8, 16]"),
    ("mlp", "preset = \"mlp\"\nwidths = [64, 32]"),
];

/// The bits of the logits of `input`, computed in batches of `size`.
fn bits(session: &mut Session, input: &[f32], size: usize) -> Vec<u32> {
    let sample = session.interface().sample_values();
    let batches = input.chunks(size * sample);
    let logits = batches.flat_map(|batch| {
        let logits = session.run(batch, batch.len() / sample);
        logits.expect("it runs")
    });
    logits.map(f32::to_bits).collect()
}

/// A sample's bits may depend on the size of its batch, but not on its position or on the other
/// samples. Prints the sizes that agree with a batch of 1, which `deterministic` models use.
#[test]
fn a_batch_of_one_gives_the_same_bits_every_time() {
    for (name, layers) in NETWORKS {
        let spec = format!("input = [1, 14, 14]\nclasses = 10\n{layers}");
        let spec = NetworkSpec::from_toml(&spec).expect("the spec is valid");
        let weights = Weights::initial(&spec, 1).expect("the spec is valid");
        let onnx = networks::onnx::export(&spec, &weights).expect("the weights fit");
        let load = || Session::load(&onnx, SessionOptions::default()).expect("it loads");
        let (mut session, mut other) = (load(), load());
        let values = LARGEST * session.interface().sample_values();
        let input: Vec<f32> = (0..values)
            .map(|i| (i * 2_654_435_761 % 1009) as f32 / 1009.0 - 0.5)
            .collect();
        let alone = bits(&mut session, &input, 1);
        let agreeing: Vec<_> = (1..=LARGEST)
            // Use full batches only: a shorter last batch would have another size.
            .filter(|size| {
                let whole = LARGEST / size * size;
                let input = &input[..whole * session.interface().sample_values()];
                let found = bits(&mut session, input, *size);
                alone.starts_with(&found)
            })
            .collect();
        println!("{name}: as in a batch of 1: {agreeing:?}");
        assert_eq!(
            bits(&mut session, &input, 1),
            alone,
            "{name}: after other sizes"
        );
        assert_eq!(
            bits(&mut other, &input, 1),
            alone,
            "{name}: in another session"
        );
    }
}
