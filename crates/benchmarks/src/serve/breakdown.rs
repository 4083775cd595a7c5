//! Splits the time of a call when many callers call at the same time.

use std::fmt;

use serde::Serialize;

use super::{
    load::Measured,
    round::{Round, mean},
    usage::Usage,
};
use crate::series::{Series, series};

/// The parts of one call at 64 callers, in microseconds except where noted. The service's one core
/// limits the throughput, so each call takes 1/throughput of that core.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Breakdown {
    /// 1/throughput: the sum of the next three.
    pub call_us: Series,
    /// ONNX Runtime's best time per sample, in process.
    pub inference_us: Series,
    /// 1/throughput of a bare gRPC server that answers the same calls with the same bytes.
    pub echo_us: Series,
    /// The remainder: tensors, queue, hand-over between threads, batching, answers.
    pub rest_us: Series,
    /// Processor time of the service, user and kernel.
    pub cpu_us: Series,
    /// The part of `cpu_us` in the session's thread: ONNX Runtime, assembling and splitting batches.
    pub session_cpu_us: Series,
    /// The part of `cpu_us` in the kernel: sockets, sleeping and waking.
    pub kernel_cpu_us: Series,
    /// `call_us` − `cpu_us`: the service was idle, or another process used its core.
    pub idle_us: Series,
    /// Number of times that a thread of the service went to sleep.
    pub context_switches: Series,
    /// Processor time of the bare gRPC server.
    pub echo_cpu_us: Series,
    /// `echo_us` − `echo_cpu_us`: the bare server waited for the load.
    pub echo_idle_us: Series,
    /// The remainder by processor time, without waiting: `cpu_us` − `inference_us` − `echo_cpu_us`.
    pub rest_cpu_us: Series,
}

/// The values of one turn; NaN if a server was not watched.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Parts {
    call: f64,
    inference: f64,
    echo: f64,
    cpu: f64,
    session_cpu: f64,
    kernel_cpu: f64,
    context_switches: f64,
    echo_cpu: f64,
}

impl Breakdown {
    /// The breakdown over `rounds`, which must not be empty.
    pub(super) fn new(rounds: &[Round]) -> Self {
        let parts: Vec<_> = rounds.iter().map(Parts::of).collect();
        let series = |figure: fn(&Parts) -> f64| series(&parts, figure);
        Self {
            call_us: series(|parts| parts.call),
            inference_us: series(|parts| parts.inference),
            echo_us: series(|parts| parts.echo),
            rest_us: series(|parts| parts.call - parts.inference - parts.echo),
            cpu_us: series(|parts| parts.cpu),
            session_cpu_us: series(|parts| parts.session_cpu),
            kernel_cpu_us: series(|parts| parts.kernel_cpu),
            idle_us: series(|parts| parts.call - parts.cpu),
            context_switches: series(|parts| parts.context_switches),
            echo_cpu_us: series(|parts| parts.echo_cpu),
            echo_idle_us: series(|parts| parts.echo - parts.echo_cpu),
            rest_cpu_us: series(|parts| parts.cpu - parts.inference - parts.echo_cpu),
        }
    }
}

impl Parts {
    fn of(round: &Round) -> Self {
        let service = &round.many_callers;
        let of_a_call = |part: fn(&Usage) -> f64| service.a_call(part).unwrap_or(f64::NAN);
        let echo_cpu = |echo: Measured| echo.cpu_us().unwrap_or(f64::NAN);
        Self {
            call: 1e6 / service.throughput,
            inference: 1e6 / round.best_samples_per_second(),
            echo: mean(round.echo_many.map(|echo| 1e6 / echo.throughput)),
            cpu: 1e6 * of_a_call(|usage| usage.cpu),
            session_cpu: 1e6 * of_a_call(|usage| usage.session_cpu),
            kernel_cpu: 1e6 * of_a_call(|usage| usage.kernel_cpu),
            context_switches: of_a_call(|usage| usage.sleeps),
            echo_cpu: mean(round.echo_many.map(echo_cpu)),
        }
    }
}

impl fmt::Display for Breakdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            call_us,
            inference_us,
            echo_us,
            rest_us,
            cpu_us,
            session_cpu_us,
            kernel_cpu_us,
            idle_us,
            context_switches,
            echo_cpu_us,
            echo_idle_us,
            rest_cpu_us,
        } = self;
        writeln!(
            f,
            "  one call of 64 callers  {call_us:.1} µs; processor time {cpu_us:.1}, idle {idle_us:.1}"
        )?;
        writeln!(f, "    inference             {inference_us:.1} µs")?;
        writeln!(
            f,
            "    bare gRPC call        {echo_us:.1} µs; processor time {echo_cpu_us:.1}, idle {echo_idle_us:.1}"
        )?;
        writeln!(
            f,
            "    the rest              {rest_us:.1} µs; processor time {rest_cpu_us:.1}"
        )?;
        writeln!(
            f,
            "    session's thread      {session_cpu_us:.1} µs of processor time"
        )?;
        writeln!(
            f,
            "    in the kernel         {kernel_cpu_us:.1} µs of processor time"
        )?;
        writeln!(f, "    context switches      {context_switches:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::BatchSpeed;

    fn measured(throughput: f64, cpu: f64) -> Measured {
        Measured {
            calls: 1,
            throughput,
            p50_us: 1.0,
            p90_us: 1.0,
            p99_us: 1.0,
            p999_us: 1.0,
            longest_us: 1.0,
            usage: Some(Usage {
                cpu,
                session_cpu: cpu / 2.0,
                kernel_cpu: cpu / 4.0,
                sleeps: 1000.0,
            }),
        }
    }

    #[test]
    fn the_parts_add_up_to_the_call() {
        let session = |samples_per_second| BatchSpeed {
            batch: 8,
            samples_per_second,
            p50_us: 1.0,
        };
        let one_caller = measured(1.0, 0.1);
        let round = Round {
            sweep: vec![session(25_000.0)],
            first_run_ratio: 1.0,
            best: [session(25_000.0); 2],
            one_sample: [session(25_000.0); 2],
            echo: [one_caller; 2],
            echo_many: [measured(50_000.0, 1.0), measured(25_000.0, 0.5)],
            one_caller,
            eight_callers: one_caller,
            many_callers: measured(10_000.0, 0.9),
        };
        let breakdown = Breakdown::new(&[round]);
        let expected = [
            (breakdown.call_us, 100.0),
            (breakdown.inference_us, 40.0),
            (breakdown.echo_us, 30.0),
            (breakdown.rest_us, 30.0),
            (breakdown.cpu_us, 90.0),
            (breakdown.session_cpu_us, 45.0),
            (breakdown.kernel_cpu_us, 22.5),
            (breakdown.idle_us, 10.0),
            (breakdown.context_switches, 0.1),
            (breakdown.echo_cpu_us, 20.0),
            (breakdown.echo_idle_us, 10.0),
            (breakdown.rest_cpu_us, 30.0),
        ];
        for (number, (found, expected)) in expected.into_iter().enumerate() {
            let difference = (found.median - expected).abs();
            assert!(
                difference < 1e-9,
                "figure {number}: {found}, not {expected}"
            );
        }
    }
}
