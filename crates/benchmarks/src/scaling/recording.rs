//! Part `recording`: several processes of `student-trainer record` on one recording.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use common::{atomic_file, output::Messages};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{ScalingArguments, shards::Shards};
use crate::{
    cpu_time::cpu_seconds,
    process::{Program, Running, Server},
    recipe,
    series::{Series, series},
    streaming::{BATCH_SIZE, CREDIT, endpoints, simulated_teachers},
    trainer::text,
};

/// Images of a view, a multiple of [`SHARD_SAMPLES`].
const SAMPLES: usize = 51_200;
/// Samples of a shard: four batches.
const SHARD_SAMPLES: usize = 512;
/// Time in which all processes of a recording start.
const START: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Figures of processes that record together, each from a simulated teacher of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordingFigures {
    /// Cores that the programs may use.
    cores: usize,
    /// What one simulated teacher answers at most.
    teacher_samples_per_second: f64,
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
    /// Samples/s divided by as many times those of one process.
    share_of_linear: Series,
    /// Samples/s divided by the same, or by what the cores can record if that is less.
    share_of_possible: Series,
}

/// What was recorded in a while.
#[derive(Debug, Clone, Copy)]
struct Window {
    samples: u64,
    seconds: f64,
    /// Of the recording processes.
    processes_cpu: f64,
    /// Of the simulated teachers.
    teachers_cpu: f64,
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
    let teachers = simulated_teachers(most, arguments.recorded_batch as u64, CREDIT).await?;
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
                views: views(processes, arguments.recorded_batch, arguments.seconds),
                store: folder.join("soft-targets"),
                config: &config,
                data: &arguments.data,
                teachers: &teachers,
            };
            turn.insert(processes, recorders.measure(arguments.seconds).await?);
        }
        turns.push(turn);
    }
    let cores = available_parallelism().context("cannot count the cores")?;
    let teacher = teacher_samples_per_second(arguments.recorded_batch);
    Ok(RecordingFigures::of(&turns, cores.get(), teacher))
}

/// Samples/s of a simulated teacher that takes so many milliseconds for a batch.
fn teacher_samples_per_second(batch_milliseconds: usize) -> f64 {
    BATCH_SIZE as f64 / (batch_milliseconds as f64 / 1e3)
}

/// Views that so many processes cannot record completely while they start and are measured.
fn views(processes: usize, batch_milliseconds: usize, seconds: f64) -> u32 {
    let rate = processes as f64 * teacher_samples_per_second(batch_milliseconds);
    let samples = rate * (START.as_secs_f64() + seconds);
    (samples / SAMPLES as f64).ceil() as u32
}

/// Processes that record together.
struct Recorders<'a> {
    count: usize,
    views: u32,
    /// Folder of the recording, which is removed.
    store: PathBuf,
    /// File of the configuration.
    config: &'a Path,
    /// Folder of the images.
    data: &'a Path,
    /// One or more for each process.
    teachers: &'a Server,
}

impl Recorders<'_> {
    /// Measures for `seconds`, from the time at which each process has recorded a shard. Then stops the processes.
    async fn measure(&self, seconds: f64) -> Result<Window> {
        let config = self.configuration()?.to_string();
        let named = || self.config.display().to_string();
        atomic_file::write(self.config, config.as_bytes()).with_context(named)?;
        let start = |index| self.program(index)?.start();
        let processes = (0..self.count).map(start).collect::<Result<Vec<_>>>();
        let mut watch = Watch {
            processes: processes?,
            teachers: self.teachers,
            shards: Shards::new(&self.store, (SAMPLES / SHARD_SAMPLES) as u64, self.count),
        };
        let window = watch.window(seconds).await;
        drop(watch);
        if self.store.exists() {
            let named = || self.store.display().to_string();
            fs::remove_dir_all(&self.store).with_context(named)?;
        }
        window
    }

    /// The first phase of the demo's student, with an epoch for each view.
    fn configuration(&self) -> Result<Table> {
        let mut config = recipe::student()?;
        let mut phase = recipe::first_phase(&config)?;
        phase.insert("epochs".to_owned(), i64::from(self.views).into());
        config.insert("phases".to_owned(), Value::from(vec![phase]));
        Ok(config)
    }

    fn program(&self, index: usize) -> Result<Program> {
        let quoted = |text: &str| Value::from(text).to_string();
        let teachers = endpoints(self.teachers, self.count);
        let settings = [
            format!("data.path={}", quoted(&text(self.data)?)),
            format!("data.train_samples={SAMPLES}"),
            format!("soft_targets.folder={}", quoted(&text(&self.store)?)),
            format!("soft_targets.views={}", self.views),
            format!("soft_targets.samples_per_shard={SHARD_SAMPLES}"),
            // Simulated teachers have other names for the classes.
            "soft_targets.class_names=ignore".to_owned(),
            format!("teacher.endpoints=[{}]", quoted(&teachers[index])),
        ];
        let program = Program::service("student-trainer")?
            .arg("record")
            .arg(self.config)
            .args(["--index", &index.to_string()])
            .args(["--of", &self.count.to_string()]);
        let settings = settings.iter();
        Ok(settings.fold(program, |program, setting| program.args(["--set", setting])))
    }
}

/// Running processes and what they have recorded.
struct Watch<'a> {
    processes: Vec<Running>,
    teachers: &'a Server,
    shards: Shards,
}

/// What has been recorded and used until a point in time.
struct Reading {
    at: Instant,
    shards: u64,
    processes_cpu: f64,
    teachers_cpu: f64,
}

impl Watch<'_> {
    /// Measures from one complete shard to another one, at least for `seconds`.
    async fn window(&mut self, seconds: f64) -> Result<Window> {
        let started = Instant::now();
        loop {
            let complete = self.shards.complete()?;
            if complete.iter().all(|shards| *shards > 0) {
                break;
            }
            if started.elapsed() > START {
                let seconds = START.as_secs();
                bail!("the shards that the processes recorded in {seconds} s: {complete:?}");
            }
            self.pause().await?;
        }
        let begin = self.read()?;
        loop {
            let end = self.read()?;
            if end.at - begin.at >= Duration::from_secs_f64(seconds) && end.shards > begin.shards {
                return Ok(end.since(&begin));
            }
            self.pause_until_recorded(end.shards).await?;
        }
    }

    /// Waits until there are more than `shards` shards.
    async fn pause_until_recorded(&mut self, shards: u64) -> Result<()> {
        let waiting = Instant::now();
        while self.shards.complete()?.iter().sum::<u64>() <= shards {
            if waiting.elapsed() > START {
                bail!("the processes recorded nothing for {} s", START.as_secs());
            }
            self.pause().await?;
        }
        Ok(())
    }

    async fn pause(&mut self) -> Result<()> {
        for process in &mut self.processes {
            if !process.is_running()? {
                bail!("a recording process had nothing left to record");
            }
        }
        tokio::time::sleep(POLL).await;
        Ok(())
    }

    fn read(&mut self) -> Result<Reading> {
        let processes = self.processes.iter().map(|it| cpu_seconds(it.pid()));
        Ok(Reading {
            at: Instant::now(),
            shards: self.shards.complete()?.iter().sum(),
            processes_cpu: processes.sum::<Result<_>>()?,
            teachers_cpu: cpu_seconds(self.teachers.pid())?,
        })
    }
}

impl Reading {
    fn since(&self, begin: &Self) -> Window {
        Window {
            samples: (self.shards - begin.shards) * SHARD_SAMPLES as u64,
            seconds: (self.at - begin.at).as_secs_f64(),
            processes_cpu: self.processes_cpu - begin.processes_cpu,
            teachers_cpu: self.teachers_cpu - begin.teachers_cpu,
        }
    }
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
    fn of(turns: &[Turn], cores: usize, teacher_samples_per_second: f64) -> Self {
        let numbers = turns.first().into_iter().flat_map(BTreeMap::keys);
        let processes = numbers.map(|&number| (number, Recorded::of(turns, number, cores)));
        let process_cpu_us = series(turns, |turn| {
            let (_, window) = fewest(turn);
            1e6 * window.processes_cpu / window.samples as f64
        });
        Self {
            cores,
            teacher_samples_per_second,
            process_cpu_us: process_cpu_us.median,
            processes: processes.collect(),
        }
    }
}

impl Recorded {
    fn of(turns: &[Turn], number: usize, cores: usize) -> Self {
        let speed = |turn: &Turn| turn[&number].samples_per_second();
        Self {
            samples_per_second: series(turns, speed),
            cores_used: series(turns, |turn| turn[&number].cpu() / turn[&number].seconds),
            share_of_linear: series(turns, |turn| {
                let (own, window) = fewest(turn);
                speed(turn) / window.linear(own, number)
            }),
            share_of_possible: series(turns, |turn| {
                let (own, window) = fewest(turn);
                speed(turn) / window.possible(own, number, cores)
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
        writeln!(
            f,
            "recording from simulated teachers of {:.0} samples/s, one for each process, on {} cores",
            self.teacher_samples_per_second, self.cores
        )?;
        for (number, recorded) in &self.processes {
            let Recorded {
                samples_per_second,
                cores_used,
                share_of_linear,
                share_of_possible,
            } = recorded;
            writeln!(
                f,
                "  {number:>2} processes: {samples_per_second:.0} samples/s, {share_of_linear:.3} of linear, \
                 {share_of_possible:.3} of what the cores allow; {cores_used:.2} cores used"
            )?;
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
        assert_eq!(teacher_samples_per_second(40), 3_200.0);
        // 8 × 3,200 samples/s × 65 s = 1,664,000 samples = 32.5 views of 51,200.
        assert_eq!(views(8, 40, 5.0), 33);
        assert_eq!(views(1, 4_000, 0.1), 1);
    }

    #[test]
    fn cores_limit_what_is_possible() {
        // 1 process: 3,000 samples/s, 0.1 + 0.05 cores. 2 cores record 40,000 samples/s at most.
        let one = Window {
            samples: 6_000,
            seconds: 2.0,
            processes_cpu: 0.2,
            teachers_cpu: 0.1,
        };
        assert_eq!(one.linear(1, 8), 24_000.0);
        assert!((one.possible(1, 8, 2) - 24_000.0).abs() < 1e-6);
        assert!((one.possible(1, 16, 2) - 40_000.0).abs() < 1e-6);
        let many = |speed: u64| Window {
            samples: speed,
            seconds: 1.0,
            processes_cpu: 1.0,
            teachers_cpu: 0.5,
        };
        let turn = Turn::from([(1, one), (8, many(21_600)), (16, many(36_000))]);
        let figures = RecordingFigures::of(&[turn], 2, 3_200.0);
        let is_near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-9;
        let of = |number: usize| figures.processes[&number];
        assert!(is_near(of(8).share_of_linear.median, 0.9), "{figures:?}");
        assert!(is_near(of(8).share_of_possible.median, 0.9), "{figures:?}");
        // 36,000 of 48,000, and of the 40,000 that two cores allow.
        assert!(is_near(of(16).share_of_linear.median, 0.75), "{figures:?}");
        assert!(is_near(of(16).share_of_possible.median, 0.9), "{figures:?}");
        assert!(is_near(of(8).cores_used.median, 1.5), "{figures:?}");
        // 0.2 s for 6,000 samples.
        assert!(is_near(figures.process_cpu_us, 100.0 / 3.0), "{figures:?}");
    }
}
