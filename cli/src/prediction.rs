//! Converts logits to classes and probabilities.

/// The index of the largest value, the first one of equal values; 0 for an empty slice.
pub(crate) fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = index;
        }
    }
    best
}

/// Computes the softmax in f64.
pub(crate) fn probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let powers: Vec<f64> = logits
        .iter()
        .map(|logit| (f64::from(*logit) - largest).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// The `count` most probable classes with their probabilities, in descending order.
pub(crate) fn most_probable(logits: &[f32], count: usize) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> = probabilities(logits).into_iter().enumerate().collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    ranked.truncate(count);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_of_large_logits_is_finite() {
        let p = probabilities(&[1000.0, 1000.0, -1000.0]);
        assert_eq!(p, [0.5, 0.5, 0.0]);
        // exp(0), exp(1), exp(2) over their sum.
        let p = probabilities(&[0.0, 1.0, 2.0]);
        for (found, expected) in p.iter().zip([0.090_030_57, 0.244_728_47, 0.665_240_96]) {
            assert!((found - expected).abs() < 1e-7);
        }
    }

    #[test]
    fn classes_are_ranked() {
        let logits = [0.0, 3.0, 1.0, 3.0];
        assert_eq!(argmax(&logits), 1);
        let ranked = most_probable(&logits, 3);
        let classes: Vec<usize> = ranked.iter().map(|(class, _)| *class).collect();
        assert_eq!(classes, [1, 3, 2]);
    }
}
