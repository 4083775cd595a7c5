//! An ONNX file of any framework, in ONNX Runtime.

use std::{fs::File, io, path::Path};

use common::{
    cores,
    digest::{RollingSha256, Sha256},
};
use onnx_runtime::{OnnxModel, OnnxOptions, Values};
use tensors::Signature;
use tracing::{info, warn};

use super::{BackendError, Classifier, LoadError};
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
        let mut digest = RollingSha256::default();
        for file in model.files() {
            hash_file(file, &mut digest).map_err(|source| LoadError::Unreadable {
                path: file.clone(),
                source,
            })?;
        }
        Ok(Self {
            digest: digest.finish(),
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

/// Appends the length and the bytes of a file.
fn hash_file(path: &Path, digest: &mut RollingSha256) -> io::Result<()> {
    let mut file = File::open(path)?;
    digest.update(&file.metadata()?.len().to_le_bytes());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(()),
            read => digest.update(&buffer[..read]),
        }
    }
}
