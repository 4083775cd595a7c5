//! Splits data that has no splits of its own.

use std::{collections::BTreeMap, sync::Arc};

use rand::seq::SliceRandom;

use crate::{
    DatasetError, Opened, Shares, Source, Subset,
    random::{Purpose, RandomStreams},
};

impl Shares {
    /// Splits the training samples of `opened`, class by class, so that every split has the classes in
    /// proportion. Every class keeps one sample or more to train on. Unlabelled samples are for training.
    ///
    /// # Errors
    /// [`DatasetError::Layout`] if the shares leave nothing to train on.
    pub(crate) fn part(self, opened: Opened) -> Result<Opened, DatasetError> {
        let is_share = |share: f64| (0.0..1.0).contains(&share);
        let fits = is_share(self.validation) && is_share(self.test);
        if !fits || self.validation + self.test >= 1.0 {
            let problem = format!(
                "shares of {} for validation and {} for the test leave nothing to train on",
                self.validation, self.test
            );
            return Err(DatasetError::layout("split", problem));
        }
        let mut classes = BTreeMap::<Option<u32>, Vec<u32>>::new();
        for sample in 0..opened.train.len() as u32 {
            classes
                .entry(opened.train.label(sample))
                .or_default()
                .push(sample);
        }
        let streams = RandomStreams::new(self.seed, Purpose::Partition, 0, 0);
        let [mut train, mut validation, mut test] = [vec![], vec![], vec![]];
        for (label, mut samples) in classes {
            let Some(label) = label else {
                train.append(&mut samples);
                continue;
            };
            samples.shuffle(&mut streams.at(label.into()));
            let share = |share: f64| (samples.len() as f64 * share).round() as usize;
            let held_out = [share(self.validation), share(self.test)];
            let spare = samples.len() - 1;
            let for_validation = held_out[0].min(spare);
            let for_test = held_out[1].min(spare - for_validation);
            test.extend(samples.drain(..for_test));
            validation.extend(samples.drain(..for_validation));
            train.append(&mut samples);
        }
        let whole = Subset::whole(opened.train);
        let part = |mut samples: Vec<u32>| -> Arc<dyn Source> {
            samples.sort_unstable();
            Arc::new(whole.select(samples))
        };
        let held_out = |samples: Vec<u32>| (!samples.is_empty()).then(|| part(samples));
        Ok(Opened {
            validation: held_out(validation),
            test: held_out(test),
            train: part(train),
            unreadable: opened.unreadable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InMemoryImages;

    fn opened(labels: &[Option<u32>]) -> Opened {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let pixels = (0..labels.len()).map(|sample| sample as u8).collect();
        let images = InMemoryImages::new([1, 1, 1], names, pixels, labels.to_vec());
        Opened {
            train: Arc::new(images),
            validation: None,
            test: None,
            unreadable: vec![],
        }
    }

    fn labels(source: &Option<Arc<dyn Source>>) -> Vec<Option<u32>> {
        let source = source.as_ref().unwrap();
        (0..source.len() as u32)
            .map(|sample| source.label(sample))
            .collect()
    }

    #[test]
    fn each_class_is_split_in_proportion_and_the_choice_depends_on_the_seed() {
        let all: Vec<_> = [
            vec![Some(0); 100],
            vec![Some(1); 50],
            vec![Some(2); 1],
            vec![None; 9],
        ]
        .concat();
        let shares = Shares {
            validation: 0.2,
            test: 0.1,
            seed: 3,
        };
        let parts = shares.part(opened(&all)).unwrap();
        let count = |labels: &[Option<u32>]| {
            [Some(0), Some(1), Some(2), None]
                .map(|class| labels.iter().filter(|label| **label == class).count())
        };
        assert_eq!(count(&labels(&parts.validation)), [20, 10, 0, 0]);
        assert_eq!(count(&labels(&parts.test)), [10, 5, 0, 0]);
        assert_eq!(count(&labels(&Some(parts.train.clone()))), [70, 35, 1, 9]);
        let again = shares.part(opened(&all)).unwrap();
        assert_eq!(again.train.fingerprint(), parts.train.fingerprint());
        let other = Shares { seed: 4, ..shares }.part(opened(&all)).unwrap();
        assert_ne!(other.train.fingerprint(), parts.train.fingerprint());
    }

    #[test]
    fn shares_that_leave_nothing_to_train_on_are_refused() {
        for (validation, test) in [(0.5, 0.5), (1.0, 0.0), (-0.1, 0.1), (f64::NAN, 0.0)] {
            let shares = Shares {
                validation,
                test,
                seed: 0,
            };
            assert!(shares.part(opened(&[Some(0), Some(1)])).is_err());
        }
        let none = Shares {
            validation: 0.0,
            test: 0.0,
            seed: 0,
        };
        let parts = none.part(opened(&[Some(0), Some(1)])).unwrap();
        assert!(parts.validation.is_none() && parts.test.is_none() && parts.train.len() == 2);
    }
}
