//! Whatever the bytes are, a model is refused or what was checked is what is loaded.

use networks::{
    NetworkSpec, Weights,
    onnx::{Standardization, export_standardized},
};
use proptest::prelude::*;

use super::*;

use test_support::damage::{cases, foreign, in_modest_memory, nested_messages};

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    nodes: 1000,
    fields: 100_000,
    attribute: 4096,
    batch: 4,
    activation_bytes: 1 << 24,
    operations: 1 << 32,
};

/// Small networks as Retort exports them, with every kind of layer between them.
fn exported() -> Vec<Vec<u8>> {
    let presets = [
        "preset = \"resnet\"\nwidths = [2, 3]",
        "preset = \"mlp\"\nwidths = [2]",
        "preset = \"cnn\"\nwidths = [2, 2]\ndropout = 0.5",
    ];
    let export = |preset: &str| {
        let spec = NetworkSpec::from_toml(&format!("input = [1, 8, 8]\nclasses = 3\n{preset}"));
        let spec = spec.unwrap();
        networks::onnx::export(&spec, &Weights::initial(&spec, 1).unwrap()).unwrap()
    };
    let mut models = presets.map(export).to_vec();
    let rows = "input = [3]\nclasses = 2\npreset = \"mlp\"\nwidths = [2]";
    let rows = NetworkSpec::from_toml(rows).unwrap();
    let standardization = Standardization {
        mean: &[1.0, 2.0, 3.0],
        std: &[0.5; 3],
    };
    let weights = Weights::initial(&rows, 1).unwrap();
    models.push(export_standardized(&rows, &weights, standardization).unwrap());
    models
}

/// Nodes in a graph and in the graphs within it.
fn nodes(graph: &GraphProto) -> usize {
    let within = graph.node.iter().flat_map(|node| &node.attribute);
    let within = within.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    graph.node.len() + within.map(nodes).sum::<usize>()
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn a_model_from_anywhere_is_checked_or_refused(onnx in foreign(exported())) {
        let checked = in_modest_memory(|| check_model(&onnx, &LIMITS));
        match checked {
            Ok(checked) => {
                let again = ModelProto::decode(onnx.as_slice()).unwrap().encode_to_vec();
                prop_assert!(checked.activation_bytes <= LIMITS.activation_bytes);
                prop_assert_eq!(check_model(&again, &LIMITS), Ok(checked));
            }
            Err(error) => prop_assert!(error.to_string().len() < 2000, "{}", error),
        }
    }

    #[test]
    fn no_node_escapes_the_count(onnx in foreign(exported())) {
        let Ok(model) = ModelProto::decode(onnx.as_slice()) else {
            return Ok(());
        };
        let unlimited = Census { nodes: usize::MAX, fields: usize::MAX, depth: usize::MAX };
        let census = wire::measure(&onnx, &unlimited).unwrap();
        let decoded = model.graph.as_ref().map_or(0, nodes);
        prop_assert!(census.nodes >= decoded, "{:?} for {} nodes", census, decoded);
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn messages_within_messages_end_no_thread(
        path in proptest::sample::select(PATHS.to_vec()),
        cycle in proptest::collection::vec(1..26u32, 1..3),
    ) {
        let onnx = nested_messages(path, &cycle, 60_000);
        prop_assert!(check_model(&onnx, &LIMITS).is_err());
    }
}

/// Field numbers that lead to every kind of message.
const PATHS: [&[u32]; 7] = [
    &[],
    &[7],
    &[7, 1],
    &[7, 1, 5],
    &[7, 1, 5, 14],
    &[7, 11, 2],
    &[25],
];
