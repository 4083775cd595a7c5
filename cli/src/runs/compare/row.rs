//! The figures of one run as text.

use indicatif::HumanCount;

use crate::{comparison::percent, duration::duration, run_folder::RunFolder};

/// The headings of [`cells`].
pub(super) const HEADINGS: [&str; 7] = [
    "test",
    "validation",
    "as teacher",
    "parameters",
    "epochs",
    "loss",
    "time",
];

/// Whether the run is finished.
pub(super) fn state(run: &RunFolder) -> &'static str {
    match run.manifest {
        Some(_) => "finished",
        None => "unfinished",
    }
}

/// The figures: accuracy on the test and validation samples, share of predictions that are the teacher's, trainable
/// parameters, epochs of each phase, training loss of the last epoch, wall-clock time. A dash if one is not known.
pub(super) fn cells(run: &RunFolder) -> [String; 7] {
    let figures = run.figures();
    let epochs = || {
        run.history
            .phases
            .iter()
            .rev()
            .flat_map(|phase| phase.epochs.iter().rev())
    };
    let cells = [
        figures.accuracy.map(percent),
        epochs()
            .find_map(|epoch| epoch.validation_accuracy)
            .map(percent),
        figures.agreement.map(percent),
        figures
            .parameters
            .map(|count| HumanCount(count).to_string()),
        Some(epochs_text(run)),
        epochs()
            .next()
            .map(|epoch| format!("{:.4}", epoch.train_loss)),
        Some(duration(run.seconds())),
    ];
    cells.map(|cell| cell.unwrap_or_else(|| "–".to_owned()))
}

/// Epochs of each phase: "12 + 3", or "5 + 0 of 12 + 3".
fn epochs_text(run: &RunFolder) -> String {
    let planned = run.planned_epochs();
    let phases = &run.history.phases;
    let done = |phase: usize| phases.get(phase).map_or(0, |phase| phase.epochs.len());
    let done: Vec<u64> = (0..planned.len()).map(|phase| done(phase) as u64).collect();
    let sum = |epochs: &[u64]| {
        let epochs: Vec<_> = epochs.iter().map(u64::to_string).collect();
        epochs.join(" + ")
    };
    if run.manifest.is_some() || done == planned {
        return sum(&planned);
    }
    format!("{} of {}", sum(&done), sum(&planned))
}
