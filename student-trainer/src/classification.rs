//! Predictions and accuracies from logits.

/// The class of each row of `logits`, [n, classes]: the first one with the largest logit, as `argmax`.
pub(crate) fn predictions(logits: &[f32], classes: usize) -> Vec<u8> {
    logits.chunks_exact(classes).map(largest).collect()
}

fn largest(row: &[f32]) -> u8 {
    let mut best = 0;
    for (class, logit) in row.iter().enumerate() {
        if *logit > row[best] {
            best = class;
        }
    }
    // Holds: labels are u8, so a data set has at most 256 classes.
    u8::try_from(best).unwrap_or(u8::MAX)
}

/// Share of equal entries, 0 to 1; 0 if there are none.
pub(crate) fn accuracy(predictions: &[u8], labels: &[u8]) -> f64 {
    let hits = predictions.iter().zip(labels).filter(|(a, b)| a == b);
    hits.count() as f64 / predictions.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_logits_wins() {
        let logits = [0.0, 2.0, 1.0, 3.0, 3.0, 3.0, -5.0, -4.0, -3.0];
        assert_eq!(predictions(&logits, 3), [1, 0, 2]);
    }

    #[test]
    fn accuracy_is_a_share() {
        assert_eq!(accuracy(&[1, 2, 3, 4], &[1, 2, 0, 4]), 0.75);
        assert_eq!(accuracy(&[], &[]), 0.0);
    }
}
