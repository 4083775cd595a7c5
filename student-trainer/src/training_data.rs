//! The samples of a run.

use std::path::PathBuf;

use datasets::{DatasetError, Normalization, SampleKind, Source, Subset, UnreadableFile};

use crate::{
    config::{LossConfig, PhaseConfig, PositionRange, RunConfig},
    events::NoticeSender,
};

/// The training split, divided into training and validation samples. The test split is not used.
pub(crate) struct TrainingData {
    pub(crate) train: Subset,
    /// The samples of `train` that have a label.
    pub(crate) labelled: Subset,
    pub(crate) validation: Option<Subset>,
    /// Of images, as configured; of rows, by mean and standard deviation of `train`, so that a run that resumes
    /// computes the same.
    pub(crate) normalization: Normalization,
    /// Fingerprint of the whole training split, or of the sample that the run trains on instead
    /// (`data.train_samples`).
    pub(crate) fingerprint: String,
    /// Files that cannot be read and are left out.
    pub(crate) unreadable: Vec<UnreadableFile>,
}

/// Why a run's samples cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The data set cannot be read; the text names the file.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The samples do not fit the configuration.
    #[error("{key} = {configured}, but the data in {} has {data}", path.display())]
    Mismatch {
        /// Key of the configuration.
        key: &'static str,
        /// Its value.
        configured: String,
        /// What the data has instead.
        data: String,
        /// Folder or file of the data.
        path: PathBuf,
    },
    /// A route sends samples to a teacher that the data set does not have.
    #[error(
        "{key} = {range}, but the data in {} has {samples} samples, at positions from 0", path.display()
    )]
    MissingPositions {
        /// Key of the configuration.
        key: String,
        /// Its range.
        range: PositionRange,
        /// Samples of the training split as stored.
        samples: usize,
        /// Folder or file of the data.
        path: PathBuf,
    },
    /// A term of a loss needs labels that the data does not have.
    #[error(
        "{term} trains on hard labels, but {labelled} of the {samples} training samples in {} have one; {remedy}",
        path.display()
    )]
    Unlabelled {
        /// Key and kind of the term.
        term: String,
        /// Labelled training samples.
        labelled: usize,
        /// All training samples.
        samples: usize,
        /// Folder or file of the data.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// A phase stops early, and nothing measures when.
    #[error(
        "phases[{phase}].early_stopping needs labelled validation samples, but the data in {} has none; set \
         data.validation_samples, or remove early_stopping",
        path.display()
    )]
    NoValidation {
        /// Position of the phase.
        phase: usize,
        /// Folder or file of the data.
        path: PathBuf,
    },
}

impl TrainingData {
    /// Opens the data and checks that it fits the network and the phases.
    pub(crate) fn load(config: &RunConfig) -> Result<Self, DataError> {
        let data = &config.data;
        let opened = datasets::open(&data.spec(), &|_| {})?;
        let whole = Subset::whole(opened.train);
        check_fit(config, &whole)?;
        check_routes(config, whole.stored_len())?;
        let whole_fingerprint = whole.fingerprint().to_owned();
        let (remaining, validation) = match data.validation_samples {
            0 => (whole, opened.validation.map(Subset::whole)),
            count => {
                let (remaining, held_out) = whole.hold_out(count)?;
                (remaining, Some(held_out))
            }
        };
        let (train, fingerprint) = match data.train_samples {
            0 => (remaining, whole_fingerprint),
            count => {
                let sample = remaining.sample(count)?;
                // The fingerprint of the sample: a version that draws another sample must not resume from
                // its checkpoints.
                let fingerprint = sample.fingerprint().to_owned();
                (sample, fingerprint)
            }
        };
        let normalization = match train.kind() {
            SampleKind::Image { .. } => data.normalization.clone(),
            SampleKind::Row { .. } => Normalization::of_rows(&train).map_err(DatasetError::from)?,
        };
        let loaded = Self {
            normalization,
            labelled: train.labelled(),
            train,
            validation,
            fingerprint,
            unreadable: opened.unreadable,
        };
        loaded.check_labels(config)?;
        loaded.check_validation(config)?;
        Ok(loaded)
    }

    /// The samples that a phase with `loss` trains on.
    pub(crate) fn of_loss(&self, loss: &LossConfig) -> &Subset {
        if loss.needs_labels() {
            &self.labelled
        } else {
            &self.train
        }
    }

    /// Names the first files that are left out.
    pub(crate) fn report_unreadable(&self, notices: &NoticeSender) {
        const NAMED: usize = 5;
        for file in self.unreadable.iter().take(NAMED) {
            notices.notice(format!("left out: {file}"));
        }
        if self.unreadable.len() > NAMED {
            let more = self.unreadable.len() - NAMED;
            notices.notice(format!("left out: {more} more files"));
        }
    }

    fn check_labels(&self, config: &RunConfig) -> Result<(), DataError> {
        let (labelled, samples) = (self.labelled.len(), self.train.len());
        for (phase, PhaseConfig { loss, .. }) in config.phases.iter().enumerate() {
            let mut terms = loss.named_terms(phase);
            let Some(term) = terms.find(|term| term.term.needs().labels) else {
                continue;
            };
            let remedy = if labelled == samples {
                continue;
            } else if labelled == 0 {
                "use terms of soft targets only (soft_cross_entropy), or label the data"
            } else if loss.needs_soft_targets() {
                // Soft targets belong to all samples, and hard labels only to some.
                "use terms of soft targets only, and cross_entropy in a phase of its own"
            } else {
                continue;
            };
            return Err(DataError::Unlabelled {
                term: term.to_string(),
                labelled,
                samples,
                path: config.data.path.clone(),
                remedy,
            });
        }
        Ok(())
    }

    fn check_validation(&self, config: &RunConfig) -> Result<(), DataError> {
        let validation = self.validation.as_ref();
        if validation.is_some_and(|samples| !samples.labelled().is_empty()) {
            return Ok(());
        }
        let mut phases = config.phases.iter();
        match phases.position(|phase| phase.early_stopping.is_some()) {
            None => Ok(()),
            Some(phase) => Err(DataError::NoValidation {
                phase,
                path: config.data.path.clone(),
            }),
        }
    }
}

/// Checks that data of `samples` samples as stored has the positions that routes name.
fn check_routes(config: &RunConfig, samples: usize) -> Result<(), DataError> {
    for (name, route) in &config.routes {
        let mut ranges = route.ranges();
        if let Some((teacher, range)) = ranges.find(|(_, range)| !range.lies_within(samples)) {
            return Err(DataError::MissingPositions {
                key: format!("routes.{name}.teachers.{teacher}"),
                range,
                samples,
                path: config.data.path.clone(),
            });
        }
    }
    Ok(())
}

fn check_fit(config: &RunConfig, data: &Subset) -> Result<(), DataError> {
    let network = &config.network;
    let normalization = &config.data.normalization;
    let mismatch = |key, configured: String, data: String| {
        Err(DataError::Mismatch {
            key,
            configured,
            data,
            path: config.data.path.clone(),
        })
    };
    let kind = data.kind();
    if !datasets::fits(kind, &network.input.dimensions()) {
        let found = kind.tensor("samples").to_string();
        return mismatch("network.input", network.input.to_string(), found);
    }
    let classes = data.class_names().len();
    if network.classes != classes {
        let classes = format!("{classes} classes (data.class_names)");
        return mismatch("network.classes", network.classes.to_string(), classes);
    }
    if matches!(kind, SampleKind::Row { .. }) {
        return Ok(());
    }
    let channels = network.input.channels();
    for (key, values) in [
        ("data.normalization.mean", &normalization.mean),
        ("data.normalization.std", &normalization.std),
    ] {
        if values.len() != channels {
            return mismatch(key, format!("{values:?}"), format!("{channels} channels"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use datasets::Sample;
    use test_support::run_toml::{PhaseToml, RunToml};

    use super::*;

    /// 20 images of one pixel, of two classes, sorted by class.
    fn load(settings: &str) -> TrainingData {
        load_with(settings, "{ kind = \"cross_entropy\" }").unwrap()
    }

    fn load_with(settings: &str, loss: &str) -> Result<TrainingData, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, header: &[u8], values: Vec<u8>| {
            fs::write(folder.path().join(name), [header, &values].concat()).unwrap();
        };
        let images = [0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 1];
        file("train-images-idx3-ubyte", &images, (0..20).collect());
        let labels = (0..20).map(|image| u8::from(image >= 10)).collect();
        file(
            "train-labels-idx1-ubyte",
            &[0, 0, 8, 1, 0, 0, 0, 20],
            labels,
        );
        let toml = RunToml {
            network: "input = [1, 1, 1]\nclasses = 2\npreset = \"mlp\"\nwidths = [8]",
            phases: &[PhaseToml {
                loss,
                ..PhaseToml::default()
            }],
            tables: &format!(
                "[data]\npath = {:?}\nclass_names = [\"a\", \"b\"]\n{settings}\n\
                 [data.augmentation]\npad = 0",
                folder.path()
            ),
            ..RunToml::default()
        };
        TrainingData::load(&RunConfig::from_toml(&toml.to_string()).unwrap())
    }

    #[test]
    fn positions_that_the_stored_data_does_not_have_are_refused_with_their_key() {
        let load = |range: &str| {
            let settings = format!(
                "validation_samples = 4\ntrain_samples = 8\n\
                 [teachers.big]\nendpoints = [\"b:1\"]\n[teachers.wide]\nendpoints = [\"w:1\"]\n\
                 [routes.r]\nby = \"position\"\ndefault = \"wide\"\nteachers = {{ big = [{range:?}] }}"
            );
            let loss = "[{ kind = \"soft_cross_entropy\", temperature = 1, teacher = \"r\" }]";
            load_with(&settings, loss)
        };
        // Of the 20 stored samples, the run trains on 8.
        for range in ["0..20", "19..", "4..8"] {
            let data = load(range).unwrap();
            assert_eq!(data.train.stored_len(), 20);
            let Sample::Image(picture) = data.train.read(7).unwrap() else {
                panic!("not an image");
            };
            let number = u32::from(picture.pixels[0]);
            assert_eq!(data.train.stored_position(7), number);
        }
        for range in ["0..21", "20..", "30..40"] {
            let said = load(range).err().unwrap().to_string();
            let parts = [
                format!("routes.r.teachers.big = {range}, but the data in "),
                "has 20 samples".to_owned(),
            ];
            for part in parts {
                assert!(said.contains(&part), "{part} is not in: {said}");
            }
        }
    }

    #[test]
    fn samples_without_labels_are_refused_with_the_key_of_the_term_that_needs_them() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..20_u8 {
            let class = if number % 2 == 0 { "a" } else { "b" };
            for place in ["unlabelled".to_owned(), format!("labelled/{class}")] {
                let place = folder.path().join(place);
                fs::create_dir_all(&place).unwrap();
                let picture = image::GrayImage::from_pixel(8, 8, image::Luma([number]));
                picture.save(place.join(format!("{number}.png"))).unwrap();
            }
        }
        let load = |loss: &str, pictures: &str| {
            let pictures = folder.path().join(pictures);
            let toml = RunToml {
                network: "input = [1, 8, 8]\nclasses = 2\npreset = \"mlp\"\nwidths = [8]",
                phases: &[PhaseToml {
                    loss,
                    ..PhaseToml::default()
                }],
                tables: &format!(
                    "[data]\nformat = \"image-folder\"\npath = {pictures:?}\nclass_names = [\"a\", \"b\"]\n\
                     [teacher]\nendpoints = [\"t:1\"]"
                ),
                ..RunToml::default()
            };
            TrainingData::load(&RunConfig::from_toml(&toml.to_string()).unwrap())
        };
        let soft = "{ kind = \"wttm\", gamma = 0.5 }";
        for (loss, named) in [
            (
                format!("[{soft}, {{ kind = \"dkd\", temperature = 4 }}]"),
                "phases[0].loss[1] (dkd)",
            ),
            (
                "{ kind = \"kd\", temperature = 4, alpha = 0.9 }".to_owned(),
                "phases[0].loss (cross_entropy)",
            ),
        ] {
            let said = load(&loss, "unlabelled").err().unwrap().to_string();
            let part = format!("{named} trains on hard labels, but 0 of the ");
            assert!(said.contains(&part), "{part} is not in: {said}");
            assert!(load(&loss, "labelled").is_ok(), "{loss}");
        }
        assert!(load(&format!("[{soft}]"), "unlabelled").is_ok());
    }

    #[test]
    fn a_part_of_data_that_is_sorted_by_class_has_all_classes_and_another_fingerprint() {
        let whole = load("");
        assert_eq!(whole.fingerprint, whole.train.fingerprint());
        let part = load("train_samples = 8");
        let labels: Vec<_> = (0..8).filter_map(|it| part.train.label(it)).collect();
        assert_eq!(
            (part.train.len(), labels),
            (8, vec![0, 0, 0, 0, 1, 1, 1, 1])
        );
        assert_ne!(part.fingerprint, whole.fingerprint);

        let held_out = load("train_samples = 8\nvalidation_samples = 4");
        let validation = held_out.validation.unwrap();
        let pixel = |data: &Subset, sample| match data.read(sample).unwrap() {
            Sample::Image(picture) => picture.pixels[0],
            Sample::Row(_) => panic!("not an image"),
        };
        let pixels: Vec<_> = (0..8).map(|it| pixel(&held_out.train, it)).collect();
        assert!((0..4).all(|it| !pixels.contains(&pixel(&validation, it))));
        assert_ne!(held_out.fingerprint, part.fingerprint);
    }
}
