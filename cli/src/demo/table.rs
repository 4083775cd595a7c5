//! The table that compares the demo's models.

use super::summary::Summary;
use crate::comparison::{Figures, Row};

/// One row per model, in the order of their creation.
pub(super) fn rows(summary: &Summary) -> Vec<Row> {
    let models = models(summary);
    models
        .iter()
        .map(|(name, figures)| Row::new(name, figures))
        .collect()
}

/// The figures of each model, in the order of their creation.
pub(super) fn models(summary: &Summary) -> Vec<(String, Figures)> {
    // The exported file, called over the network.
    let served = Figures {
        accuracy: Some(summary.served.accuracy),
        agreement: Some(summary.served.agreement),
        p50_us: Some(summary.served.p50_us),
        ..summary.exported
    };
    let models = [
        ("teacher", summary.teacher),
        ("same student, no teacher", summary.baseline),
        ("student, distilled", summary.distilled),
        ("student, fine-tuned", summary.student),
        ("student, exported (ONNX)", summary.exported),
        ("student, served (gRPC)", served),
    ];
    models
        .map(|(name, figures)| (name.to_owned(), figures))
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::{super::summary::tests::example, *};

    #[test]
    fn the_served_model_has_the_exported_file_and_its_own_latency() {
        let rows = rows(&example());
        assert_eq!(rows.len(), 6);
        assert_eq!(rows[5].name, "student, served (gRPC)");
        assert_eq!(rows[5].cells[1..4], rows[4].cells[1..4]);
        assert_eq!(rows[5].cells[5], "400 µs");
    }
}
