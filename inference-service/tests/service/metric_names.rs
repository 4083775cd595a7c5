//! Documents, dashboards and alerts name metrics that exist, and every metric is documented.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use inference_service::Metric;

/// Prefixes of the service's metrics.
const PREFIXES: [&str; 4] = [
    "nv_inference_",
    "retort_inference_",
    "retort_canary_",
    "retort_capture_",
];

const DOCUMENT: &str = "docs/inference-service.md";

fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder
        .join("..")
        .canonicalize()
        .expect("the repository")
}

/// All files below `folder`; none if it does not exist.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// The words of `text` with a prefix of the service's metrics.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    // Ignores wildcards such as `nv_inference_*`.
    words
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .filter(|word| !PREFIXES.contains(word))
        .collect()
}

/// Every name of a time series.
fn known() -> BTreeSet<String> {
    let names = Metric::ALL.into_iter().flat_map(|metric| {
        let suffixes: &[&str] = match metric.kind() {
            "histogram" => &["", "_bucket", "_sum", "_count"],
            _ => &[""],
        };
        suffixes
            .iter()
            .map(move |suffix| format!("{}{suffix}", metric.name()))
    });
    names.collect()
}

#[test]
fn documents_and_dashboards_name_only_metrics_that_exist() {
    let known = known();
    let mut texts = Vec::new();
    for folder in ["docs", "deploy", "bench"] {
        texts.extend(files(&root().join(folder)));
    }
    texts.push(root().join("README.md"));
    for path in texts {
        // Skips images.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for name in named(&text) {
            assert!(known.contains(name), "{}: {name}", path.display());
        }
    }
}

#[test]
fn every_metric_is_documented_with_its_type_and_meaning() {
    let text = fs::read_to_string(root().join(DOCUMENT)).expect("the document is there");
    for metric in Metric::ALL {
        let row = format!(
            "| `{}` | {} | {} |",
            metric.name(),
            metric.kind(),
            metric.help()
        );
        assert!(
            text.lines().any(|line| line == row),
            "{DOCUMENT} has no line\n{row}"
        );
    }
}
