//! Loads batches in seeded order, ahead of training.
//!
//! One thread assembles augmented batches and, if the loss needs soft targets, hands each to the
//! teacher pool. Training takes them in order from a bounded channel. So teachers work while the
//! student trains, and the order of training does not depend on their speed.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::Scope,
};

use datasets::{
    Augmentation, Batch, EpochSampler, MixedLabels, Normalization, SampleError, Source, View,
};
use networks::Shape;

use rendering::{RenderedBatch, Rendering};

use crate::{
    config::{FixedViews, RoutedSample},
    input_buffers::{InputBuffer, InputBuffers},
    soft_targets::{PendingAnswer, PhaseTargets, TeacherBatch},
};

mod rendering;
mod share;

pub use share::BatchShare;

/// Batches loaded ahead of training in a phase without soft targets.
const PREFETCH: usize = 4;

/// The batches of one phase.
#[derive(Clone, Copy)]
pub struct BatchPlan<'d> {
    /// The training samples.
    pub samples: TrainingSamples<'d>,
    /// The run's seed.
    pub seed: u64,
    /// Position of the phase in the run.
    pub phase: usize,
    /// Passes over the samples.
    pub epochs: usize,
    /// Samples per batch; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// The soft targets, if the loss needs them.
    pub soft_targets: Option<&'d PhaseTargets<'d>>,
    /// The views of the samples; by default every epoch has a new one.
    pub views: Option<FixedViews>,
    /// The batches that this worker loads; by default all.
    pub share: BatchShare,
}

/// Samples, and how they become a network's input.
#[derive(Clone, Copy)]
pub struct TrainingSamples<'d> {
    /// Samples and labels.
    pub source: &'d dyn Source,
    /// Shape of one sample of the network's input.
    pub input: Shape,
    /// Applied to the values.
    pub normalization: &'d Normalization,
    /// Random changes.
    pub augmentation: Augmentation,
}

/// The position of a batch in a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Position of the epoch in the phase, 0-based.
    pub epoch: usize,
    /// Position of the batch in the epoch, 0-based.
    pub step: usize,
}

/// A batch, or the sample of it that cannot be read.
pub type LoadingResult<'d> = Result<LoadedBatch<'d>, SampleError>;

/// Input, labels and, if the loss needs them, pending soft targets of one step.
pub struct LoadedBatch<'d> {
    /// Position of the epoch in the phase, 0-based.
    pub epoch: usize,
    /// Positions in the data set.
    pub samples: Vec<u32>,
    /// Normalized, [samples, channels, height, width] or [samples, values].
    pub input: InputBuffer,
    /// Labels; [`datasets::IGNORED_LABEL`] for unlabelled samples.
    pub labels: Vec<i64>,
    /// The labels of the samples that these are mixed with, if they are.
    pub mixed: Option<MixedLabels>,
    /// What decides the teachers of the samples on a route. Empty if the loss needs no soft targets.
    pub routed: Vec<RoutedSample>,
    /// The logits of the run's teachers, in order, for exactly this view of the samples: see [`PhaseTargets::ask`].
    /// Empty if the loss needs none.
    pub soft_targets: Vec<Option<PendingAnswer<'d>>>,
}

impl<'d> BatchPlan<'d> {
    /// Batches per epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.samples.source.len().div_ceil(self.batch_size)
    }

    /// The order of the samples in `epoch`.
    pub fn sampler(&self, epoch: usize) -> EpochSampler {
        let samples = self.samples.source.len();
        let (phase, epoch) = (self.phase as u64, epoch as u64);
        EpochSampler::new(samples, self.batch_size, self.seed, phase, epoch)
    }

    /// Starts the loader in `scope`, with the first batch of its share from `start` on. It ends after the last batch,
    /// after a sample that cannot be read, or when the receiver is dropped.
    pub fn load<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        start: Position,
    ) -> Receiver<LoadingResult<'d>>
    where
        'd: 'scope,
    {
        let ahead = self.soft_targets.map_or(PREFETCH, PhaseTargets::prefetch);
        // The loader holds one more batch while it waits for space in the channel.
        let (sender, receiver) = sync_channel(ahead.saturating_sub(1));
        scope.spawn(move || self.run(start, &sender));
        receiver
    }

    /// Seed and number of the view of `epoch`, if there is a fixed set of views.
    pub fn fixed_view(&self, epoch: usize) -> Option<(u64, u32)> {
        let views = self.views?;
        Some((views.seed, views.of_epoch(epoch)))
    }

    fn run(&self, start: Position, sender: &SyncSender<LoadingResult<'d>>) {
        let buffers = InputBuffers::default();
        for epoch in start.epoch..self.epochs {
            let (phase, number) = (self.phase as u64, epoch as u64);
            let view = match self.fixed_view(epoch) {
                Some((seed, view)) => View::Fixed {
                    seed,
                    view: view.into(),
                },
                None => View::OfEpoch {
                    seed: self.seed,
                    phase,
                    epoch: number,
                },
            };
            let TrainingSamples {
                source,
                input,
                augmentation,
                ..
            } = self.samples;
            let inputs = self.soft_targets.map(PhaseTargets::inputs);
            let shape = input.dimensions();
            let rendering = Rendering::new(
                source,
                augmentation,
                view,
                &shape,
                inputs.unwrap_or_default(),
            );
            let sampler = self.sampler(epoch);
            let done = if epoch == start.epoch { start.step } else { 0 };
            let batches = sampler.iter().enumerate().skip(done);
            for (_, samples) in batches.filter(|(position, _)| self.share.has(*position)) {
                let batch = self.make(epoch, view, &rendering, samples, buffers.take());
                let is_last = batch.is_err();
                // Sending fails if training ended early.
                if sender.send(batch).is_err() || is_last {
                    return;
                }
            }
        }
    }

    fn make(
        &self,
        epoch: usize,
        view: View,
        rendering: &Rendering<'_>,
        samples: &[u32],
        mut input: InputBuffer,
    ) -> LoadingResult<'d> {
        let TrainingSamples {
            source,
            input: shape,
            normalization,
            ..
        } = self.samples;
        let rendered = rendering.render(samples, |values| {
            normalization.apply_to(values, &shape.dimensions(), &mut input);
        });
        let RenderedBatch {
            batch,
            for_teachers,
        } = rendered?;
        let Batch {
            prevailing,
            labels,
            mixed,
            ..
        } = batch;
        let asked = self.soft_targets.map(|targets| {
            let prevailing = prevailing.iter().zip(&labels);
            let routed = prevailing.map(|(sample, label)| RoutedSample {
                position: source.stored_position(*sample),
                label: *label,
            });
            let routed: Vec<_> = routed.collect();
            let pending = targets.ask(&TeacherBatch {
                view,
                samples,
                routed: &routed,
                values: &for_teachers,
            });
            (routed, pending)
        });
        let (routed, soft_targets) = asked.unwrap_or_default();
        Ok(LoadedBatch {
            epoch,
            samples: batch.samples,
            input,
            labels,
            mixed,
            routed,
            soft_targets,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs, thread,
    };

    use datasets::{InMemoryImages, Mixup, Split, load_idx};

    use super::*;

    const SAMPLES: u8 = 10;

    /// Images whose one pixel is their position.
    fn dataset() -> InMemoryImages {
        square_images(1)
    }

    /// Images whose pixels are all different.
    fn square_images(side: u8) -> InMemoryImages {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, header: &[u8], values: u8| {
            let values: Vec<u8> = (0..values).collect();
            fs::write(folder.path().join(name), [header, &values].concat()).unwrap();
        };
        write(
            "train-images-idx3-ubyte",
            &[0, 0, 8, 3, 0, 0, 0, SAMPLES, 0, 0, 0, side, 0, 0, 0, side],
            SAMPLES * side * side,
        );
        let header = [0, 0, 8, 1, 0, 0, 0, SAMPLES];
        write("train-labels-idx1-ubyte", &header, SAMPLES);
        let class_names: Vec<_> = (0..SAMPLES).map(|class| class.to_string()).collect();
        load_idx(folder.path(), Split::Train, &class_names).unwrap()
    }

    fn plan<'d>(source: &'d InMemoryImages, normalization: &'d Normalization) -> BatchPlan<'d> {
        BatchPlan {
            samples: TrainingSamples {
                source,
                input: source.shape().into(),
                normalization,
                augmentation: Augmentation::default(),
            },
            seed: 1,
            phase: 0,
            epochs: 3,
            batch_size: 4,
            soft_targets: None,
            views: None,
            share: BatchShare::default(),
        }
    }

    fn load<'d>(plan: BatchPlan<'d>, start: Position) -> Vec<LoadedBatch<'d>> {
        thread::scope(|scope| plan.load(scope, start).iter().map(Result::unwrap).collect())
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
        let batches = load(plan, Position::default());
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
    fn fixed_views_come_in_turn_whatever_the_runs_seed() {
        let (dataset, normalization) = (square_images(5), normalization());
        let epochs_of = |seed, views| {
            let mut plan = plan(&dataset, &normalization);
            plan.samples.augmentation = Augmentation {
                pad: 1,
                horizontal_flip: true,
                ..Augmentation::default()
            };
            let plan = BatchPlan {
                seed,
                epochs: 6,
                batch_size: SAMPLES.into(),
                views,
                ..plan
            };
            let batches = load(plan, Position::default());
            let in_order = |batch: LoadedBatch<'_>| {
                let pixels = batch.samples.iter().zip(batch.input.chunks(5 * 5));
                let bits = |image: &[f32]| image.iter().map(|value| value.to_bits()).collect();
                let ordered: BTreeMap<u32, Vec<u32>> = pixels
                    .map(|(sample, image)| (*sample, bits(image)))
                    .collect();
                ordered.into_values().collect::<Vec<_>>()
            };
            batches.into_iter().map(in_order).collect::<Vec<_>>()
        };
        let views = Some(FixedViews { count: 2, seed: 5 });
        let epochs = epochs_of(1, views);
        assert_eq!(epochs, epochs_of(2, views));
        assert_eq!([&epochs[0], &epochs[1]], [&epochs[4], &epochs[5]]);
        assert_ne!(epochs[0], epochs[1]);
        let free = epochs_of(1, None);
        assert!((1..6).all(|epoch| free[epoch] != free[0]));
        assert_ne!(free, epochs_of(2, None));
    }

    #[test]
    fn mixed_samples_come_with_both_labels_and_the_same_ones_from_any_position() {
        let (dataset, normalization) = (dataset(), normalization());
        let mut plan = plan(&dataset, &normalization);
        plan.samples.augmentation.mixup = Some(Mixup { alpha: 1.0 });
        let batches = load(plan, Position::default());
        for batch in &batches {
            let mixed = batch.mixed.as_ref().unwrap();
            for (at, value) in batch.input.iter().enumerate() {
                // The one pixel of each image is its label.
                let (first, other) = (batch.labels[at] as f32, mixed.labels[at] as f32);
                let expected = first * (1.0 - mixed.weights[at]) + other * mixed.weights[at];
                assert!(
                    (value * 255.0 - expected).abs() < 0.51,
                    "{value} {expected}"
                );
            }
        }
        let resumed = load(plan, Position { epoch: 1, step: 1 });
        for (resumed, whole) in resumed.iter().zip(&batches[4..]) {
            assert_eq!(*resumed.input, *whole.input);
            assert_eq!(resumed.mixed, whole.mixed);
        }
        let other = load(BatchPlan { seed: 2, ..plan }, Position::default());
        assert_ne!(other[0].mixed, batches[0].mixed);
    }

    #[test]
    fn from_any_position_the_batches_are_those_of_a_whole_phase() {
        let (dataset, normalization) = (dataset(), normalization());
        let plan = plan(&dataset, &normalization);
        let batches = |start| -> Vec<_> {
            let keep = |batch: LoadedBatch<'_>| (batch.epoch, batch.samples, batch.labels);
            load(plan, start).into_iter().map(keep).collect()
        };
        let whole = batches(Position::default());
        for done in 0..=whole.len() {
            let start = Position {
                epoch: done / 3,
                step: done % 3,
            };
            assert_eq!(batches(start), whole[done..], "{start:?}");
        }
        // The other way to name the end of an epoch.
        assert_eq!(batches(Position { epoch: 0, step: 3 }), whole[3..]);
    }

    #[test]
    fn workers_load_all_batches_each_once() {
        let (dataset, normalization) = (dataset(), normalization());
        let plan = BatchPlan {
            batch_size: 2,
            ..plan(&dataset, &normalization)
        };
        let batches = |share, start| -> Vec<_> {
            let batches = load(BatchPlan { share, ..plan }, start).into_iter();
            batches.map(|batch| (batch.epoch, batch.samples)).collect()
        };
        for start in [Position::default(), Position { epoch: 1, step: 4 }] {
            let mut whole = batches(BatchShare::default(), start).into_iter();
            let mut shares = [0, 1].map(|worker| {
                let share = BatchShare { worker, workers: 2 };
                batches(share, start).into_iter()
            });
            // Five batches an epoch.
            for position in (start.step..5).chain(0..5).cycle().take(whole.len()) {
                assert_eq!(shares[position % 2].next(), whole.next());
            }
            assert!(shares.iter_mut().all(|share| share.next().is_none()));
        }
    }

    #[test]
    fn the_loader_ends_when_its_receiver_is_dropped() {
        let (dataset, normalization) = (dataset(), normalization());
        let endless = BatchPlan {
            epochs: usize::MAX,
            ..plan(&dataset, &normalization)
        };
        // The scope returns only when the loader has ended.
        thread::scope(|scope| drop(endless.load(scope, Position::default())));
    }
}
