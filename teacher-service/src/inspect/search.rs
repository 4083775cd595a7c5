//! Looks for a card or an order of the classes that fits the labels significantly better.

use serde::Serialize;

use super::{
    InspectError,
    labels::ClassMatch,
    metrics::Logits,
    run::{Changes, Run},
    setting::Setting,
    significance::Paired,
    variants::{HintKind, Variant},
};
use crate::model::card::ImageCard;

/// Something that looks wrong, with the figures that led to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hint {
    /// What it is about.
    pub kinds: Vec<HintKind>,
    /// What to set.
    pub set: Vec<Setting>,
    /// The figures.
    pub figures: Figures,
}

/// The figures behind a hint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "of")]
pub enum Figures {
    /// Shares of the same samples that are right without and with what the hint says, after the hints before it.
    Accuracy {
        /// Without.
        before: f64,
        /// With.
        after: f64,
        /// Number of samples.
        samples: usize,
        /// Probability of such a gain by chance.
        p: f64,
    },
    /// Mean losses without and with what the hint says; absent without labels. The values of all samples show it.
    Values {
        /// Without.
        loss_before: Option<f64>,
        /// With.
        loss_after: Option<f64>,
        /// Number of samples.
        samples: usize,
    },
}

/// The hints, and how many cards were tried for them.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) hints: Vec<Hint>,
    pub(super) tried: usize,
}

/// A run of labelled samples whose classes the model has.
pub(super) struct Labelled<'l> {
    /// Positions of the samples.
    pub(super) positions: &'l [u32],
    /// Their labels.
    pub(super) labels: &'l [u32],
    /// Names of the data's classes.
    pub(super) data_classes: &'l [String],
    /// The model's classes for them.
    pub(super) classes: &'l ClassMatch,
}

/// Most hints that build on each other.
const MOST_ROUNDS: usize = 4;

/// A card is first tried on this many samples.
const SCREENED: usize = 64;

/// Below this accuracy, cards that change two things are tried too.
const PAIRS_BELOW: f64 = 0.5;

/// Smallest accuracy that a permutation of the classes must reach: some permutation always fits a bad card better.
const PERMUTED_ACCURACY: f64 = 0.5;

/// By how much a candidate must be better than a simpler one.
const CLEARLY_BETTER: f64 = 0.02;

/// What the search has come to.
struct State {
    card: Option<ImageCard>,
    classes: ClassMatch,
    predictions: Vec<usize>,
}

/// A change of the state that is significantly better.
struct Candidate {
    kinds: Vec<HintKind>,
    set: Vec<Setting>,
    paired: Paired,
    state: State,
}

/// Tries other cards and other orders of the classes, one change after the other, as long as one is significantly
/// better; `logits` are those of the card as it is. Leaves the card as it was.
///
/// # Errors
/// If a sample cannot be read.
pub(super) fn search(
    run: &mut Run<'_>,
    labelled: &Labelled<'_>,
    logits: &Logits,
) -> Result<Found, InspectError> {
    let own = run.subject.image_card().cloned();
    let mut state = State {
        card: own.clone(),
        classes: labelled.classes.clone(),
        predictions: logits.predictions(),
    };
    let mut found = Found::default();
    for _ in 0..MOST_ROUNDS {
        let mut cards = better_cards(run, labelled, &state, Changes::One, &mut found.tried)?;
        if accuracy(labelled, &state) < PAIRS_BELOW {
            cards.extend(better_cards(
                run,
                labelled,
                &state,
                Changes::Two,
                &mut found.tried,
            )?);
        }
        let orders = better_orders(run, labelled, &state, logits.classes());
        let best = cards.into_iter().chain(orders).reduce(|best, other| {
            let gain = other.paired.accuracy_after() - best.paired.accuracy_after();
            let needed = if other.is_simple() {
                0.0
            } else {
                CLEARLY_BETTER
            };
            if gain > needed { other } else { best }
        });
        let Some(best) = best else { break };
        found.hints.push(Hint {
            kinds: best.kinds,
            set: best.set,
            figures: Figures::Accuracy {
                before: best.paired.accuracy_before(),
                after: best.paired.accuracy_after(),
                samples: best.paired.samples,
                p: best.paired.p(),
            },
        });
        state = best.state;
    }
    if let Some(own) = own {
        run.subject.set_image_card(own);
    }
    Ok(found)
}

impl Candidate {
    /// Whether it changes one thing of the card. Labels that seem wrong may be the effect of a wrong card.
    fn is_simple(&self) -> bool {
        let is_about_card =
            |kind: &HintKind| !matches!(kind, HintKind::LabelsShifted | HintKind::LabelsPermuted);
        self.kinds.len() == 1 && self.kinds.iter().all(is_about_card)
    }
}

fn accuracy(labelled: &Labelled<'_>, state: &State) -> f64 {
    let right = right(labelled.labels, &state.predictions, &state.classes);
    let count = right.iter().filter(|right| **right).count();
    count as f64 / right.len().max(1) as f64
}

/// The other cards that are significantly better than that of `state`.
fn better_cards(
    run: &mut Run<'_>,
    labelled: &Labelled<'_>,
    state: &State,
    changes: Changes,
    tried: &mut usize,
) -> Result<Vec<Candidate>, InspectError> {
    let Some(card) = &state.card else {
        return Ok(Vec::new());
    };
    run.subject.set_image_card(card.clone());
    let right = right(labelled.labels, &state.predictions, &state.classes);
    // Every so many samples: those of a data set are often sorted by class.
    let stride = labelled.positions.len().div_ceil(SCREENED).max(1);
    let screened: Vec<usize> = (0..labelled.positions.len()).step_by(stride).collect();
    let pick = |values: &[u32]| -> Vec<u32> { screened.iter().map(|at| values[*at]).collect() };
    let (positions, labels) = (pick(labelled.positions), pick(labelled.labels));
    let right_screened: Vec<bool> = screened.iter().map(|at| right[*at]).collect();
    let mut better = Vec::new();
    for Variant { kinds, card: other } in run.variants(changes)? {
        *tried += 1;
        run.subject.set_image_card(other.clone());
        // A card with which the model cannot compute is none.
        let Some(logits) = run.logits_or_none(&positions)? else {
            continue;
        };
        let outcome = self::right(&labels, &logits.predictions(), &state.classes);
        let screen = Paired::of(&right_screened, &outcome);
        if screen.gained == 0 || screen.gained < screen.lost {
            continue;
        }
        let Some(logits) = run.logits_or_none(labelled.positions)? else {
            continue;
        };
        let predictions = logits.predictions();
        let outcome = self::right(labelled.labels, &predictions, &state.classes);
        let paired = Paired::of(&right, &outcome);
        if paired.is_better() {
            better.push(Candidate {
                kinds,
                set: Setting::between(card, &other),
                paired,
                state: State {
                    card: Some(other),
                    classes: state.classes.clone(),
                    predictions,
                },
            });
        }
    }
    Ok(better)
}

/// The other orders of the classes that are significantly better than that of `state`.
fn better_orders(
    run: &Run<'_>,
    labelled: &Labelled<'_>,
    state: &State,
    classes: usize,
) -> Vec<Candidate> {
    // Groups name the model's classes one by one, and nothing says which outputs a missing class has.
    if run.subject.groups.is_some() || !state.classes.missing.is_empty() {
        return Vec::new();
    }
    let right = right(labelled.labels, &state.predictions, &state.classes);
    let all: Vec<usize> = (0..labelled.labels.len()).collect();
    let (fitting, testing): (Vec<usize>, Vec<usize>) = all.iter().partition(|at| *at % 2 == 0);
    let mut better = Vec::new();
    let mut try_order = |kind, order: ClassMatch, on: &[usize], least: f64| {
        let outcome = self::right(labelled.labels, &state.predictions, &order);
        let pick = |values: &[bool]| -> Vec<bool> { on.iter().map(|at| values[*at]).collect() };
        let paired = Paired::of(&pick(&right), &pick(&outcome));
        if paired.is_better() && paired.accuracy_after() >= least {
            let names = order.output_names(labelled.data_classes, &run.subject.class_names);
            let has_card = run.subject.card().is_some();
            better.push(Candidate {
                kinds: vec![kind],
                set: has_card
                    .then(|| Setting::names(&names))
                    .into_iter()
                    .collect(),
                paired,
                state: State {
                    card: state.card.clone(),
                    classes: order,
                    predictions: state.predictions.clone(),
                },
            });
        }
    };
    for step in [1, -1] {
        try_order(
            HintKind::LabelsShifted,
            state.classes.shifted(step, classes),
            &all,
            0.0,
        );
    }
    // Fitted to one half and tested on the other: some order always fits the samples that it was read from.
    let pick_labels: Vec<u32> = fitting.iter().map(|at| labelled.labels[*at]).collect();
    let pick_predictions: Vec<usize> = fitting.iter().map(|at| state.predictions[*at]).collect();
    if let Some(order) = state
        .classes
        .fitted(&pick_labels, &pick_predictions, classes)
    {
        try_order(HintKind::LabelsPermuted, order, &testing, PERMUTED_ACCURACY);
    }
    better
}

/// Which samples are predicted right.
fn right(labels: &[u32], predictions: &[usize], classes: &ClassMatch) -> Vec<bool> {
    let pairs = labels.iter().zip(predictions);
    pairs
        .map(|(label, prediction)| classes.class(*label) == Some(*prediction))
        .collect()
}
