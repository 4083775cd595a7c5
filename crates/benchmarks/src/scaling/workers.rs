//! Part `workers`: data-parallel training by several processes of this machine, and by more on a network.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    thread::available_parallelism,
};

use anyhow::{Context, Result};
use common::{atomic_file, output::Messages};
use serde::{Deserialize, Serialize};

use super::{
    ScalingArguments,
    exchange::{Exchange, SimulatedStep},
    link::Link,
    worker_group::{Epochs, WorkerGroup},
};
use crate::{
    series::{Series, series},
    train::workload::{Amount, BATCH_SIZE, Workload},
};

/// Figures of processes that train together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WorkerFigures {
    /// Cores that the processes may use.
    cores: usize,
    /// Samples of a batch.
    batch_size: usize,
    /// Batches of a step.
    batches: usize,
    /// The network between the machines of simulated workers.
    link: Link,
    networks: BTreeMap<String, NetworkFigures>,
}

/// Figures of one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct NetworkFigures {
    /// Bytes that workers exchange for one batch.
    batch_bytes: usize,
    /// By number of processes.
    processes: BTreeMap<usize, Trained>,
    /// By number of workers on machines of their own, each with one batch of a step. By arithmetic.
    simulated: BTreeMap<usize, SimulatedStep>,
}

/// Training by so many processes of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Trained {
    samples_per_second: Series,
    /// Cores that the processes used.
    cores_used: Series,
    /// Samples/s divided by as many times those of one process.
    share_of_linear: Series,
    /// Samples/s divided by as many times those of one process as there are cores, or processes if they are fewer.
    share_of_possible: Series,
    /// Bytes that all processes send to each other in a step, as they gather them.
    exchanged_bytes_per_step: usize,
    /// Bytes that crossed the loopback interface, per step; with the headers of TCP and IP, and of all programs.
    loopback_bytes_per_step: Series,
}

/// A network that processes train together.
struct Case {
    workload: Workload,
    exchange: Exchange,
    /// Samples of an epoch.
    samples: usize,
    /// Of the configuration and of the runs.
    folder: PathBuf,
    config: PathBuf,
    overrides: Vec<String>,
    turns: Vec<Turn>,
}

/// The measurements of one turn, by number of processes.
type Turn = BTreeMap<usize, Measured>;

/// What processes did in the measured epochs.
#[derive(Debug, Clone, Copy)]
struct Measured {
    samples_per_second: f64,
    cores_used: f64,
    loopback_bytes_per_step: f64,
}

/// Trains each network with each number of processes.
///
/// # Errors
/// If a program cannot be started, or fails.
pub(super) async fn measure(arguments: &ScalingArguments, folder: &Path) -> Result<WorkerFigures> {
    let mut cases = Vec::new();
    for &workload in &arguments.networks {
        cases.push(Case::prepare(workload, arguments, folder)?);
    }
    for number in 1..=arguments.turns {
        for case in &mut cases {
            let mut turn = Turn::new();
            for &processes in &arguments.processes {
                writeln!(
                    Messages,
                    "turn {number} of {}: {}, {processes} training processes",
                    arguments.turns,
                    case.workload.name()
                );
                let epochs = case.train(processes, number).await?;
                turn.insert(processes, case.measured(epochs, arguments.batches));
            }
            case.turns.push(turn);
        }
    }
    let cores = available_parallelism().context("cannot count the cores")?;
    let networks = cases.iter().map(|case| {
        let figures = NetworkFigures::of(
            &case.turns,
            case.exchange,
            arguments.batches,
            cores.get(),
            &arguments.simulated_workers,
            arguments.link(),
        );
        (case.workload.name().to_owned(), figures)
    });
    Ok(WorkerFigures {
        cores: cores.get(),
        batch_size: BATCH_SIZE,
        batches: arguments.batches,
        link: arguments.link(),
        networks: networks.collect(),
    })
}

impl Case {
    /// Writes the configuration, and the images if they are generated.
    fn prepare(workload: Workload, arguments: &ScalingArguments, folder: &Path) -> Result<Self> {
        let folder = folder.join(format!("workers-{}", workload.name()));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        // An epoch of some seconds.
        let samples = arguments.samples.unwrap_or(2 * workload.samples());
        let images = workload.task().data(&arguments.data, &folder, samples)?;
        let amount = Amount {
            threads: 1,
            epochs: arguments.epochs,
        };
        let run = workload.run(amount, samples, &images)?;
        let config = folder.join("run.toml");
        atomic_file::write(&config, run.config_toml.as_bytes())
            .with_context(|| config.display().to_string())?;
        let accumulate = format!("phases[0].accumulate={}", arguments.batches);
        Ok(Self {
            workload,
            exchange: Exchange::of(&workload.network()?)?,
            samples,
            folder,
            config,
            overrides: [run.overrides, vec![accumulate]].concat(),
            turns: Vec::new(),
        })
    }

    async fn train(&self, processes: usize, turn: usize) -> Result<Epochs> {
        let group = WorkerGroup {
            count: processes,
            config: &self.config,
            overrides: &self.overrides,
            output: self.folder.join(format!("{turn}-{processes}")),
        };
        group.train().await
    }

    /// The figures of `epochs` with so many batches in a step.
    fn measured(&self, epochs: Epochs, batches: usize) -> Measured {
        let steps = epochs.count * self.samples.div_ceil(BATCH_SIZE * batches);
        Measured {
            samples_per_second: (epochs.count * self.samples) as f64 / epochs.seconds,
            cores_used: epochs.cpu_seconds / epochs.seconds,
            loopback_bytes_per_step: epochs.loopback_bytes as f64 / steps as f64,
        }
    }
}

impl WorkerFigures {
    /// Samples/s of the demo's student on one core, if one process was measured: it uses more than a core, because its
    /// loader is a thread of its own.
    pub(super) fn student_samples_per_second(&self) -> Option<f64> {
        let student = self.networks.get(Workload::DemoStudent.name())?;
        let one = student.processes.get(&1)?;
        Some(one.samples_per_second.median / one.cores_used.median.max(1.0))
    }
}

impl NetworkFigures {
    /// The figures of one turn or more, which have the same numbers of processes.
    fn of(
        turns: &[Turn],
        exchange: Exchange,
        batches: usize,
        cores: usize,
        workers: &[usize],
        link: Link,
    ) -> Self {
        let numbers = turns.first().into_iter().flat_map(BTreeMap::keys);
        let processes = numbers.map(|&number| {
            let sent = exchange.sent_bytes(batches, number);
            (number, Trained::of(turns, number, cores, sent))
        });
        let batch_seconds = series(turns, |turn| {
            let (own, measured) = fewest(turn);
            let each = measured.samples_per_second / own as f64;
            BATCH_SIZE as f64 / each
        });
        let simulated = workers.iter().map(|&number| {
            let step = exchange.simulate(number, BATCH_SIZE, batch_seconds.median, link);
            (number, step)
        });
        Self {
            batch_bytes: exchange.row_bytes,
            processes: processes.collect(),
            simulated: simulated.collect(),
        }
    }
}

impl Trained {
    fn of(turns: &[Turn], number: usize, cores: usize, sent_bytes: usize) -> Self {
        let speed = |turn: &Turn| turn[&number].samples_per_second;
        Self {
            samples_per_second: series(turns, speed),
            cores_used: series(turns, |turn| turn[&number].cores_used),
            share_of_linear: series(turns, |turn| {
                let (own, measured) = fewest(turn);
                speed(turn) / (measured.samples_per_second * number as f64 / own as f64)
            }),
            share_of_possible: series(turns, |turn| {
                let (own, measured) = fewest(turn);
                let each = measured.samples_per_second / own.min(cores) as f64;
                speed(turn) / (each * number.min(cores) as f64)
            }),
            exchanged_bytes_per_step: sent_bytes,
            loopback_bytes_per_step: series(turns, |turn| turn[&number].loopback_bytes_per_step),
        }
    }
}

/// The measurement with the fewest processes.
fn fewest(turn: &Turn) -> (usize, Measured) {
    // Holds: the command line requires at least one number of processes.
    let (number, measured) = turn.first_key_value().expect("a number of processes");
    (*number, *measured)
}

impl fmt::Display for WorkerFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cores,
            batch_size,
            batches,
            link,
            networks,
        } = self;
        writeln!(
            f,
            "data-parallel training, steps of {batches} batches of {batch_size}, {cores} cores: \
             median (minimum to maximum)"
        )?;
        for (network, figures) in networks {
            writeln!(f, "  {network}, {} bytes a batch", figures.batch_bytes)?;
            for (number, trained) in &figures.processes {
                writeln!(
                    f,
                    "  {number:>4} processes: {:.0} samples/s, {:.3} of linear, {:.3} of what the cores allow; \
                     {:.2} cores used",
                    trained.samples_per_second,
                    trained.share_of_linear,
                    trained.share_of_possible,
                    trained.cores_used
                )?;
                writeln!(
                    f,
                    "                  {} bytes exchanged in a step; {:.0} on the loopback interface",
                    trained.exchanged_bytes_per_step, trained.loopback_bytes_per_step
                )?;
            }
            writeln!(
                f,
                "  by arithmetic, each worker on a machine of its own with a link of {} Gbit/s and {} µs",
                link.gigabits_per_second, link.latency_us
            )?;
            for (number, step) in &figures.simulated {
                writeln!(
                    f,
                    "  {number:>4} workers: {:.1} ms for a batch, {:.1} ms for the exchange; network's share \
                     {:.3}; {:.0} samples/s",
                    step.compute_ms, step.exchange_ms, step.network_share, step.samples_per_second
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link {
        gigabits_per_second: 10.0,
        latency_us: 50.0,
    };

    #[test]
    fn shares_are_those_of_one_process() {
        let measured = |samples_per_second: f64| Measured {
            samples_per_second,
            cores_used: 2.0,
            loopback_bytes_per_step: 7.0,
        };
        let turn = [(1, 1_000.0), (2, 1_800.0), (4, 1_600.0)];
        let turn: Turn = turn
            .map(|(processes, speed)| (processes, measured(speed)))
            .into();
        let exchange = Exchange {
            row_bytes: 1_250_000,
        };
        let figures = NetworkFigures::of(&[turn], exchange, 4, 2, &[4], LINK);
        let of = |number: usize| {
            let trained = figures.processes[&number];
            (
                trained.share_of_linear.median,
                trained.share_of_possible.median,
                trained.exchanged_bytes_per_step,
            )
        };
        assert_eq!(of(1), (1.0, 1.0, 0));
        // Two rows of each process reach the other one.
        assert_eq!(of(2), (0.9, 0.9, 2 * 2 * 1_250_000));
        // Two cores allow 2,000 samples/s. One row of each process reaches three others.
        assert_eq!(of(4), (0.4, 0.8, 4 * 3 * 1_250_000));
        // A batch takes 128 ms, and the exchange 3 × 1.05 ms.
        let step = figures.simulated[&4];
        assert!((step.compute_ms - 128.0).abs() < 1e-9, "{step:?}");
        assert!((step.exchange_ms - 3.15).abs() < 1e-9, "{step:?}");
        let networks = BTreeMap::from([("demo-student".to_owned(), figures)]);
        let figures = WorkerFigures {
            cores: 2,
            batch_size: BATCH_SIZE,
            batches: 4,
            link: LINK,
            networks,
        };
        // 1,000 samples/s on 2 cores.
        assert_eq!(figures.student_samples_per_second(), Some(500.0));
    }
}
