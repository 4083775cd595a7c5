//! Batches by reference: samples that a teacher reads and renders itself.

use std::ops::Range;

use bytes::Bytes;
use datasets::{Augmentation, SampleError, Source, Subset, View};
use proto::teacher::v1::{self as wire, sample_references};

use crate::ViewSet;

/// The training samples of a run, and how their pixels become a batch. A teacher that has the same samples and renders
/// the same bytes needs no pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct DataReference {
    /// Fingerprint of the training split.
    pub split_fingerprint: String,
    /// Samples of the split that are held out for validation: see [`Subset::hold_out`].
    pub held_out: u64,
    /// Samples drawn from the others, 0 for all of them: see [`Subset::sample`].
    pub drawn: u64,
    /// Fingerprint of the samples that are left.
    pub samples_fingerprint: String,
    /// The random changes and the student's input. The seed is that of the probe: each batch names its own view.
    pub views: ViewSet,
}

/// The samples of one batch as positions in the training samples, and what they show. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleReferences {
    view: View,
    /// u32, little-endian.
    positions: Bytes,
}

const POSITION_SIZE: usize = size_of::<u32>();

impl DataReference {
    /// Refers to `train`, for which `held_out` samples of its split were held out and `drawn` were drawn from the others
    /// (0: all of them), under `augmentation` for a student with an input of the shape `input`.
    ///
    /// # Errors
    /// A sample that cannot be read.
    pub fn of(
        train: &Subset,
        held_out: usize,
        drawn: usize,
        augmentation: Augmentation,
        input: &[usize],
    ) -> Result<Self, SampleError> {
        Ok(Self {
            split_fingerprint: train.source_fingerprint().to_owned(),
            held_out: held_out as u64,
            drawn: drawn as u64,
            samples_fingerprint: train.fingerprint().to_owned(),
            views: ViewSet::of(train, augmentation, 0, input)?,
        })
    }

    /// The reference as in `Open`.
    pub fn to_wire(&self) -> wire::DataReference {
        wire::DataReference {
            split_fingerprint: self.split_fingerprint.clone(),
            held_out_samples: self.held_out,
            drawn_samples: self.drawn,
            samples_fingerprint: self.samples_fingerprint.clone(),
            // Holds: every key is a string.
            views: serde_json::to_string(&self.views).expect("a view set serializes"),
        }
    }

    /// Reads a reference. Checks its form only: the caller compares the fingerprints and the probe of the views.
    ///
    /// # Errors
    /// What is wrong with the set of views.
    pub fn from_wire(message: wire::DataReference) -> Result<Self, String> {
        let views: ViewSet = serde_json::from_str(&message.views)
            .map_err(|error| format!("the set of views cannot be read: {error}"))?;
        // A number that is read as another one would give other pixels.
        if serde_json::to_string(&views).ok().as_deref() != Some(&*message.views) {
            return Err("the set of views is not as this version writes it".to_owned());
        }
        Ok(Self {
            split_fingerprint: message.split_fingerprint,
            held_out: message.held_out_samples,
            drawn: message.drawn_samples,
            samples_fingerprint: message.samples_fingerprint,
            views,
        })
    }
}

impl SampleReferences {
    /// Refers to `samples`, positions in the training samples, in `view`; `None` for [`View::Plain`], which no run
    /// trains on.
    pub fn of(view: View, samples: impl IntoIterator<Item = u32>) -> Option<Self> {
        if view == View::Plain {
            return None;
        }
        let positions = samples.into_iter().flat_map(u32::to_le_bytes);
        Some(Self {
            view,
            positions: positions.collect::<Vec<u8>>().into(),
        })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.positions.len() / POSITION_SIZE
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the samples show.
    pub fn view(&self) -> View {
        self.view
    }

    /// Positions in the training samples.
    pub fn positions(&self) -> Vec<u32> {
        let (positions, _) = self.positions.as_chunks::<POSITION_SIZE>();
        positions.iter().copied().map(u32::from_le_bytes).collect()
    }

    /// These samples alone; shares the bytes.
    ///
    /// # Panics
    /// If there are fewer samples.
    pub fn slice(&self, samples: Range<usize>) -> Self {
        let bytes = samples.start * POSITION_SIZE..samples.end * POSITION_SIZE;
        Self {
            view: self.view,
            positions: self.positions.slice(bytes),
        }
    }

    /// The references as in a batch; shares the bytes.
    pub fn to_wire(&self) -> wire::SampleReferences {
        let view = match self.view {
            View::Plain => None,
            View::OfEpoch { seed, phase, epoch } => {
                Some(sample_references::View::EpochView(wire::EpochView {
                    seed,
                    phase,
                    epoch,
                }))
            }
            View::Fixed { seed, view } => {
                Some(sample_references::View::FixedView(wire::FixedView {
                    seed,
                    view,
                }))
            }
        };
        wire::SampleReferences {
            positions: self.positions.clone(),
            view,
        }
    }

    /// Reads the references of a batch to a data set of `samples`, without a copy.
    ///
    /// # Errors
    /// A view that this version does not know; no position, a part of one, or one outside the data set.
    pub fn from_wire(message: wire::SampleReferences, samples: usize) -> Result<Self, String> {
        let view = match message.view {
            Some(sample_references::View::EpochView(view)) => View::OfEpoch {
                seed: view.seed,
                phase: view.phase,
                epoch: view.epoch,
            },
            Some(sample_references::View::FixedView(view)) => View::Fixed {
                seed: view.seed,
                view: view.view,
            },
            None => return Err("the references name no view that this version knows".to_owned()),
        };
        let references = Self {
            view,
            positions: message.positions,
        };
        let bytes = references.positions.len();
        if bytes == 0 || !bytes.is_multiple_of(POSITION_SIZE) {
            return Err(format!(
                "{bytes} bytes of positions; send {POSITION_SIZE} for each sample, for 1 or more"
            ));
        }
        let mut positions = references.positions().into_iter();
        match positions.find(|position| *position as usize >= samples) {
            Some(position) => Err(format!(
                "position {position} is outside the data set of {samples} samples"
            )),
            None => Ok(references),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datasets::{InMemoryImages, Mixup};
    use proptest::{collection::vec, prelude::*};
    use prost::Message;
    use test_support::damage::{cases, foreign};

    use super::*;

    const VIEWS: [View; 2] = [
        View::OfEpoch {
            seed: 1,
            phase: 2,
            epoch: 3,
        },
        View::Fixed { seed: 4, view: 5 },
    ];

    fn train() -> Subset {
        let pixels = (0..40).collect();
        let labels = (0..10).map(|sample| Some(sample % 2)).collect();
        let names = vec!["a".to_owned(), "b".to_owned()];
        Subset::whole(Arc::new(InMemoryImages::new(
            [1, 2, 2],
            names,
            pixels,
            labels,
        )))
    }

    fn reference() -> DataReference {
        let samples = train().hold_out(2).unwrap().0.sample(4).unwrap();
        let augmentation = Augmentation {
            pad: 1,
            mixup: Some(Mixup { alpha: 0.1 }),
            ..Augmentation::default()
        };
        DataReference::of(&samples, 2, 4, augmentation, &[1, 2, 2]).unwrap()
    }

    #[test]
    fn a_reference_names_the_split_and_the_samples_and_round_trips() {
        let reference = reference();
        assert_eq!(reference.split_fingerprint, train().fingerprint());
        assert_ne!(reference.samples_fingerprint, reference.split_fingerprint);
        let read = DataReference::from_wire(reference.to_wire());
        assert_eq!(read, Ok(reference));
    }

    #[test]
    fn a_set_of_views_in_another_form_is_refused() {
        let views = reference().to_wire().views;
        for (views, named) in [
            (String::new(), "cannot be read"),
            (views.replace("\"pad\":1", "\"pad\":-1"), "cannot be read"),
            (
                views.replace("\"pad\":1", "\"pad\":1,\"new\":2"),
                "cannot be read",
            ),
            // The nearest f64 is 0.1.
            (
                views.replace("0.1", "0.1000000000000000001"),
                "not as this version writes it",
            ),
            (format!("{views} "), "not as this version writes it"),
        ] {
            let message = wire::DataReference {
                views,
                ..reference().to_wire()
            };
            let error = DataReference::from_wire(message).unwrap_err();
            assert!(error.contains(named), "{named} is not in: {error}");
        }
    }

    #[test]
    fn samples_are_sliced_and_plain_views_have_no_reference() {
        let references = SampleReferences::of(VIEWS[0], [7, 8, 9]).unwrap();
        assert_eq!((references.len(), references.is_empty()), (3, false));
        assert_eq!(references.slice(1..3).positions(), [8, 9]);
        assert_eq!(references.slice(1..3).view(), VIEWS[0]);
        assert_eq!(SampleReferences::of(View::Plain, [7]), None);
    }

    #[test]
    fn what_no_trainer_sends_is_refused() {
        let good = SampleReferences::of(VIEWS[1], [0, 9]).unwrap().to_wire();
        let read = |change: fn(&mut wire::SampleReferences), samples| {
            let mut message = good.clone();
            change(&mut message);
            SampleReferences::from_wire(message, samples)
        };
        assert!(read(|_| {}, 10).is_ok());
        for (found, named) in [
            (read(|_| {}, 9), "position 9 is outside"),
            (read(|message| message.view = None, 10), "no view"),
            (
                read(|message| message.positions = Bytes::new(), 10),
                "0 bytes",
            ),
            (
                read(|message| message.positions.truncate(7), 10),
                "7 bytes of positions",
            ),
        ] {
            let error = found.unwrap_err();
            assert!(error.contains(named), "{named} is not in: {error}");
        }
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn references_round_trip(positions in vec(0..50_u32, 1..40), view in 0..2_usize) {
            let references = SampleReferences::of(VIEWS[view], positions.iter().copied()).unwrap();
            let bytes = references.to_wire().encode_to_vec();
            let message = wire::SampleReferences::decode(&*bytes).unwrap();
            let read = SampleReferences::from_wire(message, 50);
            prop_assert_eq!(read.as_ref(), Ok(&references));
            prop_assert_eq!(references.positions(), positions);
        }

        #[test]
        fn of_foreign_bytes_only_positions_in_the_data_set_are_read(
            bytes in foreign(vec![
                SampleReferences::of(VIEWS[0], [1, 2, 3]).unwrap().to_wire().encode_to_vec(),
                reference().to_wire().encode_to_vec(),
            ]),
        ) {
            if let Ok(message) = wire::SampleReferences::decode(&*bytes)
                && let Ok(read) = SampleReferences::from_wire(message, 5)
            {
                prop_assert!(!read.is_empty());
                prop_assert!(read.positions().iter().all(|position| *position < 5));
            }
            if let Ok(message) = wire::DataReference::decode(&*bytes)
                && let Ok(read) = DataReference::from_wire(message.clone())
            {
                prop_assert_eq!(read.to_wire(), message);
            }
        }
    }
}
