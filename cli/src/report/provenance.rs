//! What decided a run's result.

use crate::run_folder::{RunFolder, RunManifest};

/// Names and values; of an unfinished run, only that it is unfinished.
pub(crate) fn provenance(run: &RunFolder) -> Vec<(&'static str, String)> {
    let Some(manifest) = &run.manifest else {
        return vec![("state", "the run is not finished".to_owned())];
    };
    let RunManifest {
        seed,
        threads,
        train_samples,
        labelled_samples,
        validation_samples,
        ..
    } = manifest;
    let labelled = labelled_samples.map(|labelled| format!(" ({labelled} with a label)"));
    let samples = format!(
        "{train_samples}{}, {validation_samples} for validation",
        labelled.unwrap_or_default()
    );
    let reproducible = match manifest.bit_reproducible {
        true => "yes: the same configuration gives the same bytes on a machine of this kind",
        false => "no",
    };
    let aware = run.quantization_aware_phases().into_iter();
    let aware: Vec<_> = aware.map(|phase| phase.to_string()).collect();
    let model_ids = manifest.of_teachers(|teacher| teacher.model_id.clone());
    let teachers_numerics = manifest.of_teachers(|teacher| teacher.numerics.clone());
    let facts = [
        ("run", Some(run.path.display().to_string())),
        ("Retort", Some(manifest.retort_version.clone())),
        ("seed", Some(seed.to_string())),
        ("threads", Some(threads.to_string())),
        ("numerics", Some(manifest.numerics.clone())),
        ("bit-reproducible", Some(reproducible.to_owned())),
        ("training samples", Some(samples)),
        (
            "quantization-aware phases",
            (!aware.is_empty()).then(|| aware.join(", ")),
        ),
        ("data's fingerprint", Some(manifest.dataset.clone())),
        ("teacher's model id", model_ids),
        ("teacher's numerics", teachers_numerics),
        ("student's model id", Some(manifest.model_id.clone())),
        ("model.onnx, SHA-256", manifest.onnx_sha256.clone()),
        (
            "published version",
            manifest
                .published_version
                .map(|version| version.to_string()),
        ),
        ("config.toml, SHA-256", Some(manifest.config_sha256.clone())),
    ];
    let known = facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    known.collect()
}
