//! A model to evaluate, in libtorch or ONNX Runtime.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use artifacts::manifest::{ArtifactManifest, Preprocessing};
use common::digest::Sha256;
use datasets::{Normalization, Source, Values, read_plain};
use networks::NetworkSpec;
use onnx_runtime::{Session, SessionOptions};
use torch_networks::Device;

use super::{EvaluateError, LatencyMicroseconds, NamedPath};
use crate::{
    classification::for_each_batch,
    engine::{self, TorchNetwork},
    run::{ModelFolder, ModelFolderError},
};

/// Number of images before latency is measured, and while it is.
const WARM_UP: usize = 20;
const MEASURED: usize = 200;

pub(super) struct EvaluatedModel {
    pub(super) name: String,
    pub(super) spec: NetworkSpec,
    pub(super) class_names: Vec<String>,
    /// Size of the weights or of the ONNX file.
    pub(super) bytes: u64,
    /// Applied before the runner. An exported model of rows contains its own, and this one changes nothing.
    normalization: Normalization,
    runner: Runner,
}

enum Runner {
    Torch(TorchNetwork),
    Onnx(Session),
}

impl EvaluatedModel {
    /// Loads a model in libtorch.
    pub(super) fn load_folder(named: &NamedPath) -> Result<Self, EvaluateError> {
        let folder = ModelFolder::find(&named.path);
        let (model, weights) = folder.read()?;
        let file = folder.weights();
        let bytes = match fs::metadata(&file) {
            Ok(metadata) => metadata.len(),
            Err(error) => return Err(ModelFolderError::Io { file, error }.into()),
        };
        let network = TorchNetwork::new(&model.network, &weights, Device::Cpu)?;
        Ok(Self {
            name: named.name.clone(),
            spec: model.network,
            class_names: model.class_names,
            bytes,
            normalization: Normalization {
                mean: model.normalization_mean,
                std: model.normalization_std,
            },
            runner: Runner::Torch(network),
        })
    }

    /// Loads a model in ONNX Runtime.
    pub(super) fn load_onnx(named: &NamedPath) -> Result<Self, EvaluateError> {
        let onnx = read(&named.path)?;
        let manifest_file = named.path.with_file_name("manifest.json");
        let refused = |reason: String| EvaluateError::Onnx {
            file: manifest_file.clone(),
            reason,
        };
        let manifest = ArtifactManifest::from_json(&read(&manifest_file)?)
            .map_err(|error| refused(error.to_string()))?;
        if Sha256::of(&onnx) != manifest.onnx.sha256 {
            let file = named.path.display();
            return Err(refused(format!("it belongs to another file than {file}")));
        }
        let spec: NetworkSpec = serde_json::from_value(manifest.network)
            .map_err(|error| refused(format!("network: {error}")))?;
        let session = Session::load(&onnx, SessionOptions::default())?;
        let normalization = match manifest.preprocessing {
            Some(Preprocessing { mean, std, .. }) => Normalization { mean, std },
            None => Normalization::identity(spec.input.channels()),
        };
        Ok(Self {
            name: named.name.clone(),
            spec,
            class_names: manifest.class_names,
            bytes: onnx.len() as u64,
            normalization,
            runner: Runner::Onnx(session),
        })
    }

    /// Passes the logits of every sample to `receive`, batch by batch, row-major [samples, classes].
    pub(super) fn logits(
        &mut self,
        source: &dyn Source,
        mut receive: impl FnMut(&[f32]),
    ) -> Result<(), EvaluateError> {
        let shape = self.spec.input.dimensions();
        for_each_batch(source, &shape, |values, _| {
            receive(&self.run(values)?);
            Ok(())
        })
    }

    /// Median time of one sample on one thread, including normalization.
    pub(super) fn latency(
        &mut self,
        source: &dyn Source,
    ) -> Result<LatencyMicroseconds, EvaluateError> {
        let shape = self.spec.input.dimensions();
        engine::set_threads(1);
        let mut times = Vec::new();
        for index in 0..WARM_UP + MEASURED {
            let sample = (index % source.len()) as u32;
            let values = read_plain(source, &[sample], &shape)?;
            let started = Instant::now();
            self.run(&values)?;
            if index >= WARM_UP {
                times.push(started.elapsed().as_secs_f64() * 1e6);
            }
        }
        engine::set_threads(0);
        times.sort_by(f64::total_cmp);
        Ok(LatencyMicroseconds {
            p50: times[times.len() / 2],
        })
    }

    fn run(&mut self, values: &Values) -> Result<Vec<f32>, EvaluateError> {
        let shape = self.spec.input;
        match &mut self.runner {
            Runner::Torch(network) => {
                Ok(engine::logits(network, values, shape, &self.normalization)?)
            }
            Runner::Onnx(session) => {
                let mut input = Vec::new();
                let dimensions = shape.dimensions();
                self.normalization.apply_to(values, &dimensions, &mut input);
                let batch = values.len() / shape.elements();
                Ok(session.run(&input, batch)?)
            }
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, EvaluateError> {
    fs::read(file).map_err(|error| EvaluateError::Onnx {
        file: PathBuf::from(file),
        reason: error.to_string(),
    })
}
