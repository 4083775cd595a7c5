//! Ranks classes by their logits.

use soft_targets::logits::softmax;

/// A class in the answer for one image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RankedClass {
    /// Index of the class in the model.
    pub(crate) index: usize,
    pub(crate) name: String,
    /// Softmax of the logits.
    pub(crate) probability: f64,
    pub(crate) logit: f32,
}

/// The `count` most probable classes. Equal classes keep their order.
pub(crate) fn rank(logits: &[f32], names: &[String], count: usize) -> Vec<RankedClass> {
    let probabilities = softmax(logits);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    order.truncate(count);
    let ranked = order.into_iter().map(|index| RankedClass {
        index,
        name: names.get(index).cloned().unwrap_or_default(),
        probability: probabilities[index],
        logit: logits[index],
    });
    ranked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_sorted_by_probability_and_probabilities_are_the_softmax() {
        let names = ["a", "b", "c", "d"].map(str::to_owned);
        let ranked = rank(&[0.0, 2.0, 1.0, 2.0], &names, 3);
        let order: Vec<_> = ranked.iter().map(|class| class.name.as_str()).collect();
        assert_eq!(order, ["b", "d", "c"]);
        let sum = 1.0 + 2.0 * 2_f64.exp() + 1_f64.exp();
        assert!((ranked[0].probability - 2_f64.exp() / sum).abs() < 1e-12);
        assert_eq!((ranked[2].index, ranked[2].logit), (2, 1.0));
        let all = rank(&[1000.0, -1000.0, 1000.0, 0.0], &names, 99);
        assert_eq!(all.len(), 4);
        assert_eq!(all[0].probability, 0.5);
    }
}
