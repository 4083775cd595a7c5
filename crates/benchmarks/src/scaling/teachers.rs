//! Part `teachers`: samples/s of a teacher's core, and the teachers that one core of a trainer feeds on.

use std::{collections::BTreeMap, fmt, path::Path};

use anyhow::{Context, Result};
use common::output::Messages;
use serde::{Deserialize, Serialize};

use super::ScalingArguments;
use crate::{
    distill::Teacher,
    measurement::Measurement,
    process::usable_core,
    series::{Series, series},
    streaming::{
        BATCH_MILLISECONDS, BATCH_SIZE, CREDIT, DEEP, client, endpoints, simulated_teachers,
    },
    task::{Architecture, Task},
};

/// Samples of a measured forward pass: about a second.
const FORWARD_SAMPLES: usize = 5_000;
/// Batches in flight to the real teacher, as many as its credit and a run's `prefetch`.
const AHEAD: usize = 8;
/// Number formats of the teacher's network.
const PRECISIONS: [&str; 2] = ["f32", "auto"];

/// Figures of teachers and of a trainer's pool, which asks them for soft targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TeacherFigures {
    /// The forward pass of the demo's teacher alone on one core, samples/s by precision.
    forward: BTreeMap<String, Series>,
    /// The same teacher as a service on one core, in precision "auto": samples/s that reach a pool on another core.
    pub served: Series,
    /// The pool with a teacher that answers at once, on all cores: samples/s.
    pool: Series,
    /// Processor time of the pool's process there, microseconds per sample.
    pub pool_cpu_us: Series,
    /// Teachers of one core each that one core of a trainer can feed on, if it does nothing else.
    teachers_per_trainer_core: f64,
    /// Share of linear scaling by number of simulated teachers.
    share_of_linear: BTreeMap<usize, Series>,
}

/// The measurements of one turn.
struct Round {
    /// By precision.
    forward: BTreeMap<&'static str, Measurement>,
    served: Measurement,
    pool: Measurement,
    /// By number of simulated teachers.
    simulated: BTreeMap<usize, Measurement>,
}

/// Measures the demo's teacher and a trainer's pool.
///
/// # Errors
/// If a program cannot be started, or fails.
pub(super) async fn measure(arguments: &ScalingArguments, folder: &Path) -> Result<TeacherFigures> {
    let core = |n| usable_core(n).context("cannot read the core affinity");
    let (teacher_core, trainer_core) = (core(0)?, core(1)?);
    let teacher = Teacher::write(folder, Architecture::Demo, Task::FashionMnist)?;
    let service = teacher.service()?.on_core(teacher_core).serve().await?;
    let most = arguments.teachers.iter().copied().max().unwrap_or(1);
    let simulated = simulated_teachers(most, BATCH_MILLISECONDS, CREDIT).await?;
    let constant = simulated_teachers(1, 0, DEEP).await?;
    let pool = |endpoints: &[String], ahead| client("pool", endpoints, ahead, arguments.seconds);

    let mut rounds = Vec::new();
    for number in 1..=arguments.turns {
        writeln!(Messages, "turn {number} of {}", arguments.turns);
        let mut forward = BTreeMap::new();
        for precision in PRECISIONS {
            let program = teacher.forward_program(FORWARD_SAMPLES, 1)?;
            let program = program.args(["--precision", precision]);
            forward.insert(precision, program.on_core(teacher_core).figures().await?);
        }
        let served = pool(&[service.grpc()], AHEAD)?;
        let served = served.on_core(trainer_core).figures().await?;
        let limit = pool(&endpoints(&constant, 1), 2 * DEEP)?;
        let mut scaling = BTreeMap::new();
        for &teachers in &arguments.teachers {
            // Twice the batches in flight, so that an answer may wait for an earlier one.
            let program = pool(&endpoints(&simulated, teachers), 2 * teachers * CREDIT)?;
            scaling.insert(teachers, program.figures().await?);
        }
        rounds.push(Round {
            forward,
            served,
            pool: limit.figures().await?,
            simulated: scaling,
        });
    }
    Ok(TeacherFigures::of(&rounds, &arguments.teachers))
}

impl TeacherFigures {
    /// The figures of one turn or more with these numbers of simulated teachers.
    fn of(rounds: &[Round], teachers: &[usize]) -> Self {
        let forward = PRECISIONS.map(|precision| {
            let speed = |round: &Round| round.forward[precision].samples_per_second();
            (precision.to_owned(), series(rounds, speed))
        });
        let served = series(rounds, |round| round.served.samples_per_second());
        let pool_cpu_us = series(rounds, |round| 1e6 * round.pool.cpu_seconds_per_sample());
        let shares = teachers.iter().map(|&teachers| {
            let share = |round: &Round| share_of_linear(teachers, &round.simulated[&teachers]);
            (teachers, series(rounds, share))
        });
        Self {
            forward: BTreeMap::from(forward),
            served,
            pool: series(rounds, |round| round.pool.samples_per_second()),
            pool_cpu_us,
            teachers_per_trainer_core: teachers_per_core(pool_cpu_us.median, served.median),
            share_of_linear: shares.collect(),
        }
    }
}

/// Samples/s of so many simulated teachers, divided by what they can answer at most.
fn share_of_linear(teachers: usize, measured: &Measurement) -> f64 {
    let each = BATCH_SIZE as f64 / (BATCH_MILLISECONDS as f64 / 1e3);
    measured.samples_per_second() / (teachers as f64 * each)
}

/// Teachers of `samples_per_second` each that one core feeds on, if a sample takes `cpu_us` microseconds of it.
fn teachers_per_core(cpu_us: f64, samples_per_second: f64) -> f64 {
    1e6 / cpu_us / samples_per_second
}

impl fmt::Display for TeacherFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "teachers: median (minimum to maximum)")?;
        for (precision, speed) in &self.forward {
            writeln!(
                f,
                "  one core, forward pass alone, {precision:<4}  {speed:.0} samples/s"
            )?;
        }
        writeln!(
            f,
            "  one core, as a service, auto          {:.0} samples/s",
            self.served
        )?;
        writeln!(
            f,
            "  a trainer's pool                      {:.0} samples/s, {:.3} µs of processor time a sample",
            self.pool, self.pool_cpu_us
        )?;
        writeln!(
            f,
            "  one core of a trainer feeds on        {:.0} teachers",
            self.teachers_per_trainer_core
        )?;
        for (teachers, share) in &self.share_of_linear {
            writeln!(
                f,
                "  {teachers:>4} simulated teachers: {share:.3} of linear"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(samples: u64, seconds: f64, cpu_seconds: f64) -> Measurement {
        Measurement {
            samples,
            seconds,
            cpu_seconds,
        }
    }

    #[test]
    fn a_core_feeds_on_teachers_until_its_time_is_used() {
        // 0.5 µs a sample: 2,000,000 samples/s, which 250 teachers of 8,000 samples/s give.
        assert_eq!(teachers_per_core(0.5, 8_000.0), 250.0);
    }

    #[test]
    fn figures_are_computed_within_a_turn() {
        let forward = |speed: u64| {
            let forward = PRECISIONS.map(|precision| (precision, measured(speed, 1.0, 1.0)));
            BTreeMap::from(forward)
        };
        // 10 teachers of 6,400 samples/s give 64,000 samples/s at most.
        let round = |speed: u64, simulated: u64| Round {
            forward: forward(2 * speed),
            served: measured(speed, 1.0, 0.1),
            pool: measured(4_000_000, 2.0, 1.0),
            simulated: BTreeMap::from([(10, measured(simulated, 2.0, 1.0))]),
        };
        let rounds = [
            round(8_000, 128_000),
            round(10_000, 64_000),
            round(9_000, 96_000),
        ];
        let figures = TeacherFigures::of(&rounds, &[10]);
        assert_eq!(figures.forward["f32"].median, 18_000.0);
        assert_eq!(figures.served.median, 9_000.0);
        assert_eq!(figures.pool.median, 2_000_000.0);
        assert_eq!(figures.pool_cpu_us.median, 0.25);
        let share = figures.share_of_linear[&10];
        assert_eq!(
            (share.minimum, share.median, share.maximum),
            (0.5, 0.75, 1.0)
        );
        // 4,000,000 samples/s a core, divided by 9,000.
        assert!((figures.teachers_per_trainer_core - 4_000.0 / 9.0).abs() < 1e-9);
    }
}
