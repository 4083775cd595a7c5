//! The images of a run.

use datasets::{Dataset, Split, load_idx};

use super::RunError;
use crate::config::{DataFormat, RunConfig};

/// The training split, without and with what is held out of it. The test split is not read.
pub(crate) struct TrainingData {
    pub(crate) train: Dataset,
    pub(crate) validation: Option<Dataset>,
    /// Of the whole training split, or of the sample that the run trains on in its place
    /// (`data.train_samples`).
    pub(crate) fingerprint: String,
}

impl TrainingData {
    /// Loads the images and checks that they fit the network.
    pub(crate) fn load(config: &RunConfig) -> Result<Self, RunError> {
        let data = &config.data;
        let whole = match data.format {
            DataFormat::Idx => load_idx(&data.path, Split::Train, &data.class_names)?,
        };
        check_fit(config, &whole)?;
        let whole_fingerprint = whole.fingerprint();
        let (rest, validation) = match data.validation_samples {
            0 => (whole, None),
            count => {
                let (rest, held_out) = whole.hold_out(count)?;
                (rest, Some(held_out))
            }
        };
        let (train, fingerprint) = match data.train_samples {
            0 => (rest, whole_fingerprint),
            count => {
                let sample = rest.sample(count)?;
                // Not of the whole: a version that draws another sample must not go on from this one's.
                let fingerprint = sample.fingerprint();
                (sample, fingerprint)
            }
        };
        Ok(Self {
            train,
            validation,
            fingerprint,
        })
    }
}

fn check_fit(config: &RunConfig, data: &Dataset) -> Result<(), RunError> {
    let network = &config.network;
    let normalization = &config.data.normalization;
    let mismatch = |key, configured: String, data: String| {
        Err(RunError::DataMismatch {
            key,
            configured,
            data,
            path: config.data.path.clone(),
        })
    };
    if network.input != data.shape() {
        let shape = format!("shape {:?}", data.shape());
        return mismatch("network.input", format!("{:?}", network.input), shape);
    }
    if network.classes != data.classes() {
        let classes = format!("{} classes (data.class_names)", data.classes());
        return mismatch("network.classes", network.classes.to_string(), classes);
    }
    let [channels, _, _] = data.shape();
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
