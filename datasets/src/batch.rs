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
pub struct View {
    /// The run's seed.
    pub seed: u64,
    /// Position of the phase in the run.
    pub phase: u64,
    /// Position of the epoch in the phase.
    pub epoch: u64,
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
        let View { seed, phase, epoch } = view;
        Self {
            dataset,
            augmentation,
            streams: RandomStreams::new(seed, Purpose::Augmentation, phase, epoch),
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
        let view = View {
            seed: 1,
            phase: 0,
            epoch: 0,
        };
        let assembler = BatchAssembler::new(&data, augmentation, view);
        let both = assembler.assemble(&[3, 1]);
        assert_eq!(both.pixels[64..], assembler.assemble(&[1]).pixels);
        assert_eq!(both.labels, [0, 0]);
        let other = View { epoch: 1, ..view };
        let other = BatchAssembler::new(&data, augmentation, other).assemble(&[3, 1]);
        assert_ne!(both.pixels, other.pixels);
    }
}
