//! Cross-entropy with the hard labels.

use datasets::IGNORED_LABEL;
use tch::{Kind, Reduction, TchError, Tensor};

use super::Targets;

/// −(1 − ε) log p_s[y] − ε / C Σ_c log p_s[c] with p_s = softmax(z_s), C classes and ε the label smoothing, as
/// `torch.nn.CrossEntropyLoss`; the mean over the samples that have a label. Of mixed samples, the weighted mean for
/// both labels.
pub(super) fn cross_entropy(
    logits: &Tensor,
    targets: &Targets<'_>,
    label_smoothing: f64,
) -> Result<Tensor, TchError> {
    let class_weights = None::<&Tensor>;
    let value = |labels: &Tensor, reduction| {
        if label_smoothing > 0.0 {
            return logits.f_cross_entropy_loss(
                labels,
                class_weights,
                reduction,
                IGNORED_LABEL,
                label_smoothing,
            );
        }
        let log_probabilities = logits.f_log_softmax(-1, Kind::Float)?;
        log_probabilities.f_nll_loss(labels, class_weights, reduction, IGNORED_LABEL)
    };
    match targets.mixed {
        None => value(targets.labels, Reduction::Mean),
        Some(mixed) => mixed.mean(targets.labels, |labels| value(labels, Reduction::None)),
    }
}
