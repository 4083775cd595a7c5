//! The trainer's Prometheus metrics.
//!
//! A trainer executes one run at a time. The gauges describe the current run and are 0 without one;
//! counters continue from run to run.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use teacher_pool::{SentAs, SentRequest};

use crate::{
    config::PhaseKind,
    events::{EventSink, RunEvent},
    service::stored_run::StoredState,
};

/// Every metric of the trainer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Gauge by `state`, which is `queued` or `running`: runs that have not ended.
    Runs,
    /// Counter by `outcome`, which is `succeeded`, `failed`, `withheld` (the run is complete, and its publish gate
    /// withheld its model) or `cancelled`: runs that have ended.
    RunsEnded,
    /// Gauge by `kind`, which is `supervised`, `distill` or `fine_tune`: 1 for the current phase.
    Phase,
    /// Gauge: epochs of the phase.
    PhaseEpochs,
    /// Gauge: steps of an epoch of the phase.
    EpochSteps,
    /// Gauge: the current epoch, 1-based.
    Epoch,
    /// Gauge: steps done in the epoch.
    Step,
    /// Gauge: mean loss of the newest steps.
    Loss,
    /// Gauge: learning rate of the newest step.
    LearningRate,
    /// Gauge: accuracy of the newest steps against the hard labels, 0 to 1.
    TrainAccuracy,
    /// Gauge: accuracy on the validation split after the newest epoch, 0 to 1.
    ValidationAccuracy,
    /// Counter: samples trained on.
    Samples,
    /// Histogram: time of a step, from one to the next; its sum is the time spent in steps.
    StepSeconds,
    /// Histogram: the part of a step in which training waited for soft targets.
    WaitSeconds,
    /// Gauge: teachers connected.
    Teachers,
    /// Gauge: batches that teachers have not answered yet.
    BatchesInFlight,
    /// Counter: batches sent again because their teacher was lost.
    BatchesRequeued,
    /// Counter: batches sent to a second teacher because the first was overdue.
    BatchesHedged,
    /// Counter: second answers to a batch, which are dropped.
    AnswersDropped,
    /// Counter by `sent_as`, which is `pixels` or `references`: samples sent to teachers.
    SamplesSent,
    /// Counter by `sent_as`, which is `pixels` or `references`: bytes of the batches sent to teachers.
    BytesSent,
    /// Gauge: teachers that answer but cannot be used.
    TeachersRefused,
    /// Counter: seconds in which training waited with no teacher connected.
    WithoutTeacherSeconds,
    /// Counter: failed attempts to copy a run to its bucket or to renew its lease; each is repeated.
    BucketAttemptsFailed,
}

enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::Runs,
        Self::RunsEnded,
        Self::Phase,
        Self::PhaseEpochs,
        Self::EpochSteps,
        Self::Epoch,
        Self::Step,
        Self::Loss,
        Self::LearningRate,
        Self::TrainAccuracy,
        Self::ValidationAccuracy,
        Self::Samples,
        Self::StepSeconds,
        Self::WaitSeconds,
        Self::Teachers,
        Self::BatchesInFlight,
        Self::BatchesRequeued,
        Self::BatchesHedged,
        Self::AnswersDropped,
        Self::SamplesSent,
        Self::BytesSent,
        Self::TeachersRefused,
        Self::WithoutTeacherSeconds,
        Self::BucketAttemptsFailed,
    ];

    /// The name that Prometheus sees.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Runs => "retort_trainer_runs",
            Self::RunsEnded => "retort_trainer_runs_ended_total",
            Self::Phase => "retort_trainer_phase",
            Self::PhaseEpochs => "retort_trainer_phase_epochs",
            Self::EpochSteps => "retort_trainer_epoch_steps",
            Self::Epoch => "retort_trainer_epoch",
            Self::Step => "retort_trainer_step",
            Self::Loss => "retort_trainer_loss",
            Self::LearningRate => "retort_trainer_learning_rate",
            Self::TrainAccuracy => "retort_trainer_train_accuracy",
            Self::ValidationAccuracy => "retort_trainer_validation_accuracy",
            Self::Samples => "retort_trainer_samples_total",
            Self::StepSeconds => "retort_trainer_step_seconds",
            Self::WaitSeconds => "retort_trainer_wait_seconds",
            Self::Teachers => "retort_trainer_teachers",
            Self::BatchesInFlight => "retort_trainer_batches_in_flight",
            Self::BatchesRequeued => "retort_trainer_batches_requeued_total",
            Self::BatchesHedged => "retort_trainer_batches_hedged_total",
            Self::AnswersDropped => "retort_trainer_answers_dropped_total",
            Self::SamplesSent => "retort_trainer_samples_sent_total",
            Self::BytesSent => "retort_trainer_bytes_sent_total",
            Self::TeachersRefused => "retort_trainer_teachers_refused",
            Self::WithoutTeacherSeconds => "retort_trainer_without_teacher_seconds_total",
            Self::BucketAttemptsFailed => "retort_trainer_bucket_attempts_failed_total",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Runs => "Runs that have not ended, by state: queued or running.",
            Self::RunsEnded => {
                "Runs that have ended, by outcome: succeeded, failed, withheld or cancelled."
            }
            Self::Phase => "1 for the kind of the current phase.",
            Self::PhaseEpochs => "Epochs of the current phase.",
            Self::EpochSteps => "Steps of an epoch of the current phase.",
            Self::Epoch => "Current epoch, from 1.",
            Self::Step => "Steps done in the current epoch.",
            Self::Loss => "Mean loss of the newest steps.",
            Self::LearningRate => "Learning rate of the newest step.",
            Self::TrainAccuracy => "Accuracy of the newest steps against the hard labels, 0 to 1.",
            Self::ValidationAccuracy => {
                "Accuracy on the validation split after the newest epoch, 0 to 1."
            }
            Self::Samples => "Samples trained on.",
            Self::StepSeconds => "Time of a training step; the sum is the time spent in steps.",
            Self::WaitSeconds => "Part of a step in which training waited for soft targets.",
            Self::Teachers => "Teachers connected.",
            Self::BatchesInFlight => "Batches that teachers have not answered yet.",
            Self::BatchesRequeued => "Batches sent again because their teacher was lost.",
            Self::BatchesHedged => "Batches sent to a second teacher since the first was overdue.",
            Self::AnswersDropped => "Second answers to a batch, which are dropped.",
            Self::SamplesSent => "Samples sent to teachers, as pixels or as references.",
            Self::BytesSent => "Bytes of the batches sent to teachers, as pixels or references.",
            Self::TeachersRefused => "Teachers that answer but cannot be used.",
            Self::WithoutTeacherSeconds => {
                "Seconds in which training waited with no teacher connected."
            }
            Self::BucketAttemptsFailed => {
                "Failed attempts to copy a run to its bucket or to renew its lease."
            }
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::StepSeconds | Self::WaitSeconds => Kind::Histogram(&SECONDS_BUCKETS),
            Self::RunsEnded
            | Self::Samples
            | Self::BatchesRequeued
            | Self::BatchesHedged
            | Self::AnswersDropped
            | Self::SamplesSent
            | Self::BytesSent
            | Self::WithoutTeacherSeconds
            | Self::BucketAttemptsFailed => Kind::Counter,
            Self::Runs
            | Self::Phase
            | Self::PhaseEpochs
            | Self::EpochSteps
            | Self::Epoch
            | Self::Step
            | Self::Loss
            | Self::LearningRate
            | Self::TrainAccuracy
            | Self::ValidationAccuracy
            | Self::Teachers
            | Self::TeachersRefused
            | Self::BatchesInFlight => Kind::Gauge,
        }
    }

    fn describe(self) {
        match self.kind() {
            Kind::Counter => metrics::describe_counter!(self.name(), self.help()),
            Kind::Gauge => metrics::describe_gauge!(self.name(), self.help()),
            Kind::Histogram(_) => metrics::describe_histogram!(self.name(), self.help()),
        }
    }

    /// Makes the metric visible before the first event.
    fn start_at_zero(self) {
        match self {
            Self::Runs => {
                for state in ["queued", "running"] {
                    gauge!(self.name(), "state" => state).set(0);
                }
            }
            Self::RunsEnded => {
                for outcome in ["succeeded", "failed", "withheld", "cancelled"] {
                    counter!(self.name(), "outcome" => outcome).increment(0);
                }
            }
            Self::SamplesSent | Self::BytesSent => {
                for sent_as in SentAs::ALL {
                    counter!(self.name(), "sent_as" => sent_as.name()).increment(0);
                }
            }
            Self::Phase => set_phase(None),
            metric => match metric.kind() {
                Kind::Counter => counter!(metric.name()).increment(0),
                Kind::Gauge => gauge!(metric.name()).set(0),
                // A histogram has no series before its first value.
                Kind::Histogram(_) => {}
            },
        }
    }
}

/// Bucket bounds of both histograms, seconds.
const SECONDS_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// Installs the metrics recorder of this process.
///
/// # Errors
/// If the process already has one.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in Metric::ALL {
        if let Kind::Histogram(buckets) = metric.kind() {
            let matcher = Matcher::Full(metric.name().to_owned());
            builder = builder.set_buckets_for_metric(matcher, buckets)?;
        }
    }
    let handle = builder.install_recorder()?;
    for metric in Metric::ALL {
        metric.describe();
        metric.start_at_zero();
    }
    Ok(handle)
}

/// A sink that updates the gauges by each event and passes it on to `next`.
pub(crate) fn follow(next: &EventSink) -> EventSink {
    let next = next.clone();
    EventSink::new(move |event| {
        update_gauges(&event);
        next.send(event);
    })
}

fn update_gauges(event: &RunEvent) {
    let set = |metric: Metric, value: f64| gauge!(metric.name()).set(value);
    match event {
        RunEvent::PhaseStarted(started) => {
            set_phase(Some(started.kind));
            set(Metric::PhaseEpochs, started.epochs as f64);
            set(Metric::EpochSteps, started.steps_per_epoch as f64);
            set(Metric::Epoch, 1.0);
            set(Metric::Step, 0.0);
        }
        RunEvent::StepProgress(progress) => {
            set(Metric::Epoch, progress.epoch as f64);
            set(Metric::Step, progress.step as f64);
            set(Metric::Loss, progress.loss);
            set(Metric::LearningRate, progress.learning_rate);
            if let Some(accuracy) = progress.train_accuracy {
                set(Metric::TrainAccuracy, accuracy);
            }
        }
        RunEvent::EpochFinished(finished) => {
            if let Some(accuracy) = finished.validation_accuracy {
                set(Metric::ValidationAccuracy, accuracy);
            }
        }
        RunEvent::Notice { .. } => {}
    }
}

fn set_phase(current: Option<PhaseKind>) {
    for kind in PhaseKind::ALL {
        let value = if current == Some(kind) { 1 } else { 0 };
        gauge!(Metric::Phase.name(), "kind" => kind.to_string()).set(value);
    }
}

/// Resets the gauges of the current run to 0 when it is dropped.
pub(crate) struct CurrentRunGauges(());

impl CurrentRunGauges {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl Drop for CurrentRunGauges {
    fn drop(&mut self) {
        set_phase(None);
        for metric in [
            Metric::PhaseEpochs,
            Metric::EpochSteps,
            Metric::Epoch,
            Metric::Step,
            Metric::Loss,
            Metric::LearningRate,
            Metric::TrainAccuracy,
            Metric::ValidationAccuracy,
        ] {
            gauge!(metric.name()).set(0);
        }
    }
}

/// Counts a run's change of state; `before` is `None` for a run that the service did not have.
pub(crate) fn run_changed(before: Option<StoredState>, now: StoredState) {
    if let Some(state) = before.and_then(unfinished) {
        gauge!(Metric::Runs.name(), "state" => state).decrement(1);
    }
    if let Some(state) = unfinished(now) {
        gauge!(Metric::Runs.name(), "state" => state).increment(1);
    }
    if let Some(outcome) = outcome(now) {
        counter!(Metric::RunsEnded.name(), "outcome" => outcome).increment(1);
    }
}

const fn unfinished(state: StoredState) -> Option<&'static str> {
    match state {
        StoredState::Queued => Some("queued"),
        StoredState::Running => Some("running"),
        StoredState::Succeeded
        | StoredState::Failed
        | StoredState::Withheld
        | StoredState::Cancelled => None,
    }
}

const fn outcome(state: StoredState) -> Option<&'static str> {
    match state {
        StoredState::Succeeded => Some("succeeded"),
        StoredState::Failed => Some("failed"),
        StoredState::Withheld => Some("withheld"),
        StoredState::Cancelled => Some("cancelled"),
        StoredState::Queued | StoredState::Running => None,
    }
}

/// Counts a training step.
pub(crate) fn step_done(samples: usize, took: Duration, waited: Duration) {
    counter!(Metric::Samples.name()).increment(samples as u64);
    histogram!(Metric::StepSeconds.name()).record(took);
    histogram!(Metric::WaitSeconds.name()).record(waited);
}

/// Teachers of a run by how it stands with them. Changes are counted: the next run may have begun when
/// the last teacher of the run before is disconnected.
#[derive(Debug, Default)]
pub(crate) struct Teachers {
    connected: usize,
    refused: usize,
}

impl Teachers {
    /// So many are connected now, and so many answer and cannot be used.
    pub(crate) fn set(&mut self, connected: usize, refused: usize) {
        let changes = [
            (Metric::Teachers, self.connected, connected),
            (Metric::TeachersRefused, self.refused, refused),
        ];
        for (metric, before, now) in changes {
            gauge!(metric.name()).increment(now as f64 - before as f64);
        }
        self.connected = connected;
        self.refused = refused;
    }
}

impl Drop for Teachers {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

/// Training waited for a second with no teacher connected.
pub(crate) fn second_without_teacher() {
    counter!(Metric::WithoutTeacherSeconds.name()).increment(1);
}

/// An attempt to copy a run to its bucket or to renew its lease failed.
pub(crate) fn bucket_attempt_failed() {
    counter!(Metric::BucketAttemptsFailed.name()).increment(1);
}

/// A batch went to a second teacher.
pub(crate) fn batch_hedged() {
    counter!(Metric::BatchesHedged.name()).increment(1);
}

/// A second answer was dropped.
pub(crate) fn answer_dropped() {
    counter!(Metric::AnswersDropped.name()).increment(1);
}

/// A batch, or a part of one, was sent to a teacher.
pub(crate) fn request_sent(request: SentRequest) {
    let SentRequest {
        sent_as,
        samples,
        bytes,
    } = request;
    counter!(Metric::SamplesSent.name(), "sent_as" => sent_as.name()).increment(samples as u64);
    counter!(Metric::BytesSent.name(), "sent_as" => sent_as.name()).increment(bytes as u64);
}

/// Batches went back to the queue.
pub(crate) fn batches_requeued(count: usize) {
    counter!(Metric::BatchesRequeued.name()).increment(count as u64);
}

/// A batch was submitted to the teachers.
pub(crate) fn batch_submitted() {
    gauge!(Metric::BatchesInFlight.name()).increment(1);
}

/// A submitted batch was answered, failed, or was abandoned.
pub(crate) fn batch_finished() {
    gauge!(Metric::BatchesInFlight.name()).decrement(1);
}
