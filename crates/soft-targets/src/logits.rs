//! Classes and probabilities of one sample's logits.

/// The class with the largest logit, the first one of equal logits; 0 without classes.
pub fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = class;
        }
    }
    best
}

/// The probability of each class, in f64, as `torch.softmax` of `logits`. Large logits do not overflow.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let mut powers: Vec<f64> = shifted(logits).map(f64::exp).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter_mut().for_each(|power| *power /= sum);
    powers
}

/// The logarithm of each class's probability, in f64, as `torch.log_softmax` of `logits`.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let sum: f64 = shifted(logits).map(f64::exp).sum();
    shifted(logits).map(|logit| logit - sum.ln()).collect()
}

/// The logits minus the largest one.
fn shifted(logits: &[f32]) -> impl Iterator<Item = f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits
        .iter()
        .map(move |logit| f64::from(*logit) - f64::from(largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_largest_logits_gives_the_class() {
        assert_eq!(argmax(&[0.0, 3.0, 1.0, 3.0]), 1);
        assert_eq!(argmax(&[]), 0);
    }

    #[test]
    fn probabilities_are_those_of_pytorch() {
        // exp(0), exp(1), exp(2) over their sum.
        let expected = [0.090_030_573, 0.244_728_471, 0.665_240_956];
        let logits = [0.0, 1.0, 2.0];
        let probabilities = softmax(&logits);
        let logarithms = log_softmax(&logits);
        for ((found, logarithm), expected) in probabilities.iter().zip(logarithms).zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{found}");
            assert!((logarithm.exp() - expected).abs() < 1e-9, "{logarithm}");
        }
    }

    #[test]
    fn large_and_infinite_logits_have_finite_probabilities() {
        let logits = [1000.0, 1000.0, -1000.0, f32::NEG_INFINITY];
        assert_eq!(softmax(&logits), [0.5, 0.5, 0.0, 0.0]);
        assert_eq!(log_softmax(&logits)[0], -2_f64.ln());
        assert!(softmax(&[]).is_empty() && log_softmax(&[]).is_empty());
    }
}
