//! Batches in seeded order, made ahead of training.
//!
//! One thread assembles augmented batches and, where the loss needs soft targets, hands each to the
//! teacher pool; training takes them in order from a bounded channel. So teachers work while the
//! student trains, and how far they are ahead never decides what is trained on.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::Scope,
};

use bytes::Bytes;
use datasets::{Augmentation, BatchAssembler, Dataset, EpochSampler, Normalization, View};

use crate::pool::{TeacherPool, Ticket};

/// Batches made ahead where there is no pool that says how many.
const PREFETCH: usize = 4;

/// What the batches of one phase are.
#[derive(Clone, Copy)]
pub struct BatchPlan<'d> {
    /// The images.
    pub dataset: &'d Dataset,
    /// How pixels become the network's input.
    pub normalization: &'d Normalization,
    /// Random changes to the images.
    pub augmentation: Augmentation,
    /// The run's seed.
    pub seed: u64,
    /// Position of the phase in the run.
    pub phase: usize,
    /// Passes over the images.
    pub epochs: usize,
    /// Images a batch; an epoch's last may be smaller.
    pub batch_size: usize,
    /// Who is asked for soft targets, if anybody, and for how many batches ahead.
    pub teachers: Option<(&'d TeacherPool, usize)>,
}

/// Images, labels and, where asked for, soft targets to come, of one step.
pub struct LoadedBatch {
    /// Position of the epoch in the phase, 0-based.
    pub epoch: usize,
    /// Positions in the data set.
    pub samples: Vec<u32>,
    /// Normalized, [samples, channels, height, width].
    pub input: Vec<f32>,
    /// Hard labels.
    pub labels: Vec<i64>,
    /// Redeems the teacher's logits for exactly these pixels.
    pub ticket: Option<Ticket>,
}

impl<'d> BatchPlan<'d> {
    /// Batches an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.dataset.len().div_ceil(self.batch_size)
    }

    /// Starts the loader in `scope`. It ends after the last batch, or when the receiver is dropped.
    pub fn load<'scope>(self, scope: &'scope Scope<'scope, '_>) -> Receiver<LoadedBatch>
    where
        'd: 'scope,
    {
        let ahead = self.teachers.map_or(PREFETCH, |(_, prefetch)| prefetch);
        // One more batch is in the loader's hand, waiting for room in the channel.
        let (sender, receiver) = sync_channel(ahead.saturating_sub(1));
        scope.spawn(move || self.run(&sender));
        receiver
    }

    fn run(&self, sender: &SyncSender<LoadedBatch>) {
        for epoch in 0..self.epochs {
            let (phase, number) = (self.phase as u64, epoch as u64);
            let view = View::OfEpoch {
                seed: self.seed,
                phase,
                epoch: number,
            };
            let assembler = BatchAssembler::new(self.dataset, self.augmentation, view);
            let samples = self.dataset.len();
            let sampler = EpochSampler::new(samples, self.batch_size, self.seed, phase, number);
            for samples in sampler.iter() {
                // An error means that training has ended early.
                if sender.send(self.make(epoch, &assembler, samples)).is_err() {
                    return;
                }
            }
        }
    }

    fn make(&self, epoch: usize, assembler: &BatchAssembler<'_>, samples: &[u32]) -> LoadedBatch {
        let batch = assembler.assemble(samples);
        let [channels, height, width] = self.dataset.shape();
        let mut input = Vec::new();
        self.normalization
            .apply(&batch.pixels, height * width, &mut input);
        let shape = [samples.len(), channels, height, width];
        let pixels = Bytes::from(batch.pixels);
        LoadedBatch {
            epoch,
            samples: batch.samples,
            input,
            labels: batch.labels,
            ticket: self.teachers.map(|(pool, _)| pool.submit(pixels, shape)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, thread};

    use datasets::{Split, load_idx};

    use super::*;

    const SAMPLES: u8 = 10;

    /// Images whose one pixel is their position.
    fn dataset() -> Dataset {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, header: &[u8]| {
            let values: Vec<u8> = (0..SAMPLES).collect();
            fs::write(folder.path().join(name), [header, &values].concat()).unwrap();
        };
        write(
            "train-images-idx3-ubyte",
            &[0, 0, 8, 3, 0, 0, 0, SAMPLES, 0, 0, 0, 1, 0, 0, 0, 1],
        );
        write("train-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, SAMPLES]);
        let class_names: Vec<_> = (0..SAMPLES).map(|class| class.to_string()).collect();
        load_idx(folder.path(), Split::Train, &class_names).unwrap()
    }

    fn plan<'d>(dataset: &'d Dataset, normalization: &'d Normalization) -> BatchPlan<'d> {
        BatchPlan {
            dataset,
            normalization,
            augmentation: Augmentation::default(),
            seed: 1,
            phase: 0,
            epochs: 3,
            batch_size: 4,
            teachers: None,
        }
    }

    fn normalization() -> Normalization {
        Normalization {
            mean: vec![0.0],
            std: vec![1.0],
        }
    }

    #[test]
    fn every_epoch_has_every_sample_once_with_its_pixels_and_label() {
        let (dataset, normalization) = (dataset(), normalization());
        let plan = plan(&dataset, &normalization);
        assert_eq!(plan.steps_per_epoch(), 3);
        let batches: Vec<_> = thread::scope(|scope| plan.load(scope).iter().collect());
        let sizes: Vec<_> = batches.iter().map(|batch| batch.samples.len()).collect();
        assert_eq!(sizes, [4, 4, 2, 4, 4, 2, 4, 4, 2]);
        for epoch in 0..3 {
            let mut seen = BTreeSet::new();
            for batch in batches.iter().filter(|batch| batch.epoch == epoch) {
                for (position, sample) in batch.samples.iter().enumerate() {
                    assert_eq!(batch.input[position], *sample as f32 / 255.0);
                    assert_eq!(batch.labels[position], i64::from(*sample));
                    assert!(seen.insert(*sample));
                }
            }
            assert_eq!(seen.len(), usize::from(SAMPLES));
        }
        assert_ne!(
            batches[0].samples, batches[3].samples,
            "epochs are shuffled alike"
        );
    }

    #[test]
    fn the_loader_ends_when_nobody_takes_its_batches() {
        let (dataset, normalization) = (dataset(), normalization());
        let endless = BatchPlan {
            epochs: usize::MAX,
            ..plan(&dataset, &normalization)
        };
        // The scope returns only when the loader has ended.
        thread::scope(|scope| drop(endless.load(scope)));
    }
}
