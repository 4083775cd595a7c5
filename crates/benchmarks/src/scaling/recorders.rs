//! Processes of `student-trainer record` that record together, each from a simulated teacher of its own.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use common::atomic_file;
use toml::{Table, Value};

use super::{shards::Shards, store::Store};
use crate::{
    core_time::CoreTime,
    cpu_time::cpu_seconds,
    process::{Program, Running, Server, usable_cores},
    recipe,
    streaming::endpoints,
    trainer::text,
};

/// Images of a view, a multiple of [`SHARD_SAMPLES`].
pub(super) const SAMPLES: usize = 51_200;
/// Time in which all processes of a recording start.
pub(super) const START: Duration = Duration::from_secs(60);
/// Samples of a shard: four batches.
const SHARD_SAMPLES: usize = 512;
const POLL: Duration = Duration::from_millis(5);

/// Processes that record together.
pub(super) struct Recorders<'a> {
    pub count: usize,
    /// Views of [`SAMPLES`] images.
    pub views: u32,
    /// The place of the recording, which is empty, also afterwards.
    pub store: &'a Store,
    /// File to write the configuration to.
    pub config: &'a Path,
    /// Folder of the images.
    pub data: &'a Path,
    /// One or more for each process.
    pub teachers: &'a Server,
}

impl Recorders<'_> {
    /// Measures for `seconds`, from the time at which each process has recorded a shard. Then stops the processes.
    ///
    /// # Errors
    /// If a process cannot be started, fails, or records nothing for [`START`].
    pub(super) async fn measure(&self, seconds: f64) -> Result<Window> {
        let config = self.configuration()?.to_string();
        let named = || self.config.display().to_string();
        atomic_file::write(self.config, config.as_bytes()).with_context(named)?;
        let start = |index| self.program(index)?.start();
        let processes = (0..self.count).map(start).collect::<Result<Vec<_>>>();
        let per_view = (SAMPLES / SHARD_SAMPLES) as u64;
        let mut watch = Watch {
            processes: processes?,
            teachers: self.teachers,
            shards: Shards::new(&self.store.folder, per_view, self.count),
            cores: usable_cores(usize::MAX).context("cannot read the core affinity")?,
        };
        let window = watch.window(seconds).await;
        let recorded = watch.recorded();
        drop(watch);
        self.store.clear(recorded?)?;
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
        let places = self.store.settings()?;
        let settings = settings.iter().chain(&places);
        Ok(settings.fold(program, |program, setting| program.args(["--set", setting])))
    }
}

/// What was recorded in a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub samples: u64,
    pub seconds: f64,
    /// Processor time of the recording processes.
    pub processes_cpu: f64,
    /// Processor time of the simulated teachers.
    pub teachers_cpu: f64,
    /// Share of the time in which the cores were busy, with any program.
    pub busy_share: f64,
}

/// Running processes and what they have recorded.
struct Watch<'a> {
    processes: Vec<Running>,
    teachers: &'a Server,
    shards: Shards,
    /// The cores that all of them may use.
    cores: Vec<usize>,
}

/// What has been recorded and used until a point in time.
struct Reading {
    at: Instant,
    shards: u64,
    processes_cpu: f64,
    teachers_cpu: f64,
    cores: CoreTime,
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
        while self.recorded()? <= shards {
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

    /// The number of complete shards.
    fn recorded(&mut self) -> Result<u64> {
        Ok(self.shards.complete()?.iter().sum())
    }

    fn read(&mut self) -> Result<Reading> {
        let (at, shards) = (Instant::now(), self.recorded()?);
        let processes = self.processes.iter().map(|it| cpu_seconds(it.pid()));
        Ok(Reading {
            at,
            shards,
            processes_cpu: processes.sum::<Result<_>>()?,
            teachers_cpu: cpu_seconds(self.teachers.pid())?,
            cores: CoreTime::read(&self.cores)?,
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
            busy_share: self.cores.busy_share_since(begin.cores),
        }
    }
}
