//! A part of a source.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use rand::seq::SliceRandom;
use sha2::{Digest, Sha256};

use crate::{
    DatasetError, Sample, SampleError, SampleKind, Source,
    random::{Purpose, RandomStreams},
};

/// Some samples of a source, or all of them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Subset {
    source: Arc<dyn Source>,
    /// Positions in the source; all if absent.
    samples: Option<Arc<[u32]>>,
    fingerprint: Arc<str>,
}

impl Subset {
    /// All samples of `source`.
    pub fn whole(source: Arc<dyn Source>) -> Self {
        Self {
            fingerprint: source.fingerprint().into(),
            samples: None,
            source,
        }
    }

    /// A sample of `count` samples, in the order of the source: of each class in proportion, drawn by a fixed
    /// seed. It does not depend on a run's seed, so that runs of all seeds share a recording of it, and a
    /// teacher's sample is its student's.
    ///
    /// # Errors
    /// [`DatasetError::TooFewSamples`].
    pub fn sample(&self, count: usize) -> Result<Self, DatasetError> {
        self.require("for training", count)?;
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.shuffle(&mut RandomStreams::new(0, Purpose::Subset, 0, 0).at(0));
        let mut left = self.shares(count);
        order.retain(|sample| {
            // Holds: every label has a share.
            let left = left
                .get_mut(&self.label(*sample))
                .expect("every label has a share");
            let is_kept = *left > 0;
            *left = left.saturating_sub(1);
            is_kept
        });
        order.sort_unstable();
        Ok(self.select(order))
    }

    /// Holds `count` samples out: (the others, those). The choice does not depend on a run's seed, so that a
    /// teacher has not seen what its student is validated on.
    ///
    /// # Errors
    /// [`DatasetError::TooFewSamples`] if nothing would remain.
    pub fn hold_out(&self, count: usize) -> Result<(Self, Self), DatasetError> {
        self.require("for validation, with one left to train on", count + 1)?;
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        let streams = RandomStreams::new(0, Purpose::ValidationSplit, 0, 0);
        order.shuffle(&mut streams.at(0));
        let mut remaining = order.split_off(count);
        order.sort_unstable();
        remaining.sort_unstable();
        Ok((self.select(remaining), self.select(order)))
    }

    /// The samples that have a label.
    #[must_use]
    pub fn labelled(&self) -> Self {
        let all = 0..self.len() as u32;
        let labelled: Vec<u32> = all.filter(|sample| self.label(*sample).is_some()).collect();
        if labelled.len() == self.len() {
            return self.clone();
        }
        self.select(labelled)
    }

    /// Fingerprint of the source that this is a part of.
    pub fn source_fingerprint(&self) -> &str {
        self.source.fingerprint()
    }

    /// How many of `count` samples each label gets, in proportion to its samples: the largest remainders round
    /// up (Hamilton's method), the smaller label if they are equal.
    fn shares(&self, count: usize) -> BTreeMap<Option<u32>, usize> {
        let mut sizes = BTreeMap::<_, usize>::new();
        for sample in 0..self.len() as u32 {
            *sizes.entry(self.label(sample)).or_default() += 1;
        }
        let all = self.len().max(1) as u128;
        let exact = |size: usize| size as u128 * count as u128;
        // Holds: a share is at most `count`.
        let mut shares: BTreeMap<_, _> = sizes
            .iter()
            .map(|(label, size)| (*label, (exact(*size) / all) as usize))
            .collect();
        let mut labels: Vec<_> = sizes.iter().collect();
        labels.sort_by_key(|(_, size)| std::cmp::Reverse(exact(**size) % all));
        let missing = count - shares.values().sum::<usize>();
        for (label, _) in labels.into_iter().take(missing) {
            *shares.entry(*label).or_default() += 1;
        }
        shares
    }

    fn require(&self, purpose: &'static str, wanted: usize) -> Result<(), DatasetError> {
        let available = self.len();
        if wanted > available {
            return Err(DatasetError::TooFewSamples {
                purpose,
                wanted,
                available,
            });
        }
        Ok(())
    }

    /// The samples at `positions` of this subset.
    pub(crate) fn select(&self, positions: Vec<u32>) -> Self {
        let samples: Arc<[u32]> = positions.into_iter().map(|at| self.position(at)).collect();
        let mut hasher = Sha256::new();
        hasher.update("retort subset 1\n");
        hasher.update(self.source.fingerprint());
        for sample in &*samples {
            hasher.update(sample.to_le_bytes());
        }
        Self {
            source: Arc::clone(&self.source),
            samples: Some(samples),
            fingerprint: hex::encode(hasher.finalize()).into(),
        }
    }

    /// The position in the source of the subset's `sample`.
    fn position(&self, sample: u32) -> u32 {
        match &self.samples {
            Some(samples) => samples[sample as usize],
            None => sample,
        }
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.samples
            .as_ref()
            .map_or(self.source.len(), |samples| samples.len())
    }

    fn kind(&self) -> SampleKind {
        self.source.kind()
    }

    fn class_names(&self) -> &[String] {
        self.source.class_names()
    }

    fn label(&self, sample: u32) -> Option<u32> {
        self.source.label(self.position(sample))
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn stored_position(&self, sample: u32) -> u32 {
        self.source.stored_position(self.position(sample))
    }

    fn stored_len(&self) -> usize {
        self.source.stored_len()
    }

    fn read(&self, sample: u32) -> Result<Sample<'_>, SampleError> {
        self.source.read(self.position(sample))
    }

    fn place(&self, sample: u32) -> Option<PathBuf> {
        self.source.place(self.position(sample))
    }

    fn decodes(&self) -> bool {
        self.source.decodes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InMemoryImages;

    /// `sizes` images of each class, sorted by class; the two pixels number them.
    fn sorted_by_class(sizes: &[usize]) -> Subset {
        let names = (0..sizes.len()).map(|class| class.to_string()).collect();
        let classes = sizes.iter().enumerate();
        let labels: Vec<_> = classes
            .flat_map(|(class, size)| vec![Some(class as u32); *size])
            .collect();
        let pixels = (0..labels.len() as u16).flat_map(u16::to_be_bytes);
        let images = InMemoryImages::new([1, 1, 2], names, pixels.collect(), labels);
        Subset::whole(Arc::new(images))
    }

    fn number(data: &Subset, sample: u32) -> u16 {
        match data.read(sample).unwrap() {
            Sample::Image(picture) => u16::from_be_bytes([picture.pixels[0], picture.pixels[1]]),
            Sample::Row(_) => panic!("not an image"),
        }
    }

    fn numbers(data: &Subset) -> Vec<u16> {
        (0..data.len() as u32)
            .map(|sample| number(data, sample))
            .collect()
    }

    #[test]
    fn held_out_samples_and_the_others_are_a_partition() {
        let data = sorted_by_class(&[1; 20]);
        let (others, held_out) = data.hold_out(5).unwrap();
        assert_eq!((others.len(), held_out.len()), (15, 5));
        let mut all = [numbers(&others), numbers(&held_out)].concat();
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<u16>>());
        for sample in 0..5 {
            let label = held_out.label(sample).unwrap();
            assert_eq!(u32::from(number(&held_out, sample)), label);
        }
        assert_ne!(numbers(&held_out), [15, 16, 17, 18, 19]);
        let fingerprints = [&data, &others, &held_out].map(|data| data.fingerprint().to_owned());
        assert!(fingerprints[0] != fingerprints[1] && fingerprints[1] != fingerprints[2]);
    }

    #[test]
    fn a_request_for_more_than_exists_is_refused() {
        let data = sorted_by_class(&[1, 1, 1]);
        for error in [data.sample(4).err(), data.hold_out(3).err()] {
            assert!(error.unwrap().to_string().contains("has 3"));
        }
        assert_eq!(numbers(&data.sample(3).unwrap()), numbers(&data));
    }

    #[test]
    fn a_sample_has_its_share_of_each_class_also_of_data_sorted_by_class() {
        let data = sorted_by_class(&[60, 30, 0, 10]);
        for (count, shares) in [
            (0, [0, 0, 0, 0]),
            (1, [1, 0, 0, 0]),
            (10, [6, 3, 0, 1]),
            (33, [20, 10, 0, 3]),
            (55, [33, 17, 0, 5]),
            (100, [60, 30, 0, 10]),
        ] {
            let sample = data.sample(count).unwrap();
            let of_class = |class| {
                let samples = 0..sample.len() as u32;
                samples
                    .filter(|it| sample.label(*it) == Some(class))
                    .count()
            };
            assert_eq!([0, 1, 2, 3].map(of_class), shares, "{count}");
            // Each at most once, in the order of the source.
            assert!(numbers(&sample).is_sorted_by(|a, b| a < b), "{count}");
        }
    }

    #[test]
    fn a_sample_is_drawn_from_the_whole_set_and_is_the_same_every_time() {
        let data = sorted_by_class(&[200, 200]);
        let sample = data.sample(20).unwrap();
        let again = data.sample(20).unwrap();
        assert_eq!(again.fingerprint(), sample.fingerprint());
        // These bits decide which recordings fit a run: another sample needs another `Purpose`.
        assert_eq!(numbers(&sample), PINNED_SAMPLE);
        assert_ne!(sample.fingerprint(), data.fingerprint());
    }

    const PINNED_SAMPLE: [u16; 20] = [
        46, 87, 92, 94, 114, 117, 120, 150, 153, 197, 207, 229, 230, 240, 244, 286, 342, 348, 363,
        371,
    ];

    #[test]
    fn a_subset_of_a_subset_reads_the_right_samples() {
        let data = sorted_by_class(&[30, 30]);
        let (others, _) = data.hold_out(10).unwrap();
        let sample = others.sample(20).unwrap();
        let found = numbers(&sample);
        assert!(found.iter().all(|number| numbers(&others).contains(number)));
        for at in 0..20 {
            assert_eq!(sample.label(at), Some(u32::from(found[at as usize] >= 30)));
        }
    }

    #[test]
    fn stored_positions_are_those_of_the_data_whatever_part_it_is() {
        let data = sorted_by_class(&[30, 30]);
        let (others, held_out) = data.hold_out(10).unwrap();
        let sample = others.sample(20).unwrap();
        // A part of a part, as of data that has no splits of its own.
        let nested = Subset::whole(Arc::new(others.clone()));
        let nested = nested.hold_out(5).unwrap().0;
        for part in [data, others, held_out, sample, nested] {
            let positions: Vec<u32> = (0..part.len() as u32)
                .map(|at| part.stored_position(at))
                .collect();
            let numbers: Vec<u32> = numbers(&part).into_iter().map(u32::from).collect();
            assert_eq!(positions, numbers);
            assert_eq!(part.stored_len(), 60);
        }
    }

    #[test]
    fn unlabelled_samples_are_left_out_where_labels_are_needed() {
        let labels = vec![Some(0), None, Some(0)];
        let names = vec!["a".to_owned()];
        let images = InMemoryImages::new([1, 1, 2], names, vec![0, 0, 0, 1, 0, 2], labels);
        let data = Subset::whole(Arc::new(images));
        assert_eq!(numbers(&data.labelled()), [0, 2]);
        assert_eq!(data.sample(2).unwrap().len(), 2);
        let labelled = data.labelled();
        assert_eq!(labelled.labelled().fingerprint(), labelled.fingerprint());
    }
}
