//! Prints a run's events on standard error.

use common::output::Messages;
use std::sync::Mutex;

use student_trainer::{
    config::PhaseKind,
    events::{EventSink, RunEvent, TermLoss},
};

/// A sink that prints. On a terminal the steps of an epoch overwrite one line; elsewhere only whole
/// epochs are printed.
pub fn sink(is_terminal: bool) -> EventSink {
    let printer = Mutex::new(Printer {
        is_terminal,
        phase: None,
    });
    EventSink::new(move |event| {
        // A panic does not damage the printer's state.
        let mut printer = printer
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        printer.print(&event);
    })
}

struct Printer {
    is_terminal: bool,
    phase: Option<Phase>,
}

struct Phase {
    kind: PhaseKind,
    epochs: usize,
    steps: u64,
}

impl Printer {
    fn print(&mut self, event: &RunEvent) {
        let line = self.describe(event);
        match (event, self.is_terminal) {
            (RunEvent::StepProgress(_), true) => write!(Messages, "\r\x1b[K{line}"),
            (RunEvent::StepProgress(_), false) => {}
            (_, true) => writeln!(Messages, "\r\x1b[K{line}"),
            (_, false) => writeln!(Messages, "{line}"),
        }
        if let RunEvent::PhaseStarted(started) = event {
            self.phase = Some(Phase {
                kind: started.kind,
                epochs: started.epochs,
                steps: started.steps_per_epoch,
            });
        }
    }

    fn describe(&self, event: &RunEvent) -> String {
        let epoch_of = |epoch: usize| match &self.phase {
            Some(phase) => format!("{} epoch {epoch}/{}", phase.kind, phase.epochs),
            None => format!("epoch {epoch}"),
        };
        match event {
            RunEvent::PhaseStarted(started) => format!(
                "phase {}: {}, {} epochs of {} steps",
                started.phase + 1,
                started.kind,
                started.epochs,
                started.steps_per_epoch
            ),
            RunEvent::StepProgress(progress) => {
                let steps = self.phase.as_ref().map_or(0, |phase| phase.steps);
                let teachers = match progress.teachers {
                    0 => String::new(),
                    count => format!(
                        ", {count} teachers, {:.0} % of the time waiting for them",
                        100.0 * progress.teacher_wait_share
                    ),
                };
                let data = match (100.0 * progress.data_wait_share).round() {
                    0.0 => String::new(),
                    percent => format!(", {percent:.0} % of the time waiting for data"),
                };
                let norm = progress
                    .gradient_norm
                    .map_or_else(String::new, |norm| format!(", gradient norm {norm:.3}"));
                format!(
                    "{} step {}/{steps}: loss {:.4}{}{norm}, {:.0} samples/s{teachers}{data}",
                    epoch_of(progress.epoch),
                    progress.step,
                    progress.loss,
                    terms_text(&progress.terms),
                    progress.samples_per_second
                )
            }
            RunEvent::EpochFinished(finished) => {
                let share = |name: &str, accuracy: Option<f64>| {
                    accuracy.map_or_else(String::new, |accuracy| {
                        format!(", {name} {:.2} %", 100.0 * accuracy)
                    })
                };
                format!(
                    "{}: loss {:.4}{}{}{}, {:.1} s",
                    epoch_of(finished.epoch),
                    finished.train_loss,
                    terms_text(&finished.terms),
                    share("training accuracy", finished.train_accuracy),
                    share("validation", finished.validation_accuracy),
                    finished.seconds
                )
            }
            RunEvent::Notice { text } => text.clone(),
        }
    }
}

/// The terms that add up to a loss, in parentheses; nothing if there is only one.
fn terms_text(terms: &[TermLoss]) -> String {
    if terms.is_empty() {
        return String::new();
    }
    let terms = terms.iter();
    let terms: Vec<_> = terms
        .map(|TermLoss { kind, loss }| format!("{kind} {loss:.4}"))
        .collect();
    format!(" ({})", terms.join(", "))
}
