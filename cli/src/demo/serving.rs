//! Sends the test images to the inference service, one request per image.

use std::time::{Duration, Instant};

use artifacts::manifest::Preprocessing;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use soft_targets::logits::argmax;

use super::test_images::TestImages;
use crate::{
    CliError,
    inference::{ServedModel, preprocess},
    runs::{Style, screen_style},
};

/// One in this many images is sent on its own, to measure latency.
const ALONE_SHARE: usize = 5;
/// Concurrent requests for the other images, so that the service can form batches.
const IN_FLIGHT: usize = 16;

/// The answers and latencies of the service.
#[derive(Debug, Clone)]
pub(super) struct Served {
    /// Logits for every image.
    pub logits: Vec<Vec<f32>>,
    /// Latencies with one request at a time, ascending.
    pub latencies: Vec<Duration>,
    /// Throughput with 16 requests in flight.
    pub images_per_second: f64,
}

/// Sends the first `count` of `images`, each exactly once.
pub(super) async fn serve_images(
    model: &ServedModel,
    images: &TestImages,
    count: usize,
    preprocessing: &Preprocessing,
) -> Result<Served, CliError> {
    let bar = bar(count);
    let infer = async |index: usize| {
        let input = preprocess(&images.pixels(index)?, preprocessing);
        let begin = Instant::now();
        let logits = model.infer(&input).await?;
        bar.inc(1);
        Ok::<_, CliError>((logits, begin.elapsed()))
    };
    let alone = count.div_ceil(ALONE_SHARE);
    bar.set_message("one after the other");
    let mut logits = Vec::with_capacity(count);
    let mut latencies = Vec::with_capacity(alone);
    for index in 0..alone {
        let (answer, latency) = infer(index).await?;
        logits.push(answer);
        latencies.push(latency);
    }
    bar.set_message(format!("{IN_FLIGHT} in flight"));
    let begin = Instant::now();
    let rest: Vec<Vec<f32>> = stream::iter(alone..count)
        .map(|index| async move { infer(index).await.map(|(logits, _)| logits) })
        .buffered(IN_FLIGHT)
        .try_collect()
        .await?;
    let images_per_second = rest.len() as f64 / begin.elapsed().as_secs_f64();
    bar.finish_and_clear();
    logits.extend(rest);
    latencies.sort_unstable();
    Ok(Served {
        logits,
        latencies,
        images_per_second,
    })
}

impl Served {
    /// A percentile of the latency (nearest rank), in microseconds.
    pub(super) fn latency_us(&self, share: f64) -> f64 {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        let latency = self.latencies.get(rank.saturating_sub(1));
        latency.map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    }

    /// The predicted class of every image.
    pub(super) fn predictions(&self) -> Vec<usize> {
        self.logits.iter().map(|logits| argmax(logits)).collect()
    }
}

fn bar(count: usize) -> ProgressBar {
    match screen_style() {
        Style::Lines => ProgressBar::hidden(),
        Style::Bars => {
            let template =
                "  images     [{bar:30}] {percent:>3} %  {eta:>4} left  {per_sec}, {msg}";
            // Cannot fail: the template is constant, and a test draws it.
            let style =
                ProgressStyle::with_template(template).expect("the template is well-formed");
            ProgressBar::new(count as u64).with_style(style.progress_chars("=> "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let served = Served {
            logits: vec![vec![0.0, 1.0], vec![2.0, 1.0]],
            latencies: (1..=200).map(Duration::from_micros).collect(),
            images_per_second: 0.0,
        };
        assert_eq!(served.latency_us(0.5).round(), 100.0);
        assert_eq!(served.latency_us(0.99).round(), 198.0);
        assert_eq!(served.predictions(), [1, 0]);
    }
}
