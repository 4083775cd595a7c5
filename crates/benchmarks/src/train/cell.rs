//! A network with a number of threads, and its measurements.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use common::output::Messages;

use super::{
    peer::{Peer, PeerFigures},
    workload::{Amount, Workload},
};
use crate::trainer::Trainer;

/// A network with a number of threads.
pub(super) struct Cell {
    pub workload: Workload,
    pub amount: Amount,
    /// As many as threads.
    cores: Vec<usize>,
    folder: PathBuf,
    images: PathBuf,
    trainer: Trainer,
    pub rounds: Vec<Round>,
}

/// The measurements of one turn.
pub(super) struct Round {
    /// The trainer's samples/s.
    pub ours: f64,
    pub peer: PeerFigures,
}

impl Cell {
    /// Writes the images, if they are generated, and starts a trainer on `cores`.
    pub(super) async fn prepare(
        folder: &Path,
        workload: Workload,
        amount: Amount,
        fashion_mnist: &Path,
        cores: Vec<usize>,
    ) -> anyhow::Result<Self> {
        fs::create_dir(folder).with_context(|| folder.display().to_string())?;
        let images = workload
            .task()
            .data(fashion_mnist, folder, workload.samples())?;
        let program = Trainer::program()?.on_cores(&cores);
        Ok(Self {
            trainer: Trainer::start(program, folder, &images).await?,
            folder: folder.to_owned(),
            rounds: Vec::new(),
            workload,
            amount,
            images,
            cores,
        })
    }

    /// Trains with the trainer, then with PyTorch.
    pub(super) async fn measure(&mut self, peer: &Peer<'_>) -> anyhow::Result<()> {
        let (workload, amount) = (self.workload, self.amount);
        writeln!(Messages, "{}, {} threads", workload.name(), amount.threads);
        let samples = workload.samples();
        let run = workload.run(amount, samples, &self.images)?;
        let training = self.trainer.train(run, samples as u64, None).await?;
        let peer = peer.train(&self.folder, workload, amount, &self.images, &self.cores);
        self.rounds.push(Round {
            ours: training.measurement.samples_per_second(),
            peer: peer.await?,
        });
        Ok(())
    }
}
