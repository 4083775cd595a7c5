//! The report for people.

use std::fmt::{self, Display};

use super::{
    Report,
    data_report::{Agreement, DataReport, Fit},
    labels::{ClassMatch, MatchedBy},
    model_report::ModelReport,
    search::{Figures, Hint},
    setting::Setting,
    significance::LARGEST_P,
    variants::HintKind,
};
use crate::model::{
    format::ModelFormat,
    output_values::{OutputValues, ValueKind},
};

/// Names, operators and so on that a line lists.
const LISTED: usize = 8;
/// Class names that the line of a setting shows.
const NAMES_SHOWN: usize = 20;
/// Mistakes, answers and cards that are listed.
const ROWS: usize = 5;

impl Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model.fmt(out)?;
        let Some(data) = &self.data else {
            return Ok(());
        };
        write!(out, "\n{data}")?;
        if self.hints.is_empty() {
            return match (&data.fit, data.cards_tried) {
                (Some(_), tried @ 1..) => line(
                    out,
                    "hints",
                    format!("none: none of {tried} other cards is better"),
                ),
                (Some(_), 0) => line(out, "hints", "none"),
                (None, _) => line(
                    out,
                    "hints",
                    "none: only labels can tell which card is right",
                ),
            };
        }
        writeln!(out, "\nhints")?;
        for hint in &self.hints {
            write!(out, "{hint}")?;
        }
        let has_figures = |hint: &Hint| matches!(hint.figures, Figures::Accuracy { .. });
        if self.hints.iter().any(has_figures) {
            writeln!(
                out,
                "A hint is given if such a gain has a probability below {LARGEST_P} by chance (McNemar's test on the same \
                 samples). Each builds on those before it."
            )?;
        }
        Ok(())
    }
}

impl Display for ModelReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(
            out,
            "model",
            format!("{} ({})", self.path, format_name(self.format)),
        )?;
        if let Some(producer) = &self.facts.producer {
            line(out, "written by", producer)?;
        }
        if !self.facts.opsets.is_empty() {
            let opsets = self
                .facts
                .opsets
                .iter()
                .map(|(domain, version)| match &domain[..] {
                    "" => version.to_string(),
                    domain => format!("{domain} {version}"),
                });
            line(out, "opset", opsets.collect::<Vec<_>>().join(", "))?;
        }
        match &self.signature {
            Some(signature) => {
                signature
                    .inputs
                    .iter()
                    .try_for_each(|input| line(out, "input", input))?;
                signature
                    .outputs
                    .iter()
                    .try_for_each(|output| line(out, "output", output))?;
            }
            None => line(out, "input", "unknown, because the model cannot be loaded")?,
        }
        if let Some(parameters) = self.facts.parameters {
            line(out, "parameters", grouped(parameters))?;
        }
        if !self.facts.operators.is_empty() {
            line(out, "operators", operators(self))?;
        }
        if let Some(values) = self.values {
            line(out, "values", describe_values(values))?;
        }
        if let Some(card) = &self.card {
            line(out, "card", card.describe())?;
        }
        if let Some(preprocessing) = &self.preprocessing {
            line(out, "card", preprocessing)?;
        }
        if !self.card_files.is_empty() {
            line(out, "card from", self.card_files.join(", "))?;
        }
        if !self.class_names.is_empty() {
            line(out, "classes", counted(&self.class_names))?;
        }
        for missing in &self.assumed {
            let (what, setting) = (missing.what, shown(&missing.assumed));
            line(
                out,
                "missing",
                format!("the model does not say {what}; assumed here: {setting}"),
            )?;
        }
        self.problems
            .iter()
            .try_for_each(|problem| line(out, "problem", problem))?;
        self.notes
            .iter()
            .try_for_each(|note| line(out, "note", note))
    }
}

impl Display for DataReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (samples, all) = (grouped(self.samples as u64), grouped(self.of_split as u64));
        let (path, split) = (&self.path, self.split);
        line(
            out,
            "data",
            format!("{path}: {samples} of {all} {split} samples"),
        )?;
        if self.unreadable > 0 {
            line(
                out,
                "left out",
                format!("{} files that cannot be read", self.unreadable),
            )?;
        }
        match (&self.classes, &self.fit) {
            (Some(classes), fit) => {
                line(out, "matched", describe_match(classes))?;
                if let Some(fit) = fit {
                    write!(out, "{fit}")?;
                }
                self.fmt_confusion(out, classes)?;
            }
            (None, _) => line(out, "labels", "none")?,
        }
        let found = self.confidence;
        let text = format!(
            "{} on average; a tenth of the samples below {}, half below {}, a tenth above {}",
            percent(found.mean),
            percent(found.lowest_tenth),
            percent(found.median),
            percent(found.highest_tenth)
        );
        line(out, "confidence", text)?;
        if self.fit.is_none() {
            self.fmt_answers(out)?;
        }
        self.agreement
            .iter()
            .try_for_each(|agreement| agreement.fmt(out))
    }
}

impl DataReport {
    fn fmt_confusion(&self, out: &mut fmt::Formatter<'_>, classes: &ClassMatch) -> fmt::Result {
        let Some(confusion) = &self.confusion else {
            return Ok(());
        };
        let is_matched = self.fit.is_some();
        for mistake in confusion.mistakes(&classes.model_class).iter().take(ROWS) {
            let (class, answer) = (mistake.class, mistake.answer);
            let (count, samples) = (mistake.count, mistake.samples);
            let label = if is_matched { "confusion" } else { "answers" };
            line(
                out,
                label,
                format!("{class} → {answer}: {count} of {samples}"),
            )?;
        }
        Ok(())
    }

    fn fmt_answers(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = self.answers.iter().take(LISTED).map(|answer| {
            let share = answer.samples as f64 / self.samples.max(1) as f64;
            format!("{} {}", answer.name, percent(share))
        });
        let answers: Vec<_> = answers.collect();
        let more = self.answers.len().saturating_sub(LISTED);
        let more = if more > 0 {
            format!(" and {more} more classes")
        } else {
            String::new()
        };
        line(out, "answers", format!("{}{more}", answers.join(", ")))
    }
}

impl Display for Fit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top_5 = self
            .top_5
            .map(|top| format!(", {} among the five most likely", percent(top)));
        let (accuracy, samples) = (percent(self.accuracy), grouped(self.samples as u64));
        line(
            out,
            "accuracy",
            format!(
                "{accuracy} of {samples} samples{}",
                top_5.unwrap_or_default()
            ),
        )?;
        line(out, "loss", format!("{:.3}", self.loss))?;
        let found = self.calibration;
        let text = format!(
            "expected calibration error {}; with a temperature of {:.2}: {}, loss {:.3}",
            percent(found.error),
            found.temperature,
            percent(found.error_at_temperature),
            found.loss_at_temperature
        );
        line(out, "calibration", text)
    }
}

impl Display for Agreement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<_> = self
            .set
            .iter()
            .map(|set| format!("{} = {}", set.key, set.value))
            .collect();
        let (agreement, confidence) = (percent(self.agreement), percent(self.confidence));
        let text = format!(
            "the same answer for {agreement}, confidence {confidence}, with {}",
            set.join(", ")
        );
        line(out, "other card", text)
    }
}

impl Display for Hint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what: Vec<_> = self.kinds.iter().map(|kind| what(*kind)).collect();
        writeln!(out, "- {}: {}", what.join(", and "), self.figures)?;
        self.set
            .iter()
            .try_for_each(|setting| writeln!(out, "    {}", shown(setting)))
    }
}

impl Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Accuracy {
                before,
                after,
                samples,
                p,
            } => {
                let (after, before) = (percent(after), percent(before));
                write!(
                    out,
                    "{after} instead of {before} of {samples} samples are right (p = {p:.0e})"
                )
            }
            Self::Values {
                loss_before,
                loss_after,
                samples,
            } => {
                write!(out, "the values of all {samples} samples show it")?;
                match (loss_before, loss_after) {
                    (Some(before), Some(after)) => {
                        write!(out, "; loss {after:.3} instead of {before:.3}")
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

fn line(out: &mut fmt::Formatter<'_>, label: &str, text: impl Display) -> fmt::Result {
    let label = format!("{label}:");
    writeln!(out, "{label:<13} {text}")
}

fn what(kind: HintKind) -> &'static str {
    match kind {
        HintKind::ChannelOrder => "red and blue are swapped",
        HintKind::NormalizationMissing => "the model needs a normalization",
        HintKind::NormalizationDoubled => "the model normalizes its pixels itself",
        HintKind::Normalization => "the model needs another normalization",
        HintKind::Layout => "the dimensions are in another order",
        HintKind::Size => "the model needs images of another size",
        HintKind::Output => "the kind of the output is wrong",
        HintKind::LabelsShifted => "the classes are shifted by one position",
        HintKind::LabelsPermuted => "the classes are in another order",
    }
}

/// The line of a setting; of many class names, the first.
fn shown(setting: &Setting) -> String {
    let names: Option<Vec<String>> = (setting.key == "class_names")
        .then(|| serde_json::from_str(&setting.value).ok())
        .flatten();
    match names {
        Some(names) if names.len() > NAMES_SHOWN => {
            let first = Setting::names(&names[..NAMES_SHOWN]).to_string();
            let more = names.len() - NAMES_SHOWN;
            format!(
                "{}, … {more} more (--json prints all)]",
                first.trim_end_matches(']')
            )
        }
        _ => setting.to_string(),
    }
}

fn format_name(format: ModelFormat) -> &'static str {
    match format {
        ModelFormat::Artifact => "artifact of a run",
        ModelFormat::Onnx => "ONNX",
        ModelFormat::TorchProgram => "torch.export",
        ModelFormat::TorchScript => "TorchScript",
        ModelFormat::Safetensors => "published weights",
        ModelFormat::InferenceServer => "inference server",
    }
}

fn describe_values(
    OutputValues {
        kind,
        smallest,
        largest,
    }: OutputValues,
) -> String {
    let kind = match kind {
        ValueKind::Probabilities => "probabilities",
        ValueKind::LogProbabilities => "logarithms of probabilities, which are logits",
        ValueKind::ZeroToOne => "from 0 to 1, without a sum of 1",
        ValueKind::Logits => "logits",
    };
    format!("{kind} (noise gives {smallest:.3} to {largest:.3})")
}

fn describe_match(classes: &ClassMatch) -> String {
    let (all, missing) = (classes.model_class.len(), classes.missing.len());
    match classes.by {
        MatchedBy::Name if missing == 0 => format!("all {all} classes by name"),
        MatchedBy::Name => {
            let names = list(classes.missing.iter().map(String::as_str));
            format!(
                "{} of {all} classes by name; the model does not have {names}",
                all - missing
            )
        }
        MatchedBy::Position => format!(
            "{all} classes by position, because no name is the same: set model.preprocessing.class_names to the data's \
             names, which training needs"
        ),
        MatchedBy::Nothing => {
            let names = list(classes.missing.iter().map(String::as_str));
            format!(
                "none: the model has other classes than the data ({names}); [model.classes] makes the data's classes of \
                 the model's"
            )
        }
    }
}

fn operators(report: &ModelReport) -> String {
    let mut operators: Vec<_> = report.facts.operators.iter().collect();
    operators.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
    let shown = operators
        .iter()
        .map(|(name, count)| format!("{count} {name}"));
    shown.collect::<Vec<_>>().join(", ")
}

/// The number of names and the first ones.
fn counted(names: &[String]) -> String {
    format!(
        "{}: {}",
        names.len(),
        list(names.iter().map(String::as_str))
    )
}

fn list<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let first: Vec<_> = names.take(LISTED).collect();
    match more {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A number with its thousands separated.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_has_both_figures_and_the_keys() {
        let hint = Hint {
            kinds: vec![HintKind::ChannelOrder],
            set: vec![Setting::word("channel_order", "bgr")],
            figures: Figures::Accuracy {
                before: 0.634,
                after: 0.912,
                samples: 500,
                p: 3e-30,
            },
        };
        assert_eq!(
            hint.to_string(),
            "- red and blue are swapped: 91.2 % instead of 63.4 % of 500 samples are right (p = 3e-30)\n    \
             model.preprocessing.channel_order = \"bgr\"\n"
        );
    }

    #[test]
    fn many_names_are_cut() {
        let names: Vec<String> = (0..25).map(|at| format!("c{at}")).collect();
        let text = shown(&Setting::names(&names));
        assert!(
            text.ends_with("\"c19\", … 5 more (--json prints all)]"),
            "{text}"
        );
        assert_eq!(
            counted(&names[..9]),
            "9: c0, c1, c2, c3, c4, c5, c6, c7 and 1 more"
        );
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(12), "12");
    }
}
