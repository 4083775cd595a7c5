//! Samples put together for one step.

use crate::{
    Augmentation, Dataset,
    random::{Purpose, RandomStreams},
};

/// Images and labels of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Positions in the data set.
    pub samples: Vec<u32>,
    /// u8, [samples, channels, height, width].
    pub pixels: Vec<u8>,
    /// Hard labels, as libtorch wants class indices.
    pub labels: Vec<i64>,
}

/// Decides how samples are augmented: the same view gives a sample the same pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// New for every epoch.
    OfEpoch {
        /// The run's seed.
        seed: u64,
        /// Position of the phase in the run.
        phase: u64,
        /// Position of the epoch in the phase.
        epoch: u64,
    },
    /// One of a set that runs share, whatever their seeds and phases.
    Fixed {
        /// Of the set.
        seed: u64,
        /// Position in the set.
        view: u64,
    },
}

/// Assembles augmented batches of one view.
#[derive(Debug)]
pub struct BatchAssembler<'d> {
    dataset: &'d Dataset,
    augmentation: Augmentation,
    streams: RandomStreams,
}

impl<'d> BatchAssembler<'d> {
    /// Batches of `dataset` under `view`.
    pub fn new(dataset: &'d Dataset, augmentation: Augmentation, view: View) -> Self {
        let streams = match view {
            View::OfEpoch { seed, phase, epoch } => {
                RandomStreams::new(seed, Purpose::Augmentation, phase, epoch)
            }
            View::Fixed { seed, view } => RandomStreams::new(seed, Purpose::FixedView, 0, view),
        };
        Self {
            dataset,
            augmentation,
            streams,
        }
    }

    /// The batch of `samples`.
    ///
    /// # Panics
    /// When a sample is not in the data set.
    pub fn assemble(&self, samples: &[u32]) -> Batch {
        let size = self.dataset.image_size();
        let mut pixels = vec![0; samples.len() * size];
        for (&sample, out) in samples.iter().zip(pixels.chunks_exact_mut(size)) {
            let image = self.dataset.image(sample as usize);
            let mut generator = self.streams.at(sample.into());
            self.augmentation
                .apply(image, self.dataset.shape(), &mut generator, out);
        }
        let label = |sample: &u32| i64::from(self.dataset.labels()[*sample as usize]);
        Batch {
            samples: samples.to_vec(),
            pixels,
            labels: samples.iter().map(label).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_looks_the_same_in_any_batch_of_a_view_and_different_in_another_view() {
        let pixels = (0..=255).cycle().take(4 * 64).collect();
        let data = Dataset::new([1, 8, 8], vec!["a".into()], pixels, vec![0; 4]);
        let augmentation = Augmentation {
            pad: 2,
            horizontal_flip: true,
        };
        let of_epoch = |epoch| View::OfEpoch {
            seed: 1,
            phase: 0,
            epoch,
        };
        let fixed = |seed, view| View::Fixed { seed, view };
        let views = [
            of_epoch(0),
            of_epoch(1),
            fixed(1, 0),
            fixed(1, 1),
            fixed(2, 0),
        ];
        let mut seen = Vec::new();
        for view in views {
            let assembler = BatchAssembler::new(&data, augmentation, view);
            let both = assembler.assemble(&[3, 1]);
            assert_eq!(both.pixels[64..], assembler.assemble(&[1]).pixels);
            assert_eq!(both.labels, [0, 0]);
            assert!(!seen.contains(&both.pixels), "{view:?}");
            seen.push(both.pixels);
        }
    }
}
