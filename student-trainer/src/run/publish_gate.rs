//! `[publish.gate]`: decides whether the exported model is good enough to be published.

use artifacts::manifest::TeacherIdentity;
use datasets::{Source, Subset};
use networks::cost;
use onnx_runtime::{Latency, Session, SessionOptions};

use super::{
    baseline::Baseline,
    delivery::Delivery,
    error::RunError,
    gate_error::PublishGateError,
    gate_verdict::{Bound, GateVerdict},
};
use crate::{
    classification::{self, accuracy, agreement, labels},
    config::PublishGateConfig,
    export::{self, ExportError},
    soft_targets::LiveTeacher,
};

/// The bounds of a run, and what the model is measured on.
pub(super) struct PublishGate<'r> {
    delivery: &'r Delivery<'r>,
    bounds: &'r PublishGateConfig,
    /// Accuracy of the baseline on the validation samples.
    baseline: Option<f64>,
}

impl<'r> PublishGate<'r> {
    /// The gate of a run, if it has one. Checks before training that every bound can be measured.
    ///
    /// # Errors
    /// See [`PublishGateError`]; [`RunError::Spec`].
    pub(super) fn open(delivery: &'r Delivery<'r>) -> Result<Option<Self>, RunError> {
        let publish = delivery.config.publish.as_ref();
        let Some(bounds) = publish.and_then(|publish| publish.gate.as_ref()) else {
            return Ok(None);
        };
        let validation = delivery.data.validation.as_ref();
        if let (Some(key), None) = (bounds.needs_validation(), validation) {
            return Err(PublishGateError::NoValidation { key }.into());
        }
        let is_labelled = validation.is_some_and(|it| labels(it).iter().any(Option::is_some));
        if let (Some(key), false) = (bounds.needs_accuracy(), is_labelled) {
            return Err(PublishGateError::NoLabels { key }.into());
        }
        let baseline = match (&bounds.baseline, validation) {
            (Some(folder), Some(validation)) => {
                let parameters = cost(&delivery.config.network)?.parameters;
                Some(Baseline::read(
                    folder,
                    parameters,
                    validation.fingerprint(),
                )?)
            }
            _ => None,
        };
        let gate = Self {
            delivery,
            bounds,
            baseline: baseline.map(|baseline| baseline.accuracy),
        };
        if let Some(baseline) = baseline {
            gate.compare_budgets(baseline);
        }
        Ok(Some(gate))
    }

    /// Warns if the baseline trained for less time or longer.
    fn compare_budgets(&self, baseline: Baseline) {
        let Delivery { config, data, .. } = self.delivery;
        let phases = config.phases.iter();
        let samples =
            phases.map(|phase| phase.epochs as u64 * data.of_loss(&phase.loss).len() as u64);
        let samples: u64 = samples.sum();
        if samples != baseline.consumed_samples {
            self.delivery.notices.notice(format!(
                "warning: the baseline of publish.gate trained on {} samples over all epochs, and this run trains on \
                 {samples}: the gain is not due to the teacher alone",
                baseline.consumed_samples
            ));
        }
    }

    /// Measures the exported model. `teacher` is the one that the run used.
    ///
    /// # Errors
    /// If ONNX Runtime fails, a sample cannot be read, or the teacher is needed and does not answer.
    pub(super) fn judge(
        &self,
        onnx: &[u8],
        teacher: Option<&TeacherIdentity>,
    ) -> Result<GateVerdict, RunError> {
        let bounds = self.bounds;
        let mut verdict = GateVerdict::default();
        let validation = self.delivery.data.validation.as_ref();
        if let (Some(validation), Some(_)) = (validation, bounds.needs_validation()) {
            let predictions = self.predict(onnx, validation)?;
            // Holds: a gate that needs a label is not opened without one.
            let accuracy = accuracy(&predictions, &labels(validation)).unwrap_or_default();
            verdict.check(Bound::MinAccuracy, bounds.min_accuracy, accuracy);
            if let Some(baseline) = self.baseline {
                let wanted = bounds.min_gain.unwrap_or_default();
                verdict.check(Bound::MinGain, Some(wanted), accuracy - baseline);
            }
            if bounds.min_agreement.is_some() {
                let teachers = self.teachers_predictions(validation, teacher)?;
                let agreement = agreement(&predictions, &teachers);
                verdict.check(Bound::MinAgreement, bounds.min_agreement, agreement);
            }
        }
        if bounds.max_latency_us.is_some() {
            let latency = Latency::measure(onnx).map_err(ExportError::from)?;
            verdict.check(Bound::MaxLatencyUs, bounds.max_latency_us, latency.median);
        }
        if verdict.is_met() {
            let notices = &self.delivery.notices;
            notices.notice(format!("the model may be published: {verdict}"));
        }
        Ok(verdict)
    }

    /// The class that the exported model gives each validation sample.
    fn predict(&self, onnx: &[u8], validation: &Subset) -> Result<Vec<u32>, ExportError> {
        let Delivery { config, data, .. } = self.delivery;
        let input = config.network.input;
        let shape = input.dimensions();
        let normalization = export::outside_the_model(&config.network, &data.normalization);
        let mut session = Session::load(onnx, SessionOptions::default())?;
        classification::predict(validation, &shape, |values| {
            let mut normalized = Vec::new();
            normalization.apply_to(values, &shape, &mut normalized);
            Ok(session.run(&normalized, values.len() / input.elements())?)
        })
    }

    /// The class that the teacher gives each validation sample.
    fn teachers_predictions(
        &self,
        validation: &Subset,
        teacher: Option<&TeacherIdentity>,
    ) -> Result<Vec<u32>, RunError> {
        let Delivery {
            config,
            notices,
            cancel,
            runtime,
            ..
        } = self.delivery;
        let connected =
            LiveTeacher::connect(config, None, validation, teacher, notices, cancel, runtime)?;
        let logits = connected.logits(validation)?;
        let rows = logits.chunks_exact(config.network.classes);
        Ok(rows.map(classification::largest).collect())
    }
}
