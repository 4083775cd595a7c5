//! A run's progress on the screen: bars on a terminal, lines elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use common::output::Narration;
use indicatif::{ProgressBar, ProgressStyle};
use proto::runs::v1::{
    EpochFinished, PhaseStarted, Run, RunState, StepProgress, TermLoss, watch_run_response::Event,
};

use super::Observer;

/// Minimum time between two lines about steps, without bars.
const LINE_INTERVAL: Duration = Duration::from_secs(15);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A progress bar, for terminals.
    Bars,
    /// Lines, for files and pipes.
    Lines,
}

/// The style for this process: bars need standard error and standard output to be terminals.
pub(crate) fn screen_style() -> Style {
    if std::io::stderr().is_terminal() && std::io::stdout().is_terminal() {
        Style::Bars
    } else {
        Style::Lines
    }
}

/// Shows the events of one run.
pub(crate) struct Progress {
    style: Style,
    phase: Option<Phase>,
    latest_line: Instant,
}

struct Phase {
    started: PhaseStarted,
    bar: ProgressBar,
    latest_epoch: Option<EpochFinished>,
}

impl Progress {
    pub(crate) fn new(style: Style) -> Self {
        Self {
            style,
            phase: None,
            latest_line: Instant::now(),
        }
    }

    fn start_phase(&mut self, started: &PhaseStarted) {
        self.end_phase();
        let bar = match self.style {
            Style::Bars => ProgressBar::new(total_steps(started)).with_style(bar_style()),
            Style::Lines => ProgressBar::hidden(),
        };
        bar.set_prefix(format!("{:<10}", phase_name(&started.kind)));
        self.phase = Some(Phase {
            started: started.clone(),
            bar,
            latest_epoch: None,
        });
        self.print_without_bars(&format!(
            "{}: {} of {}",
            phase_name(&started.kind),
            counted(started.epochs.into(), "epoch"),
            counted(started.steps_per_epoch, "step"),
        ));
    }

    fn step(&mut self, progress: &StepProgress) {
        let Some(phase) = &self.phase else { return };
        let text = step_text(&phase.started, progress);
        phase.bar.set_position(position(&phase.started, progress));
        phase.bar.set_message(text.clone());
        if self.latest_line.elapsed() >= LINE_INTERVAL {
            let name = phase_name(&phase.started.kind);
            self.print_without_bars(&format!("{name}: {text}"));
        }
    }

    fn finish_epoch(&mut self, finished: &EpochFinished) {
        let Some(phase) = &mut self.phase else { return };
        phase.latest_epoch = Some(finished.clone());
        let name = phase_name(&phase.started.kind);
        let line = format!("{name}: {}", epoch_text(&phase.started, finished));
        self.print_without_bars(&line);
    }

    /// Replaces the bar by a line about the phase's last epoch.
    fn end_phase(&mut self) {
        let Some(phase) = self.phase.take() else {
            return;
        };
        phase.bar.finish_and_clear();
        if let (Style::Bars, Some(epoch)) = (self.style, &phase.latest_epoch) {
            let name = phase_name(&phase.started.kind);
            writeln!(Narration, "  {name}: {}", epoch_text(&phase.started, epoch));
        }
    }

    fn change_state(&mut self, run: &Run) {
        match run.state() {
            RunState::Succeeded | RunState::Failed | RunState::Cancelled => self.end_phase(),
            RunState::Queued | RunState::Running | RunState::Unspecified => {}
        }
    }

    /// Writes a line, above the bar if there is one.
    fn print(&mut self, line: &str) {
        match (self.style, &self.phase) {
            (Style::Bars, Some(phase)) => phase.bar.println(format!("  {line}")),
            (Style::Bars, None) | (Style::Lines, _) => writeln!(Narration, "  {line}"),
        }
    }

    /// Writes a line unless a bar shows the same.
    fn print_without_bars(&mut self, line: &str) {
        if self.style == Style::Lines {
            self.latest_line = Instant::now();
            writeln!(Narration, "  {line}");
        }
    }
}

impl Observer for Progress {
    fn observe(&mut self, event: &Event) {
        match event {
            Event::StateChanged(run) => self.change_state(run),
            Event::PhaseStarted(started) => self.start_phase(started),
            Event::StepProgress(progress) => self.step(progress),
            Event::EpochFinished(finished) => self.finish_epoch(finished),
            Event::Notice(notice) => self.print(&notice.text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(phase) = &self.phase {
            phase.bar.finish_and_clear();
        }
    }
}

/// The name of a phase for users: "fine-tune" for `fine_tune`.
pub(crate) fn phase_name(kind: &str) -> String {
    kind.replace('_', "-")
}

fn bar_style() -> ProgressStyle {
    // Cannot fail: the template is constant, and a test draws it.
    ProgressStyle::with_template("  {prefix} [{bar:40}] {percent:>3} %  {eta:>4} left\n    {msg}")
        .expect("the template is well-formed")
        .progress_chars("=> ")
}

fn total_steps(started: &PhaseStarted) -> u64 {
    u64::from(started.epochs).saturating_mul(started.steps_per_epoch)
}

fn position(started: &PhaseStarted, progress: &StepProgress) -> u64 {
    let epochs_done = u64::from(progress.epoch.saturating_sub(1));
    epochs_done
        .saturating_mul(started.steps_per_epoch)
        .saturating_add(progress.step)
}

fn step_text(started: &PhaseStarted, progress: &StepProgress) -> String {
    let StepProgress {
        epoch,
        loss,
        terms,
        samples_per_second,
        teachers,
        teacher_wait_share,
        data_wait_share,
        ..
    } = progress;
    let epochs = started.epochs;
    let terms = terms_text(terms);
    let mut text =
        format!("epoch {epoch}/{epochs}, loss {loss:.3}{terms}, {samples_per_second:.0} samples/s");
    if *teachers > 0 {
        let waiting = 100.0 * teacher_wait_share;
        let teachers = counted(u64::from(*teachers), "teacher");
        text += &format!(", {teachers} ({waiting:.0} % waiting)");
    }
    // Decoding pictures may be slower than training on them.
    let waiting = (100.0 * data_wait_share).round();
    if waiting > 0.0 {
        text += &format!(", {waiting:.0} % waiting for data");
    }
    text
}

/// The terms that add up to a loss, in parentheses; nothing if there is only one.
fn terms_text(terms: &[TermLoss]) -> String {
    if terms.is_empty() {
        return String::new();
    }
    let terms = terms.iter();
    let terms: Vec<_> = terms
        .map(|TermLoss { kind, loss }| format!("{kind} {loss:.3}"))
        .collect();
    format!(" ({})", terms.join(", "))
}

/// Formats a count with its noun: "1 epoch", "3 epochs".
fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

fn epoch_text(started: &PhaseStarted, finished: &EpochFinished) -> String {
    let mut text = format!(
        "epoch {}/{}: loss {:.3}{}",
        finished.epoch,
        started.epochs,
        finished.train_loss,
        terms_text(&finished.terms),
    );
    let train_accuracy = (!finished.unlabelled).then_some(finished.train_accuracy);
    for (samples, accuracy) in [
        ("training", train_accuracy),
        ("validation", finished.validation_accuracy),
    ] {
        if let Some(accuracy) = accuracy {
            text += &format!(", {samples} accuracy {:.2} %", 100.0 * accuracy);
        }
    }
    text + &format!(", {:.1} s", finished.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> PhaseStarted {
        PhaseStarted {
            phase: 0,
            kind: "fine_tune".to_owned(),
            epochs: 3,
            steps_per_epoch: 10,
        }
    }

    fn term(kind: &str) -> TermLoss {
        TermLoss {
            kind: kind.to_owned(),
            loss: 0.25,
        }
    }

    #[test]
    fn a_bar_counts_the_steps_of_all_epochs() {
        let progress = StepProgress {
            epoch: 2,
            step: 4,
            ..Default::default()
        };
        assert_eq!(position(&started(), &progress), 14);
        assert_eq!(total_steps(&started()), 30);
        let _ = bar_style();
    }

    #[test]
    fn the_text_mentions_teachers_and_waiting_only_if_there_are_some() {
        let mut progress = StepProgress {
            epoch: 1,
            loss: 0.51234,
            samples_per_second: 2000.4,
            teacher_wait_share: 0.25,
            ..Default::default()
        };
        let alone = "epoch 1/3, loss 0.512, 2000 samples/s";
        assert_eq!(step_text(&started(), &progress), alone);
        progress.teachers = 2;
        let with_teachers = format!("{alone}, 2 teachers (25 % waiting)");
        assert_eq!(step_text(&started(), &progress), with_teachers);
        progress.data_wait_share = 0.118;
        let slow_data = format!("{with_teachers}, 12 % waiting for data");
        assert_eq!(step_text(&started(), &progress), slow_data);
        progress.terms = ["kd", "cross_entropy"].map(term).into();
        let with_terms = slow_data.replace("0.512", "0.512 (kd 0.250, cross_entropy 0.250)");
        assert_eq!(step_text(&started(), &progress), with_terms);
    }

    #[test]
    fn an_epoch_is_reported_in_one_line() {
        let finished = EpochFinished {
            epoch: 3,
            train_loss: 0.4,
            train_accuracy: 0.85,
            validation_accuracy: Some(0.9),
            seconds: 7.04,
            ..Default::default()
        };
        let expected = "epoch 3/3: loss 0.400, training accuracy 85.00 %, \
                        validation accuracy 90.00 %, 7.0 s";
        assert_eq!(epoch_text(&started(), &finished), expected);
        let unlabelled = EpochFinished {
            train_accuracy: 0.0,
            unlabelled: true,
            validation_accuracy: None,
            terms: ["dkd", "dist"].map(term).into(),
            ..finished
        };
        let text = epoch_text(&started(), &unlabelled);
        assert_eq!(text, "epoch 3/3: loss 0.400 (dkd 0.250, dist 0.250), 7.0 s");
    }
}
