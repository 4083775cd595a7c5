//! Predictions and accuracies from logits.

use datasets::{SampleError, Source, Values, read_plain};
use soft_targets::logits::argmax;

/// Samples per call; bounds the memory of activations.
const BATCH: u32 = 250;

/// The class that `logits` gives each sample of `source`, without augmentation, for an input of `shape`. `logits`
/// computes row-major [samples, classes].
///
/// # Errors
/// A sample that cannot be read, and the errors of `logits`.
pub(crate) fn predict<E: From<SampleError>>(
    source: &dyn Source,
    shape: &[usize],
    mut logits: impl FnMut(&Values) -> Result<Vec<f32>, E>,
) -> Result<Vec<u32>, E> {
    let mut predictions = Vec::with_capacity(source.len());
    for_each_batch(source, shape, |values, samples| {
        let logits = logits(values)?;
        let classes = logits.len() / samples;
        predictions.extend(logits.chunks_exact(classes).map(largest));
        Ok::<_, E>(())
    })?;
    Ok(predictions)
}

/// Passes all samples of `source`, without augmentation, for an input of `shape`, to `receive`: a batch and the number
/// of its samples.
///
/// # Errors
/// A sample that cannot be read, and the errors of `receive`.
pub(crate) fn for_each_batch<E: From<SampleError>>(
    source: &dyn Source,
    shape: &[usize],
    mut receive: impl FnMut(&Values, usize) -> Result<(), E>,
) -> Result<(), E> {
    let count = source.len() as u32;
    for first in (0..count).step_by(BATCH as usize) {
        let samples: Vec<u32> = (first..count.min(first + BATCH)).collect();
        receive(&read_plain(source, &samples, shape)?, samples.len())?;
    }
    Ok(())
}

/// The label of every sample.
pub(crate) fn labels(source: &dyn Source) -> Vec<Option<u32>> {
    let samples = 0..source.len() as u32;
    samples.map(|sample| source.label(sample)).collect()
}

/// The first class with the largest logit, as PyTorch's `argmax`.
pub(crate) fn largest(row: &[f32]) -> u32 {
    // Does not truncate: labels are u32.
    argmax(row) as u32
}

/// Share of labelled samples that are predicted correctly, 0 to 1; `None` if none is labelled.
pub(crate) fn accuracy(predictions: &[u32], labels: &[Option<u32>]) -> Option<f64> {
    let pairs = predictions.iter().zip(labels);
    let hits = pairs.filter(|(found, label)| Some(**found) == **label);
    let labelled = labels.iter().flatten().count();
    (labelled > 0).then(|| hits.count() as f64 / labelled as f64)
}

/// Share of equal predictions, 0 to 1; 0 if there are none.
pub(crate) fn agreement(predictions: &[u32], teacher: &[u32]) -> f64 {
    let equal = predictions.iter().zip(teacher).filter(|(a, b)| a == b);
    equal.count() as f64 / predictions.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_logits_wins() {
        let rows = [[0.0, 2.0, 1.0], [3.0, 3.0, 3.0], [-5.0, -4.0, -3.0]];
        assert_eq!(rows.map(|row| largest(&row)), [1, 0, 2]);
        let many: Vec<f32> = (0..21_841).map(|class| class as f32).collect();
        assert_eq!(largest(&many), 21_840);
    }

    #[test]
    fn accuracy_is_a_share_of_the_labelled_samples() {
        let labels = [1, 2, 0, 4].map(Some);
        assert_eq!(accuracy(&[1, 2, 3, 4], &labels), Some(0.75));
        let partly = [Some(1), None, None, Some(0)];
        assert_eq!(accuracy(&[1, 2, 3, 4], &partly), Some(0.5));
        assert_eq!(accuracy(&[1, 2], &[None, None]), None);
        assert_eq!(agreement(&[1, 2, 3, 4], &[1, 2, 0, 4]), 0.75);
    }
}
