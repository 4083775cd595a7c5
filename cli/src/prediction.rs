//! Ranks classes by their logits.

use soft_targets::logits::softmax;

/// The `count` most probable classes with their probabilities, in descending order.
pub(crate) fn most_probable(logits: &[f32], count: usize) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> = softmax(logits).into_iter().enumerate().collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    ranked.truncate(count);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ranked() {
        let logits = [0.0, 3.0, 1.0, 3.0];
        let ranked = most_probable(&logits, 3);
        let classes: Vec<usize> = ranked.iter().map(|(class, _)| *class).collect();
        assert_eq!(classes, [1, 3, 2]);
    }
}
