//! Calibration: whether a model is right as often as it says.

use super::tested::Tested;
use crate::{
    local::ModelFigures,
    page::{Chart, Series, Unit},
};

/// Bins of equal width, as in Guo et al., "On Calibration of Modern Neural Networks", 2017.
const BINS: usize = 15;

/// How a model's confidence compares with its accuracy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Calibration {
    /// Expected calibration error, 0 to 1: the mean over samples of |accuracy − confidence| of their bins.
    pub error: f64,
    /// (mean confidence, accuracy) of each bin that has samples.
    pub bins: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    samples: usize,
    correct: usize,
    confidence: f64,
}

impl Calibration {
    /// `None` if the model's confidence is not known, or no sample has a label.
    pub(super) fn new(model: &ModelFigures, labels: &[Option<usize>]) -> Option<Self> {
        let mut bins = [Bin::default(); BINS];
        let answers = model.predictions.iter().zip(model.confidences.as_ref()?);
        for ((prediction, confidence), label) in answers.zip(labels) {
            let Some(label) = label else { continue };
            // Bin m holds confidences above (m − 1) / BINS, up to m / BINS.
            let upper = (confidence * BINS as f64).ceil() as usize;
            let bin = &mut bins[upper.clamp(1, BINS) - 1];
            bin.samples += 1;
            bin.correct += usize::from(prediction == label);
            bin.confidence += confidence;
        }
        let all: usize = bins.iter().map(|bin| bin.samples).sum();
        if all == 0 {
            return None;
        }
        let gap = |bin: &Bin| (bin.correct as f64 - bin.confidence).abs() / all as f64;
        let mean = |bin: &Bin| {
            let samples = bin.samples as f64;
            (bin.confidence / samples, bin.correct as f64 / samples)
        };
        Some(Self {
            error: bins.iter().map(gap).sum(),
            bins: bins
                .iter()
                .filter(|bin| bin.samples > 0)
                .map(mean)
                .collect(),
        })
    }
}

/// The calibration of the student and, if it is known, of the teacher.
pub(super) fn calibrations(tested: &Tested<'_>) -> Vec<(&'static str, Calibration)> {
    let models = [
        ("student", Some(tested.student)),
        ("teacher", tested.teacher),
    ];
    let known = models
        .into_iter()
        .filter_map(|(name, model)| Some((name, Calibration::new(model?, tested.labels)?)));
    known.collect()
}

/// The reliability diagram: accuracy over confidence.
pub(super) fn reliability_diagram(calibrations: &[(&'static str, Calibration)]) -> Chart {
    let ideal = Series::new("perfectly calibrated", vec![(0.0, 0.0), (1.0, 1.0)]);
    let models = calibrations
        .iter()
        .map(|(name, it)| Series::new(*name, it.bins.clone()));
    Chart {
        title: "Accuracy by confidence".to_owned(),
        x_label: "confidence",
        series: [ideal].into_iter().chain(models).collect(),
        unit: Unit::Percent,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{
        super::tested::example::{LABELS, model},
        *,
    };

    /// Written by `scripts/golden/evaluation.py`, with fractions.
    #[derive(Deserialize)]
    struct Golden {
        confidences: Vec<f64>,
        correct: Vec<bool>,
        error: f64,
    }

    #[test]
    fn the_error_is_that_of_its_definition() {
        let golden = include_str!("../../tests/golden/calibration.json");
        let golden: Vec<Golden> = serde_json::from_str(golden).unwrap();
        assert_eq!(golden.len(), 3);
        for case in golden {
            let mut model = model([0; 6]);
            model.predictions = vec![0; case.correct.len()];
            model.confidences = Some(case.confidences);
            let labels = case.correct.iter().map(|correct| usize::from(!correct));
            let labels: Vec<_> = labels.map(Some).collect();
            let found = Calibration::new(&model, &labels).unwrap();
            assert!((found.error - case.error).abs() < 1e-12, "{found:?}");
        }
    }

    #[test]
    fn the_error_is_the_mean_gap_between_accuracy_and_confidence() {
        // Right with 0.9, wrong with 0.95, right with 0.6 and 0.5, wrong with 0.7; the last has no label.
        let model = model([0, 1, 1, 1, 0, 2]);
        let found = Calibration::new(&model, &LABELS).unwrap();
        // 0.9 and 0.95 are in bins 14 and 15, 0.6 in bin 9, 0.5 in bin 8, 0.7 in bin 11.
        let expected = (0.1 + 0.95 + 0.4 + 0.5 + 0.7) / 5.0;
        assert!((found.error - expected).abs() < 1e-12, "{found:?}");
        assert_eq!(found.bins.len(), 5);
        assert_eq!(Calibration::new(&model, &[None; 6]), None);
    }

    #[test]
    fn a_model_that_is_right_as_often_as_it_says_has_no_error() {
        let mut model = model([0; 6]);
        model.predictions = vec![0; 10];
        model.confidences = Some(vec![0.8; 10]);
        let labels: Vec<_> = (0..10)
            .map(|sample| Some(usize::from(sample >= 8)))
            .collect();
        let found = Calibration::new(&model, &labels).unwrap();
        assert!(found.error < 1e-12, "{found:?}");
        assert_eq!(found.bins.len(), 1);
    }
}
