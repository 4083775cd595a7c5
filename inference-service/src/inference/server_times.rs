//! Where a request spent its time, for callers that ask for it with the parameter `timing`.

use std::time::Duration;

use crate::batcher::ComputeTimes;

/// The request's parameter: a boolean.
pub(crate) const TIMING: &str = "timing";

/// The times of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerTimes {
    /// From the arrival of the decoded request to its answer.
    pub(crate) request: Duration,
    pub(crate) compute: ComputeTimes,
}

impl ServerTimes {
    /// The response's parameters, in nanoseconds. Their names are those of Triton's statistics.
    pub(crate) fn parameters(&self) -> [(&'static str, u64); 5] {
        let ComputeTimes {
            queue,
            compute_input,
            compute_infer,
            compute_output,
        } = self.compute;
        [
            ("request_ns", self.request),
            ("queue_ns", queue),
            ("compute_input_ns", compute_input),
            ("compute_infer_ns", compute_infer),
            ("compute_output_ns", compute_output),
        ]
        .map(|(name, time)| (name, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
pub(crate) fn example() -> ServerTimes {
    ServerTimes {
        request: Duration::from_nanos(15),
        compute: ComputeTimes {
            queue: Duration::from_nanos(1),
            compute_input: Duration::from_nanos(2),
            compute_infer: Duration::from_nanos(3),
            compute_output: Duration::from_nanos(4),
        },
    }
}
