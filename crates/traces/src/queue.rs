//! The bounded queue of ended spans, and the task that sends them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self as blocking, RecvTimeoutError},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::settings::Limits;

static EXPORTED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The end of the queue that takes spans. It never blocks.
#[derive(Debug)]
pub(crate) struct SpanQueue {
    spans: mpsc::Sender<SpanData>,
    /// Told when the queue is half full.
    filling: Arc<Notify>,
    stop: CancellationToken,
    /// Disconnected when the task has ended.
    ended: Mutex<blocking::Receiver<()>>,
}

/// The end of the queue from which spans are sent.
#[derive(Debug)]
pub(crate) struct SpanSender {
    spans: mpsc::Receiver<SpanData>,
    filling: Arc<Notify>,
    stop: CancellationToken,
    limits: Limits,
    _ended: blocking::SyncSender<()>,
}

impl SpanQueue {
    pub(crate) fn new(limits: Limits) -> (Self, SpanSender) {
        let (sender, receiver) = mpsc::channel(limits.waiting);
        let (end, ended) = blocking::sync_channel(0);
        let filling = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let queue = Self {
            spans: sender,
            filling: Arc::clone(&filling),
            stop: stop.clone(),
            ended: Mutex::new(ended),
        };
        let sender = SpanSender {
            spans: receiver,
            filling,
            stop,
            limits,
            _ended: end,
        };
        (queue, sender)
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.spans.try_send(span).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        if self.spans.capacity() <= self.spans.max_capacity() / 2 {
            self.filling.notify_one();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.filling.notify_one();
        Ok(())
    }

    /// Sends the spans in the queue, and ends the task.
    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.stop.cancel();
        // A panic under the lock leaves the receiver as it was.
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match ended.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => Err(OTelSdkError::Timeout(timeout)),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

impl SpanSender {
    /// Sends spans until the queue is shut down. Logs the first failure, and the first success after it.
    pub(crate) async fn send(mut self, exporter: impl SpanExporter) {
        let mut fails = false;
        loop {
            // Spans wait for others, so that they travel together.
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.filling.notified() => {}
                () = sleep(self.limits.delay) => {}
            }
            let stops = self.stop.is_cancelled();
            while let Some(count) = self.send_batch(&exporter, &mut fails).await
                && count > 0
            {}
            if stops {
                return;
            }
        }
    }

    /// Sends the next spans. Returns their number, or `None` if the collector did not take them.
    async fn send_batch(
        &mut self,
        exporter: &impl SpanExporter,
        fails: &mut bool,
    ) -> Option<usize> {
        let mut batch = Vec::new();
        while batch.len() < self.limits.batch
            && let Ok(span) = self.spans.try_recv()
        {
            batch.push(span);
        }
        let count = batch.len();
        if count == 0 {
            return Some(0);
        }
        match exporter.export(batch).await {
            Ok(()) => {
                EXPORTED.fetch_add(count as u64, Ordering::Relaxed);
                if std::mem::take(fails) {
                    info!("the collector takes traces again");
                }
                Some(count)
            }
            Err(error) => {
                DROPPED.fetch_add(count as u64, Ordering::Relaxed);
                if !std::mem::replace(fails, true) {
                    warn!("the collector does not take traces, which are dropped: {error}");
                }
                None
            }
        }
    }
}

/// The numbers of spans as metrics in Prometheus's text format.
pub(crate) fn metrics() -> String {
    let counter = |name: &str, help: &str, value: &AtomicU64| {
        let value = value.load(Ordering::Relaxed);
        format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n")
    };
    counter(
        "retort_trace_spans_exported_total",
        "Spans that the collector took.",
        &EXPORTED,
    ) + &counter(
        "retort_trace_spans_dropped_total",
        "Spans that did not fit into the queue, or that the collector did not take.",
        &DROPPED,
    )
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use opentelemetry::{
        InstrumentationScope,
        trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
    };

    use super::*;

    const LIMITS: Limits = Limits {
        waiting: 4,
        batch: 3,
        delay: Duration::from_millis(1),
    };

    /// Takes every batch, or none.
    #[derive(Debug)]
    struct Exporter {
        takes: bool,
        batches: Arc<Mutex<Vec<usize>>>,
    }

    impl SpanExporter for Exporter {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.batches.lock().unwrap().push(batch.len());
            if self.takes {
                Ok(())
            } else {
                Err(OTelSdkError::InternalFailure("down".to_owned()))
            }
        }
    }

    fn span(flags: TraceFlags) -> SpanData {
        let context = SpanContext::new(
            TraceId::from_bytes([1; 16]),
            SpanId::from_bytes([2; 8]),
            flags,
            false,
            TraceState::default(),
        );
        SpanData {
            span_context: context,
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "test".into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("test").build(),
        }
    }

    /// One test, because the counters belong to the process.
    #[test]
    fn spans_beyond_the_queue_and_those_that_fail_are_dropped_and_counted() {
        for takes in [true, false] {
            let before = [&EXPORTED, &DROPPED].map(|count| count.load(Ordering::Relaxed));
            let (queue, sender) = SpanQueue::new(LIMITS);
            for _ in 0..7 {
                queue.on_end(span(TraceFlags::SAMPLED));
                queue.on_end(span(TraceFlags::default()));
            }
            let batches = Arc::default();
            let exporter = Exporter {
                takes,
                batches: Arc::clone(&batches),
            };
            let thread = std::thread::spawn(move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().unwrap();
                runtime.block_on(sender.send(exporter));
            });
            // The batch that fails ends an attempt, and the next attempt takes the rest.
            while batches.lock().unwrap().iter().sum::<usize>() < 4 {
                std::thread::yield_now();
            }
            queue
                .shutdown_with_timeout(Duration::from_secs(60))
                .unwrap();
            thread.join().unwrap();
            assert_eq!(*batches.lock().unwrap(), [3, 1]);
            let after = [&EXPORTED, &DROPPED].map(|count| count.load(Ordering::Relaxed));
            let counted = [after[0] - before[0], after[1] - before[1]];
            assert_eq!(counted, if takes { [4, 3] } else { [0, 7] }, "{takes}");
        }
        let page = metrics();
        assert!(
            page.contains("\nretort_trace_spans_dropped_total 10\n"),
            "{page}"
        );
        assert!(
            page.contains("\nretort_trace_spans_exported_total 4\n"),
            "{page}"
        );
    }

    #[test]
    fn a_collector_that_never_answers_delays_the_end_for_a_limited_time() {
        let (queue, _sender) = SpanQueue::new(LIMITS);
        let ended = queue.shutdown_with_timeout(Duration::from_millis(1));
        assert!(matches!(ended, Err(OTelSdkError::Timeout(_))));
    }
}
