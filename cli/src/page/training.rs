//! Charts of a training phase.

use proto::runs::v1::EpochFinished;

use super::chart::{Chart, Series, Unit};
use crate::runs::PhaseHistory;

/// The charts of one phase: loss and accuracy over its epochs.
pub(crate) fn phase_charts(phase: &PhaseHistory) -> [Chart; 2] {
    let kind = match phase.kind.as_str() {
        "supervised" => "Hard labels",
        "distill" => "Soft targets",
        "fine_tune" => "Fine-tuning, hard labels",
        other => other,
    };
    let by_epoch = |value: fn(&EpochFinished) -> Option<f64>| {
        let epochs = phase.epochs.iter();
        epochs
            .filter_map(|epoch| Some((f64::from(epoch.epoch), value(epoch)?)))
            .collect()
    };
    let train_accuracy =
        |epoch: &EpochFinished| (!epoch.unlabelled).then_some(epoch.train_accuracy);
    let loss = Chart {
        title: format!("{kind}: loss"),
        x_label: "epoch",
        series: vec![
            Series::new("some steps", phase.loss.clone()),
            Series::new("epoch", by_epoch(|epoch| Some(epoch.train_loss))),
        ],
        unit: Unit::Number,
    };
    let accuracy = Chart {
        title: format!("{kind}: accuracy"),
        x_label: "epoch",
        series: vec![
            // An empty first series, so that the second has the same colour as in the loss chart.
            Series::new("", Vec::new()),
            Series::new("training samples", by_epoch(train_accuracy)),
            Series::new(
                "validation samples",
                by_epoch(|epoch| epoch.validation_accuracy),
            ),
        ],
        unit: Unit::Percent,
    };
    [loss, accuracy]
}
