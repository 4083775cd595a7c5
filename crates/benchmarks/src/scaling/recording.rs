//! Part `recording`: several processes of `student-trainer record` on one recording.

use std::{collections::BTreeMap, fmt, path::Path, thread::available_parallelism};

use anyhow::{Context, Result};
use common::output::Messages;
use serde::{Deserialize, Serialize};
use soft_targets::MAX_VIEWS;

use super::{
    ScalingArguments,
    recorders::{Recorders, SAMPLES, START, Window},
    store::Store,
};
use crate::{
    series::{Series, series},
    streaming::{BATCH_SIZE, CREDIT, DEEP, simulated_teachers},
};

/// Samples/s that no core records.
const BEYOND_A_CORE: f64 = 250_000.0;

/// Figures of processes that record together, each from a simulated teacher of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordingFigures {
    /// Cores that the programs may use.
    cores: usize,
    /// What one simulated teacher answers at most; none if it answers at once.
    teacher_samples_per_second: Option<f64>,
    /// The bucket that the processes recorded into; none if it was a folder.
    bucket: Option<String>,
    /// Processor time of a recording process per sample, microseconds, with the fewest processes.
    pub process_cpu_us: f64,
    /// By number of processes.
    processes: BTreeMap<usize, Recorded>,
}

/// What so many processes record.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Recorded {
    samples_per_second: Series,
    /// Cores that the processes and the simulated teachers used.
    cores_used: Series,
    /// Share of the time in which the cores were busy, with any program.
    busy_share: Series,
    /// Samples/s divided by as many times those of one process.
    share_of_linear: Series,
    /// Samples/s divided by the same, or by what the cores can record if that is less.
    share_of_possible: Series,
    /// Samples/s of more processes than cores, divided by those of as many processes as cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    share_of_one_per_core: Option<Series>,
}

/// The measurements of one turn, by number of processes.
type Turn = BTreeMap<usize, Window>;

/// Records with each number of processes.
///
/// # Errors
/// If a program cannot be started, fails, or records nothing.
pub(super) async fn measure(
    arguments: &ScalingArguments,
    folder: &Path,
) -> Result<RecordingFigures> {
    let most = arguments.recorders.iter().copied().max().unwrap_or(1);
    let milliseconds = arguments.recorded_batch;
    let teacher = teacher_samples_per_second(milliseconds);
    // A teacher that answers at once must not wait for the next batch either.
    let credit = if teacher.is_some() { CREDIT } else { DEEP };
    let teachers = simulated_teachers(most, milliseconds as u64, credit).await?;
    let cores = available_parallelism().context("cannot count the cores")?;
    let cores = cores.get();
    let store = Store::new(folder, arguments.store.as_ref())?;
    let config = folder.join("record.toml");
    let mut turns = Vec::new();
    for number in 1..=arguments.turns {
        let mut turn = Turn::new();
        for &processes in &arguments.recorders {
            writeln!(
                Messages,
                "turn {number} of {}: {processes} recording processes",
                arguments.turns
            );
            let recorders = Recorders {
                count: processes,
                views: views(processes, teacher, cores, arguments.seconds),
                store: &store,
                config: &config,
                data: &arguments.data,
                teachers: &teachers,
            };
            turn.insert(processes, recorders.measure(arguments.seconds).await?);
        }
        turns.push(turn);
    }
    let bucket = arguments.store.as_ref().map(ToString::to_string);
    Ok(RecordingFigures::of(&turns, cores, teacher, bucket))
}

/// Samples/s of a simulated teacher that takes so many milliseconds for a batch; none if it answers at once.
fn teacher_samples_per_second(batch_milliseconds: usize) -> Option<f64> {
    (batch_milliseconds > 0).then(|| BATCH_SIZE as f64 / (batch_milliseconds as f64 / 1e3))
}

/// Views that so many processes, with a teacher of so many samples/s each, cannot record completely while they start
/// and are measured.
fn views(processes: usize, teacher: Option<f64>, cores: usize, seconds: f64) -> u32 {
    let by_cores = cores as f64 * BEYOND_A_CORE;
    let rate = teacher.map_or(by_cores, |teacher| by_cores.min(processes as f64 * teacher));
    let samples = rate * (START.as_secs_f64() + seconds);
    let views = (samples / SAMPLES as f64).ceil() as u32;
    views.min(MAX_VIEWS)
}

impl Window {
    fn samples_per_second(&self) -> f64 {
        self.samples as f64 / self.seconds
    }

    fn cpu(&self) -> f64 {
        self.processes_cpu + self.teachers_cpu
    }

    /// Samples/s of `processes` processes if each recorded as much as one of the `own` processes of this window.
    fn linear(&self, own: usize, processes: usize) -> f64 {
        self.samples_per_second() * processes as f64 / own as f64
    }

    /// The same, or what `cores` cores can record if that is less.
    fn possible(&self, own: usize, processes: usize, cores: usize) -> f64 {
        let by_cores = cores as f64 * self.samples as f64 / self.cpu();
        self.linear(own, processes).min(by_cores)
    }
}

impl RecordingFigures {
    /// The figures of one turn or more, which have the same numbers of processes.
    fn of(
        turns: &[Turn],
        cores: usize,
        teacher_samples_per_second: Option<f64>,
        bucket: Option<String>,
    ) -> Self {
        let numbers = turns.first().into_iter().flat_map(BTreeMap::keys);
        let processes = numbers.map(|&number| (number, Recorded::of(turns, number, cores)));
        let process_cpu_us = series(turns, |turn| {
            let (_, window) = fewest(turn);
            1e6 * window.processes_cpu / window.samples as f64
        });
        Self {
            cores,
            teacher_samples_per_second,
            bucket,
            process_cpu_us: process_cpu_us.median,
            processes: processes.collect(),
        }
    }
}

impl Recorded {
    fn of(turns: &[Turn], number: usize, cores: usize) -> Self {
        let speed = |turn: &Turn| turn[&number].samples_per_second();
        let has_one_per_core = turns.iter().all(|turn| turn.contains_key(&cores));
        Self {
            samples_per_second: series(turns, speed),
            cores_used: series(turns, |turn| turn[&number].cpu() / turn[&number].seconds),
            busy_share: series(turns, |turn| turn[&number].busy_share),
            share_of_linear: series(turns, |turn| {
                let (own, window) = fewest(turn);
                speed(turn) / window.linear(own, number)
            }),
            share_of_possible: series(turns, |turn| {
                let (own, window) = fewest(turn);
                speed(turn) / window.possible(own, number, cores)
            }),
            share_of_one_per_core: (has_one_per_core && number > cores).then(|| {
                series(turns, |turn| {
                    speed(turn) / turn[&cores].samples_per_second()
                })
            }),
        }
    }
}

/// The window with the fewest processes.
fn fewest(turn: &Turn) -> (usize, &Window) {
    // Holds: the command line requires at least one number of processes.
    let (number, window) = turn.first_key_value().expect("a number of processes");
    (*number, window)
}

impl fmt::Display for RecordingFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.bucket.as_deref().unwrap_or("a folder");
        let cores = self.cores;
        let teachers = self.teacher_samples_per_second.map_or_else(
            || "that answer at once".to_owned(),
            |speed| format!("of {speed:.0} samples/s"),
        );
        writeln!(
            f,
            "recording from simulated teachers {teachers}, one for each process, into {place}, on {cores} cores"
        )?;
        for (number, recorded) in &self.processes {
            let Recorded {
                samples_per_second,
                cores_used,
                busy_share,
                share_of_linear,
                share_of_possible,
                share_of_one_per_core,
            } = recorded;
            writeln!(
                f,
                "  {number:>2} processes: {samples_per_second:.0} samples/s, {share_of_linear:.3} of linear, \
                 {share_of_possible:.3} of what the cores allow; {cores_used:.2} cores used, \
                 the cores busy {busy_share:.3} of the time"
            )?;
            if let Some(share) = share_of_one_per_core {
                writeln!(f, "                {share:.3} of {cores} processes")?;
            }
        }
        writeln!(
            f,
            "  a process takes {:.2} µs of processor time a sample",
            self.process_cpu_us
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_more_to_record_than_a_measurement_takes() {
        // A batch of 128 in 40 ms: 3,200 samples/s.
        assert_eq!(teacher_samples_per_second(40), Some(3_200.0));
        // 8 × 3,200 samples/s × 65 s = 1,664,000 samples = 32.5 views of 51,200.
        assert_eq!(views(8, Some(3_200.0), 2, 5.0), 33);
        assert_eq!(views(1, Some(32.0), 2, 0.1), 1);
        // 2 × 250,000 samples/s × 65 s = 32,500,000 samples = 634.8 views.
        assert_eq!(teacher_samples_per_second(0), None);
        assert_eq!(views(8, None, 2, 5.0), 635);
        assert_eq!(views(8, None, 1_000, 5.0), MAX_VIEWS);
    }

    #[test]
    fn cores_limit_what_is_possible() {
        // 1 process: 3,000 samples/s, 0.1 + 0.05 cores. 2 cores record 40,000 samples/s at most.
        let one = Window {
            samples: 6_000,
            seconds: 2.0,
            processes_cpu: 0.2,
            teachers_cpu: 0.1,
            busy_share: 0.1,
        };
        assert_eq!(one.linear(1, 8), 24_000.0);
        assert!((one.possible(1, 8, 2) - 24_000.0).abs() < 1e-6);
        assert!((one.possible(1, 16, 2) - 40_000.0).abs() < 1e-6);
        let many = |speed: u64| Window {
            samples: speed,
            seconds: 1.0,
            processes_cpu: 1.0,
            teachers_cpu: 0.5,
            busy_share: 0.8,
        };
        let turn = Turn::from([(1, one), (8, many(21_600)), (16, many(36_000))]);
        let figures = RecordingFigures::of(&[turn], 2, Some(3_200.0), None);
        let is_near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-9;
        let of = |number: usize| figures.processes[&number];
        assert!(is_near(of(8).share_of_linear.median, 0.9), "{figures:?}");
        assert!(is_near(of(8).share_of_possible.median, 0.9), "{figures:?}");
        // 36,000 of 48,000, and of the 40,000 that two cores allow.
        assert!(is_near(of(16).share_of_linear.median, 0.75), "{figures:?}");
        assert!(is_near(of(16).share_of_possible.median, 0.9), "{figures:?}");
        assert!(is_near(of(8).cores_used.median, 1.5), "{figures:?}");
        assert!(is_near(of(8).busy_share.median, 0.8), "{figures:?}");
        // No turn has a process for each of the two cores.
        assert_eq!(of(8).share_of_one_per_core, None);
        // 0.2 s for 6,000 samples.
        assert!(is_near(figures.process_cpu_us, 100.0 / 3.0), "{figures:?}");
    }

    #[test]
    fn more_processes_than_cores_are_compared_with_as_many_as_cores() {
        let window = |samples: u64| Window {
            samples,
            seconds: 1.0,
            processes_cpu: 1.5,
            teachers_cpu: 0.5,
            busy_share: 1.0,
        };
        let turn = |eight: u64| {
            let windows = [
                (1, window(60_000)),
                (2, window(100_000)),
                (8, window(eight)),
            ];
            Turn::from(windows)
        };
        let turns = [turn(90_000), turn(95_000), turn(80_000)];
        let figures = RecordingFigures::of(&turns, 2, None, Some("s3://b".to_owned()));
        let share = figures.processes[&8].share_of_one_per_core.unwrap();
        assert_eq!(
            (share.minimum, share.median, share.maximum),
            (0.8, 0.9, 0.95)
        );
        for few in [1, 2] {
            assert_eq!(figures.processes[&few].share_of_one_per_core, None);
        }
        let shown = figures.to_string();
        assert!(
            shown.contains("answer at once, one for each process, into s3://b"),
            "{shown}"
        );
        assert!(
            shown.contains("0.900 (0.800 to 0.950) of 2 processes"),
            "{shown}"
        );
        assert!(
            shown.contains("the cores busy 1.000 (1.000 to 1.000) of the time"),
            "{shown}"
        );
    }
}
