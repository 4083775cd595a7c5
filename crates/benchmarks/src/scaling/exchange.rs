//! What the workers of data-parallel training exchange in a step, and how long that takes on a network.

use anyhow::Result;
use networks::{NetworkSpec, Weights};
use serde::{Deserialize, Serialize};

use super::link::Link;

/// Numbers of a batch besides gradients and statistics, for a loss of one term: loss, correct and unlabelled samples.
const SUMS: usize = 3;

/// The rows that workers gather in each step: of each batch its gradients, its statistics of batch-norm and its sums, as f32
/// (`student-trainer/src/engine/exchange.rs`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Exchange {
    /// Of one batch.
    pub row_bytes: usize,
}

/// A step of workers on machines of their own, each with one batch, by arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct SimulatedStep {
    /// Time in which a worker computes its batch, milliseconds.
    pub compute_ms: f64,
    /// Time in which the rows of all workers arrive, milliseconds.
    pub exchange_ms: f64,
    /// The exchange's share of the step's time.
    pub network_share: f64,
    /// Of all workers together.
    pub samples_per_second: f64,
}

impl Exchange {
    /// The exchange of a network, from the tensors that it has.
    ///
    /// # Errors
    /// If the network is invalid.
    pub(super) fn of(network: &NetworkSpec) -> Result<Self> {
        // The gradients are as large as the trained tensors, the statistics as the others.
        let weights = Weights::initial(network, 1)?;
        let numbers: usize = weights.iter().map(|(_, tensor)| tensor.data.len()).sum();
        Ok(Self {
            row_bytes: (numbers + SUMS) * size_of::<f32>(),
        })
    }

    /// Bytes that each of `workers` workers contributes to a step of `batches` batches.
    pub(super) fn block_bytes(self, batches: usize, workers: usize) -> usize {
        batches.div_ceil(workers) * self.row_bytes
    }

    /// Bytes that all workers together send in a step: each block reaches every other worker.
    pub(super) fn sent_bytes(self, batches: usize, workers: usize) -> usize {
        workers * (workers - 1) * self.block_bytes(batches, workers)
    }

    /// A step of `workers` workers, each with one batch of `samples` samples that takes `batch_seconds`.
    pub(super) fn simulate(
        self,
        workers: usize,
        samples: usize,
        batch_seconds: f64,
        link: Link,
    ) -> SimulatedStep {
        let exchange = link.all_gather_seconds(workers, self.block_bytes(workers, workers) as f64);
        let step = batch_seconds + exchange;
        SimulatedStep {
            compute_ms: 1e3 * batch_seconds,
            exchange_ms: 1e3 * exchange,
            network_share: exchange / step,
            samples_per_second: (workers * samples) as f64 / step,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    #[test]
    fn a_row_has_every_tensor_and_the_sums() {
        let exchange = Exchange::of(&Network::DemoStudent.spec()).unwrap();
        // 39,154 gradients; mean and variance of 24 + 48 + 64 channels; 3 sums; 4 bytes each.
        assert_eq!(exchange.row_bytes, (39_154 + 2 * 136 + 3) * 4);
    }

    #[test]
    fn every_block_reaches_every_other_worker() {
        let exchange = Exchange { row_bytes: 100 };
        for (batches, workers, block, sent) in [
            (4, 1, 400, 0),
            (4, 2, 200, 400),
            (4, 4, 100, 1_200),
            // The last row of a worker with fewer batches stays zero.
            (3, 2, 200, 400),
        ] {
            assert_eq!(exchange.block_bytes(batches, workers), block);
            assert_eq!(exchange.sent_bytes(batches, workers), sent);
        }
    }

    #[test]
    fn a_simulated_step_computes_and_then_exchanges() {
        let link = Link {
            gigabits_per_second: 10.0,
            latency_us: 50.0,
        };
        // 15 rounds of 1.25 MB: 15 × (1 ms + 50 µs) = 15.75 ms, after 47.25 ms.
        let exchange = Exchange {
            row_bytes: 1_250_000,
        };
        let step = exchange.simulate(16, 128, 47.25e-3, link);
        let is_near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-9;
        assert!(is_near(step.compute_ms, 47.25), "{step:?}");
        assert!(is_near(step.exchange_ms, 15.75), "{step:?}");
        assert!(is_near(step.network_share, 0.25), "{step:?}");
        // 2,048 samples in 63 ms.
        assert!(
            is_near(step.samples_per_second, 2_048.0 / 0.063),
            "{step:?}"
        );
    }
}
