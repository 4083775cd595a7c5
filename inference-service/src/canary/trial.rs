//! The trial of one canary: selects the version of each request, and observes the answers of both versions.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    counts::{CanaryCounts, Outcome},
    rule::{self, Observed, Verdict},
};
use crate::{
    batcher::{ComputeTimes, InputValues},
    config::CanaryConfig,
    error::InferenceError,
    sharing::is_selected,
};

/// Requests that wait for their comparison; while they do, further ones are not compared.
const WAITING: usize = 16;

/// Why a request is not compared although it is selected.
const TOO_SLOW: &str = "the comparisons are slower than the requests";

/// Samples of a request that are compared.
const COMPARED_SAMPLES: usize = 16;

/// The trial of a canary beside an active version.
#[derive(Debug)]
pub(crate) struct Trial {
    /// The version that served when the trial began.
    pub(crate) active: u64,
    /// The version on trial.
    pub(crate) canary: u64,
    /// The canary's share of the requests that name no version.
    pub(crate) share: f64,
    rule: CanaryConfig,
    began: Instant,
    /// Requests that name no version so far.
    requests: AtomicU64,
    /// Requests of the canary so far.
    answers: AtomicU64,
    observed: Mutex<Observed>,
    /// How the trial ended, and why.
    ended: Mutex<Option<(Outcome, String)>>,
    comparisons: mpsc::Sender<Comparison>,
    counts: Arc<CanaryCounts>,
}

/// A canary's answer that waits for its comparison.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// The input values of `samples` samples.
    pub(crate) input: InputValues,
    pub(crate) samples: usize,
    /// Little-endian f32 [samples or more, classes]: the canary's logits.
    pub(crate) logits: Bytes,
}

/// What a trial reports about itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrialReport {
    /// Answered requests of the canary.
    pub(crate) canary_requests: u64,
    /// Answered requests of the active version.
    pub(crate) active_requests: u64,
    /// Samples whose classes were compared.
    pub(crate) compared: u64,
    /// Compared samples for which the canary agreed.
    pub(crate) agreeing: u64,
    /// How the trial ended, and why; `None` while it runs.
    pub(crate) ended: Option<(Outcome, String)>,
}

/// Observes one request that names no version, which one of the two versions answers.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    trial: Arc<Trial>,
    is_canary: bool,
}

impl Trial {
    /// Begins the trial of version `canary` beside `active`. Returns the answers to compare, too.
    pub(crate) fn begin(
        active: u64,
        canary: u64,
        share: f64,
        rule: &CanaryConfig,
        counts: Arc<CanaryCounts>,
    ) -> (Arc<Self>, mpsc::Receiver<Comparison>) {
        let (comparisons, waiting) = mpsc::channel(WAITING);
        let trial = Self {
            active,
            canary,
            share,
            rule: rule.clone(),
            began: Instant::now(),
            requests: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            observed: Mutex::default(),
            ended: Mutex::default(),
            comparisons,
            counts,
        };
        (Arc::new(trial), waiting)
    }

    /// Counts a request that names no version. Whether the canary answers it depends on the request's number alone, and
    /// the canary's requests are spread evenly.
    pub(crate) fn takes_next(&self) -> bool {
        is_selected(self.requests.fetch_add(1, Ordering::Relaxed), self.share)
    }

    /// Observes a request that the canary answers, or the active version.
    pub(crate) fn observer(self: &Arc<Self>, is_canary: bool) -> Observer {
        Observer {
            trial: Arc::clone(self),
            is_canary,
        }
    }

    /// Records that `agreeing` of `compared` samples agree.
    pub(crate) fn compared(&self, compared: u64, agreeing: u64) {
        self.counts.compared.fetch_add(compared, Ordering::Relaxed);
        self.counts.agreeing.fetch_add(agreeing, Ordering::Relaxed);
        let mut observed = lock(&self.observed);
        observed.compared += compared;
        observed.agreeing += agreeing;
    }

    /// Records that a selected request was not compared.
    pub(crate) fn not_compared(&self, problem: String) {
        self.counts.not_compared.fetch_add(1, Ordering::Relaxed);
        lock(&self.observed).not_compared = Some(problem);
    }

    /// The rule's decision; `None` while more requests are needed.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        // Requests wait for the lock, so the medians are computed without it.
        let observed = lock(&self.observed).clone();
        rule::judge(&self.rule, &observed, self.began.elapsed())
    }

    /// Records how the trial ended. Only the first end counts.
    pub(crate) fn end(&self, outcome: Outcome, reason: String) {
        let mut ended = lock(&self.ended);
        if ended.is_none() {
            self.counts.end(outcome);
            *ended = Some((outcome, reason));
        }
    }

    pub(crate) fn report(&self) -> TrialReport {
        let ended = lock(&self.ended).clone();
        let observed = lock(&self.observed);
        TrialReport {
            canary_requests: observed.canary.count(),
            active_requests: observed.active.count(),
            compared: observed.compared,
            agreeing: observed.agreeing,
            ended,
        }
    }

    /// Counts a request of the canary, and selects it for comparison or not.
    fn compares_next(&self) -> bool {
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        is_selected(number, self.rule.compare_share)
    }
}

impl Observer {
    /// The input of a request that is compared if the canary answers it. `sample_values` is the size of a sample.
    pub(crate) fn select(
        &self,
        input: &InputValues,
        samples: usize,
        sample_values: usize,
    ) -> Option<(InputValues, usize)> {
        if !self.is_canary || !self.trial.compares_next() {
            return None;
        }
        if self.trial.comparisons.capacity() == 0 {
            self.trial.not_compared(TOO_SLOW.to_owned());
            return None;
        }
        let samples = samples.min(COMPARED_SAMPLES);
        Some((input.first(samples * sample_values), samples))
    }

    /// Records an answer, and passes it on for comparison if `selected` has its input.
    pub(crate) fn answered(
        &self,
        times: &ComputeTimes,
        logits: &Bytes,
        selected: Option<(InputValues, usize)>,
    ) {
        let latency = latency(times);
        {
            let mut observed = lock(&self.trial.observed);
            let latencies = if self.is_canary {
                &mut observed.canary
            } else {
                &mut observed.active
            };
            latencies.record(latency);
        }
        if let Some((input, samples)) = selected {
            let comparison = Comparison {
                input,
                samples,
                logits: logits.clone(),
            };
            // Fails if the queue was filled meanwhile, or the trial has ended.
            if self.trial.comparisons.try_send(comparison).is_err() {
                self.trial.not_compared(TOO_SLOW.to_owned());
            }
        }
    }

    /// Records a failed request. What callers cause, and a full queue, is not the canary's fault.
    pub(crate) fn failed(&self, error: &InferenceError) {
        let is_fault = matches!(
            error,
            InferenceError::Session(_) | InferenceError::WorkerStopped { .. }
        );
        if self.is_canary && is_fault {
            lock(&self.trial.observed).failures += 1;
        }
    }
}

/// Time in the batcher.
fn latency(times: &ComputeTimes) -> Duration {
    times.queue + times.compute_input + times.compute_infer + times.compute_output
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under a lock can panic between two related changes.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InferenceConfig;

    fn trial(share: f64) -> (Arc<Trial>, mpsc::Receiver<Comparison>) {
        let rule = InferenceConfig::shipped().canary;
        Trial::begin(1, 2, share, &rule, Arc::default())
    }

    #[test]
    fn the_canary_gets_its_share() {
        let (trial, _) = trial(0.25);
        let taken: Vec<bool> = (0..8).map(|_| trial.takes_next()).collect();
        assert_eq!(taken, [false, false, false, true].repeat(2));
    }

    #[test]
    fn only_the_models_own_failures_count_against_the_canary() {
        let (trial, _) = trial(0.5);
        let failure = InferenceError::WorkerStopped {
            model: artifacts::model_store::ModelName::new("m").unwrap(),
        };
        trial.observer(false).failed(&failure);
        trial
            .observer(true)
            .failed(&InferenceError::DeadlineExceeded);
        assert_eq!(trial.verdict(), None);
        trial.observer(true).failed(&failure);
        assert!(matches!(trial.verdict(), Some(Verdict::RollBack(_))));
    }

    #[test]
    fn comparisons_beyond_the_queue_are_counted_and_left_out() {
        let (trial, mut waiting) = trial(0.5);
        let times = ComputeTimes {
            queue: Duration::from_micros(1),
            compute_input: Duration::from_micros(2),
            compute_infer: Duration::from_micros(3),
            compute_output: Duration::from_micros(4),
        };
        let input = InputValues::Typed((0..40).map(|value| value as f32).collect());
        let answer = |is_canary| {
            let observer = trial.observer(is_canary);
            let selected = observer.select(&input, 20, 2);
            let found = selected.is_some();
            observer.answered(&times, &Bytes::new(), selected);
            found
        };
        assert!(!answer(false), "the active version is not compared");
        let selected = (0..WAITING + 3).filter(|_| answer(true)).count();
        assert_eq!(selected, WAITING);
        assert_eq!(trial.counts.not_compared(), 3);
        let first = waiting.try_recv().unwrap();
        assert_eq!(first.samples, COMPARED_SAMPLES);
        assert_eq!(first.input.iter().count(), COMPARED_SAMPLES * 2);
        let report = trial.report();
        assert_eq!(
            (report.canary_requests, report.active_requests),
            (WAITING as u64 + 3, 1)
        );
        assert_eq!(
            lock(&trial.observed).active.median(),
            Some(Duration::from_micros(10))
        );
    }

    #[test]
    fn the_first_end_of_a_trial_counts() {
        let (trial, _) = trial(0.5);
        assert_eq!(trial.report().ended, None);
        trial.end(Outcome::RolledBack, "slow".to_owned());
        trial.end(Outcome::Promoted, "late".to_owned());
        let expected = Some((Outcome::RolledBack, "slow".to_owned()));
        assert_eq!(trial.report().ended, expected);
        let counts = trial.counts.outcomes().map(|(_, count)| count);
        assert_eq!(counts, [0, 1, 0]);
    }
}
