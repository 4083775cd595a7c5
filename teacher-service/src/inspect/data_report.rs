//! How well a model fits a data set.

use datasets::SplitName;
use serde::Serialize;

use super::{
    DataChoice, InspectError, Stage,
    confusion::Confusion,
    labels::{ClassMatch, MatchedBy},
    metrics::{Calibration, Logits},
    run::{Changes, Run},
    search::{self, Figures, Hint, Labelled},
    setting::Setting,
    variants::{HintKind, Variant},
};
use crate::model::output_values::OutputValues;

/// How well a model fits a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataReport {
    /// The data set.
    pub path: String,
    /// The split that the samples are from.
    pub split: SplitName,
    /// Usable samples of the split: labelled ones, if there are any.
    pub of_split: usize,
    /// Samples that the model was tried on.
    pub samples: usize,
    /// Files that were left out.
    pub unreadable: usize,
    /// Which class of the model each class of the data is; absent without labels.
    pub classes: Option<ClassMatch>,
    /// How well the labels are met; absent if there are none, or none that the model knows.
    pub fit: Option<Fit>,
    /// Answers by class of the data; absent without labels.
    pub confusion: Option<Confusion>,
    /// How sure the model is.
    pub confidence: Confidence,
    /// The model's answers, the most frequent first.
    pub answers: Vec<ClassShare>,
    /// Other cards that were tried for hints.
    pub cards_tried: usize,
    /// Without labels: how often other cards give the same answer.
    pub agreement: Vec<Agreement>,
}

/// How well labels are met.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fit {
    /// Samples of classes that the model has.
    pub samples: usize,
    /// Share of them that is right.
    pub accuracy: f64,
    /// Share of them whose label is among the five most likely classes; absent for five classes or fewer.
    pub top_5: Option<f64>,
    /// Mean cross-entropy.
    pub loss: f64,
    /// How well confidence fits accuracy.
    pub calibration: Calibration,
}

/// The probability of the most likely class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Confidence {
    /// Mean.
    pub mean: f64,
    /// A tenth of the samples is below.
    pub lowest_tenth: f64,
    /// Half of the samples is below.
    pub median: f64,
    /// A tenth of the samples is above.
    pub highest_tenth: f64,
}

/// How often a class is the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassShare {
    /// The class.
    pub name: String,
    /// Number of samples.
    pub samples: usize,
}

/// How often another card gives the same answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// What the card changes.
    pub kinds: Vec<HintKind>,
    /// The changed keys.
    pub set: Vec<Setting>,
    /// Share of the samples with the same answer.
    pub agreement: f64,
    /// Mean confidence with the card.
    pub confidence: f64,
}

/// Measures the model on all samples, and looks for hints.
///
/// # Errors
/// If a sample cannot be read or computed with the card as it is.
pub(super) fn measure(
    run: &mut Run<'_>,
    choice: &DataChoice,
) -> Result<(DataReport, Vec<Hint>), InspectError> {
    let positions: Vec<u32> = (0..run.samples.len() as u32).collect();
    let outputs = run.outputs(&positions, Stage::Measuring)?;
    let logits = run.subject.logits(outputs.clone());
    let predictions = logits.predictions();
    let data_classes = run.samples.class_names().to_vec();
    let model_classes = run.subject.class_names.clone();
    let mut report = DataReport {
        path: choice.path.display().to_string(),
        split: run.samples.split,
        of_split: run.samples.of_split,
        samples: positions.len(),
        unreadable: run.samples.unreadable,
        classes: None,
        fit: None,
        confusion: None,
        confidence: confidence(&logits),
        answers: answers(&predictions, &model_classes),
        cards_tried: 0,
        agreement: Vec::new(),
    };
    let mut hints = Vec::new();
    let Some(labels) = run.samples.labels() else {
        hints.extend(output_hint(run, &outputs, None));
        let predictions = run.subject.logits(outputs).predictions();
        report.agreement = agreement(run, &positions, &predictions)?;
        report.cards_tried = report.agreement.len();
        return Ok((report, hints));
    };
    let classes = ClassMatch::of(&data_classes, &model_classes);
    report.confusion = Some(Confusion::count(
        &labels,
        &predictions,
        &data_classes,
        &model_classes,
    ));
    if classes.by == MatchedBy::Nothing {
        hints.extend(output_hint(run, &outputs, None));
        report.classes = Some(classes);
        return Ok((report, hints));
    }
    let known = Known::of(&labels, &classes);
    report.fit = Some(fit(&logits.of(&known.rows), &known.targets));
    hints.extend(output_hint(run, &outputs, Some(&known)));
    let labelled = Labelled {
        positions: &known.positions,
        labels: &known.labels,
        data_classes: &data_classes,
        classes: &classes,
    };
    let logits = run.subject.logits(outputs).of(&known.rows);
    let found = search::search(run, &labelled, &logits)?;
    hints.extend(found.hints);
    report.cards_tried = found.tried;
    report.classes = Some(classes);
    Ok((report, hints))
}

/// The samples whose class the model has.
struct Known {
    /// Rows of the outputs.
    rows: Vec<usize>,
    /// Positions of the samples.
    positions: Vec<u32>,
    /// Classes of the data.
    labels: Vec<u32>,
    /// Classes of the model.
    targets: Vec<usize>,
}

impl Known {
    fn of(labels: &[u32], classes: &ClassMatch) -> Self {
        let mut known = Self {
            rows: Vec::new(),
            positions: Vec::new(),
            labels: Vec::new(),
            targets: Vec::new(),
        };
        for (row, label) in labels.iter().enumerate() {
            if let Some(target) = classes.class(*label) {
                known.rows.push(row);
                known.positions.push(row as u32);
                known.labels.push(*label);
                known.targets.push(target);
            }
        }
        known
    }
}

fn fit(logits: &Logits, targets: &[usize]) -> Fit {
    Fit {
        samples: targets.len(),
        accuracy: logits.top(1, targets),
        top_5: (logits.classes() > 5).then(|| logits.top(5, targets)),
        loss: logits.loss(targets, 1.0),
        calibration: logits.calibration(targets),
    }
}

/// Whether the outputs of all samples contradict the card, as the service checks at its start. The model then goes
/// on with what the outputs are.
fn output_hint(run: &mut Run<'_>, outputs: &[f32], known: Option<&Known>) -> Option<Hint> {
    let card = run.subject.card()?;
    let (output, names) = (card.output, card.class_names.len());
    let found = OutputValues::of(outputs, names);
    found.check(output).err()?;
    let loss = |run: &Run<'_>| {
        let known = known?;
        let logits = run.subject.logits(outputs.to_vec()).of(&known.rows);
        Some(logits.loss(&known.targets, 1.0))
    };
    let loss_before = loss(run);
    run.subject.set_output(found.output());
    Some(Hint {
        kinds: vec![HintKind::Output],
        set: vec![Setting::word("output", found.output())],
        figures: Figures::Values {
            loss_before,
            loss_after: loss(run),
            samples: outputs.len() / names,
        },
    })
}

fn confidence(logits: &Logits) -> Confidence {
    let mut confidences = logits.confidences(1.0);
    confidences.sort_by(f64::total_cmp);
    let quantile = |share: f64| {
        let last = confidences.len().saturating_sub(1);
        let position = (share * last as f64).round() as usize;
        confidences.get(position).copied().unwrap_or_default()
    };
    Confidence {
        mean: mean(&confidences),
        lowest_tenth: quantile(0.1),
        median: quantile(0.5),
        highest_tenth: quantile(0.9),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn answers(predictions: &[usize], names: &[String]) -> Vec<ClassShare> {
    let mut counts = vec![0; names.len()];
    for prediction in predictions {
        counts[*prediction] += 1;
    }
    let shares = names.iter().zip(counts).filter(|(_, samples)| *samples > 0);
    let mut shares: Vec<_> = shares
        .map(|(name, samples)| ClassShare {
            name: name.clone(),
            samples,
        })
        .collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.samples));
    shares
}

/// Compares the answers of other cards. Without labels, a difference says that the card matters, not which is right.
fn agreement(
    run: &mut Run<'_>,
    positions: &[u32],
    predictions: &[usize],
) -> Result<Vec<Agreement>, InspectError> {
    const COMPARED: usize = 64;
    let Some(own) = run.subject.image_card().cloned() else {
        return Ok(Vec::new());
    };
    let stride = positions.len().div_ceil(COMPARED).max(1);
    let compared: Vec<u32> = positions.iter().step_by(stride).copied().collect();
    let mut found = Vec::new();
    for Variant { kinds, card } in run.variants(Changes::One)? {
        run.subject.set_image_card(card.clone());
        let Some(logits) = run.logits_or_none(&compared)? else {
            continue;
        };
        let pairs = logits.predictions().into_iter().zip(&compared);
        let same = pairs.filter(|(answer, position)| *answer == predictions[**position as usize]);
        found.push(Agreement {
            kinds,
            set: Setting::between(&own, &card),
            agreement: same.count() as f64 / compared.len().max(1) as f64,
            confidence: mean(&logits.confidences(1.0)),
        });
    }
    run.subject.set_image_card(own);
    Ok(found)
}
