//! An ONNX file of any framework, in ONNX Runtime.

use std::path::{Path, PathBuf};

use common::{cores, digest::Sha256};
use onnx_runtime::{OnnxModel, OnnxOptions, Values};
use tensors::Signature;
use tracing::{info, warn};

use super::{BackendError, Classifier, LoadError, ModelFacts, file_digest::file_digest};
use crate::{batch::Input, config::ComputeConfig};

/// A model from an ONNX file and the files with external data beside it.
pub struct OnnxFile {
    model: OnnxModel,
    digest: Sha256,
}

impl OnnxFile {
    /// Loads the model in the file `path`.
    ///
    /// # Errors
    /// [`LoadError::Onnx`], [`LoadError::Unreadable`].
    pub fn open(path: &Path, config: &ComputeConfig) -> Result<Self, LoadError> {
        let options = OnnxOptions {
            threads: cores::threads(config.threads),
            device: config.device,
        };
        let model = OnnxModel::open(path, options)?;
        let summary = model.summary();
        info!(
            producer = summary.producer,
            opsets = ?summary.opsets,
            parameters = summary.parameters,
            operators = ?summary.operators,
            "ONNX model"
        );
        for output in model.other_outputs() {
            warn!(
                output,
                "is no tensor and cannot be used; scikit-learn's probabilities are one if exported with \
                 options={{\"zipmap\": False}}"
            );
        }
        Ok(Self {
            digest: file_digest(model.files().iter().map(PathBuf::as_path))?,
            model,
        })
    }
}

impl Classifier for OnnxFile {
    fn signature(&self) -> &Signature {
        self.model.signature()
    }

    fn digest(&self, _probe: &[f32]) -> Sha256 {
        self.digest.clone()
    }

    fn numerics(&self) -> String {
        self.model.numerics()
    }

    fn facts(&self) -> ModelFacts {
        ModelFacts {
            unusable_outputs: self.model.other_outputs().to_vec(),
            ..ModelFacts::from(self.model.summary())
        }
    }

    fn run(
        &mut self,
        output: &str,
        input: &Input,
        sample: &[usize],
        samples: usize,
    ) -> Result<Vec<f32>, BackendError> {
        let values = match input {
            Input::U8(bytes) => Values::U8(bytes),
            Input::F32(values) => Values::F32(values),
        };
        let run = self.model.run(output, values, sample, samples);
        run.map_err(|error| BackendError(error.to_string()))
    }
}
