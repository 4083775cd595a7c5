//! Checks the dependencies between crates, and which crates may use which engine, with `cargo metadata`.
//! docs/ARCHITECTURE.md lists the rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// The crates of this workspace in layers, the lowest first. A crate may only depend on crates of lower layers.
const LAYERS: [&[&str]; 7] = [
    &["common", "proto", "tensorboard", "tensors", "torch-build"],
    &["object-storage", "traces"],
    &[
        "artifacts",
        "datasets",
        "model-signing",
        "networks",
        "server",
        "torch-cuda",
        "torch-distributed",
        "torch-fused",
    ],
    &[
        "onnx-runtime",
        "retort-client",
        "soft-targets",
        "test-support",
        "torch-networks",
        "torch-programs",
    ],
    &["teacher-pool"],
    &[
        "cli",
        "inference-service",
        "student-trainer",
        "teacher-service",
    ],
    &["benchmarks"],
];

/// External crates that only the listed crates of the workspace may depend on, also for their tests.
const MAY_NAME: [(&str, &[&str]); 4] = [
    (
        "tch",
        &[
            "student-trainer",
            "teacher-service",
            "torch-distributed",
            "torch-fused",
            "torch-networks",
            "torch-programs",
        ],
    ),
    ("torch-sys", &[]),
    ("ort", &["onnx-runtime"]),
    (
        "tonic",
        &[
            "benchmarks",
            "cli",
            "inference-service",
            "proto",
            "retort-client",
            "server",
            "student-trainer",
            "teacher-pool",
            "teacher-service",
            "test-support",
        ],
    ),
];

/// Crates that build and run on a machine without libtorch.
const WITHOUT_LIBTORCH: [&str; 16] = [
    "artifacts",
    "cli",
    "common",
    "datasets",
    "inference-service",
    "model-signing",
    "networks",
    "object-storage",
    "onnx-runtime",
    "retort-client",
    "server",
    "soft-targets",
    "teacher-pool",
    "tensorboard",
    "tensors",
    "traces",
];

/// A provider of cryptography besides ring. rustls panics if a program links both and chooses none.
const SECOND_PROVIDER: &str = "aws-lc-rs";

#[test]
fn every_arrow_points_down() {
    assert_eq!(
        Graph::of_this_workspace().violations(),
        Vec::<String>::new()
    );
}

#[test]
fn a_wrong_arrow_is_found() {
    let cases: [(&[(&str, &str)], &str); 5] = [
        (
            &[("common", "networks")],
            "common depends on networks, which is not below it",
        ),
        (&[("datasets", "ort")], "datasets names ort"),
        (
            &[("networks", "smuggler"), ("smuggler", "torch-sys")],
            "networks needs libtorch",
        ),
        (
            &[("cli", "smuggler"), ("smuggler", "aws-lc-rs")],
            "cli needs aws-lc-rs beside ring",
        ),
        (
            &[("newcomer", "proto")],
            "newcomer is in no layer of this test",
        ),
    ];
    for (edges, expected) in cases {
        let violations = Graph::from_edges(edges).violations();
        assert!(
            violations.iter().any(|violation| violation == expected),
            "{expected:?} is not in {violations:?}"
        );
    }
}

/// The dependencies between packages, by name.
#[derive(Default)]
struct Graph {
    members: BTreeSet<String>,
    /// Dependencies of a build.
    built: BTreeMap<String, BTreeSet<String>>,
    /// Direct dependencies of members, including those of tests and build scripts.
    named: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of_this_workspace() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked"])
            .arg("--filter-platform=x86_64-unknown-linux-gnu")
            .arg(concat!(
                "--manifest-path=",
                env!("CARGO_MANIFEST_DIR"),
                "/Cargo.toml"
            ))
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self::from_metadata(&serde_json::from_slice(&output.stdout).expect("metadata is JSON"))
    }

    fn from_metadata(metadata: &Value) -> Self {
        let names: BTreeMap<&str, &str> = array(&metadata["packages"])
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let mut graph = Self {
            members: array(&metadata["workspace_members"])
                .map(|id| names[text(id)].to_owned())
                .collect(),
            ..Self::default()
        };
        for node in array(&metadata["resolve"]["nodes"]) {
            let from = names[text(&node["id"])];
            for dependency in array(&node["deps"]) {
                let to = names[text(&dependency["pkg"])].to_owned();
                let in_build = array(&dependency["dep_kinds"]).any(|kind| kind["kind"] != "dev");
                if in_build {
                    graph
                        .built
                        .entry(from.to_owned())
                        .or_default()
                        .insert(to.clone());
                }
                graph.named.entry(from.to_owned()).or_default().insert(to);
            }
        }
        graph
    }

    /// A workspace with the dependencies `edges`, the crates at their sources and those of [`LAYERS`].
    fn from_edges(edges: &[(&str, &str)]) -> Self {
        let mut graph = Self::default();
        graph
            .members
            .extend(LAYERS.concat().into_iter().map(str::to_owned));
        for &(from, to) in edges {
            graph
                .built
                .entry(from.to_owned())
                .or_default()
                .insert(to.to_owned());
            if from != "smuggler" {
                graph.members.insert(from.to_owned());
            }
        }
        graph.named = graph.built.clone();
        graph
    }

    fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for member in &self.members {
            let Some(layer) = layer(member) else {
                found.push(format!("{member} is in no layer of this test"));
                continue;
            };
            for dependency in Self::edges(&self.built, member) {
                if self.members.contains(dependency) && self::layer(dependency) >= Some(layer) {
                    found.push(format!(
                        "{member} depends on {dependency}, which is not below it"
                    ));
                }
            }
            for (engine, allowed) in MAY_NAME {
                let names_it = Self::edges(&self.named, member).any(|name| name == engine);
                if names_it && !allowed.contains(&member.as_str()) {
                    found.push(format!("{member} names {engine}"));
                }
            }
            if WITHOUT_LIBTORCH.contains(&member.as_str()) && self.needs(member, "torch-sys") {
                found.push(format!("{member} needs libtorch"));
            }
            if self.needs(member, SECOND_PROVIDER) {
                found.push(format!("{member} needs {SECOND_PROVIDER} beside ring"));
            }
        }
        found
    }

    /// Whether a build of `package` builds `wanted`, directly or not.
    fn needs(&self, package: &str, wanted: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![package];
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                open.extend(Self::edges(&self.built, next));
            }
        }
        seen.contains(wanted)
    }

    fn edges<'a>(
        graph: &'a BTreeMap<String, BTreeSet<String>>,
        package: &str,
    ) -> impl Iterator<Item = &'a str> {
        graph.get(package).into_iter().flatten().map(String::as_str)
    }
}

fn layer(package: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&package))
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .expect("a string, as cargo metadata documents it")
}
