//! Histograms of values.

use crate::event::HistogramProto;

/// Number of buckets, as `tf.summary.histogram` and Keras's callback have.
const BUCKETS: usize = 30;

/// The histogram of the finite values among `values`, in buckets of one width; `None` if there are none.
pub fn histogram(values: &[f32]) -> Option<HistogramProto> {
    let finite = || {
        let values = values.iter().map(|value| f64::from(*value));
        values.filter(|value| value.is_finite())
    };
    let min = finite().reduce(f64::min)?;
    let max = finite().reduce(f64::max)?;
    let buckets = if min < max { BUCKETS } else { 1 };
    let width = (max - min) / buckets as f64;
    let mut histogram = HistogramProto {
        min,
        max,
        bucket_limit: (1..=buckets)
            .map(|bucket| min + width * bucket as f64)
            .collect(),
        bucket: vec![0.0; buckets],
        ..HistogramProto::default()
    };
    for value in finite() {
        histogram.num += 1.0;
        histogram.sum += value;
        histogram.sum_squares += value * value;
        // The largest value is in the last bucket. With one bucket, 0 / 0 becomes 0.
        let bucket = ((value - min) / width) as usize;
        histogram.bucket[bucket.min(buckets - 1)] += 1.0;
    }
    Some(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_in_one_bucket() {
        let values: Vec<f32> = (0..=60).map(|step| step as f32 - 30.0).collect();
        let found = histogram(&[&values[..], &[f32::NAN, f32::INFINITY]].concat()).unwrap();
        assert_eq!((found.min, found.max, found.num), (-30.0, 30.0, 61.0));
        assert_eq!((found.sum, found.sum_squares), (0.0, 18910.0));
        assert_eq!(found.bucket_limit.len(), BUCKETS);
        assert_eq!(found.bucket_limit[BUCKETS - 1], 30.0);
        assert_eq!(found.bucket[0], 2.0);
        assert_eq!(found.bucket[BUCKETS - 1], 3.0);
        assert_eq!(found.bucket.iter().sum::<f64>(), 61.0);
    }

    #[test]
    fn equal_values_have_one_bucket_and_none_have_no_histogram() {
        let found = histogram(&[2.0; 3]).unwrap();
        assert_eq!((found.bucket_limit, found.bucket), (vec![2.0], vec![3.0]));
        assert_eq!(histogram(&[]), None);
        assert_eq!(histogram(&[f32::NAN]), None);
    }
}
