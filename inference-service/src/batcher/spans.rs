//! The spans of a batch, for requests whose traces are exported.

use traces::{Interval, KeyValue, Scope};

use super::Job;

/// Adds the time in the queue and that of the computation to the span of each request. The batch has a span too, in
/// the trace of its first request, with links to all requests.
pub(super) fn add(batch: &[Job], samples: usize, computing: Interval) {
    if !traces::is_enabled() {
        return;
    }
    let recorded = || batch.iter().filter(|job| job.scope.is_recorded());
    let Some(first) = recorded().next() else {
        return;
    };
    let size = [
        KeyValue::new("retort.batch.requests", batch.len() as i64),
        KeyValue::new("retort.batch.samples", samples as i64),
    ];
    let requests = recorded().map(|job| &job.scope);
    let of_batch: Scope = first.scope.add("batch", computing, size, requests);
    for Job {
        scope, enqueued, ..
    } in recorded()
    {
        let waiting = Interval {
            began: *enqueued,
            ended: computing.began,
        };
        scope.add("queue", waiting, [], []);
        scope.add("compute", computing, [], [&of_batch]);
    }
}
