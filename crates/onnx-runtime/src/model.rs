//! The file of a trusted ONNX model of any framework.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use common::compute::DeviceChoice;
use half::f16;
use ort::{
    session::{HasSelectedOutputs, OutputSelector, RunOptions},
    value::{DynValue, Outlet, TensorElementType},
};
use tensors::{DataType, Dimension, Dimensions, Signature, TensorSpec};

use crate::{
    data_files::{self, DataFileError},
    device::{self, Device, DeviceUnavailable},
    library::{self, LibraryError},
    summary::ModelSummary,
    values::{TensorError, Values, ValuesError},
    wire::Malformed,
};

/// A model from a file that its user trusts, for example a teacher. Unlike models that are published to
/// a service, it may use every operator of ONNX Runtime and have any interface.
#[derive(Debug)]
pub struct OnnxModel {
    session: ort::session::Session,
    signature: Signature,
    other_outputs: Vec<String>,
    summary: ModelSummary,
    files: Vec<PathBuf>,
    device: Device,
}

/// How a model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnnxOptions {
    /// Threads that share the work within one operator, 1 or more; with 1, the caller's thread computes.
    pub threads: usize,
    /// Where the model computes.
    pub device: DeviceChoice,
}

/// Why a model cannot be opened or run.
#[derive(Debug, thiserror::Error)]
pub enum OnnxModelError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no ONNX model.
    #[error("{}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Malformed,
    },
    /// A file with weights cannot be used.
    #[error("{}: {source}", path.display())]
    DataFile {
        /// The model's file.
        path: PathBuf,
        /// Why.
        source: DataFileError,
    },
    /// ONNX Runtime itself is not available.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The configured device is not there.
    #[error(transparent)]
    Device(#[from] DeviceUnavailable),
    /// ONNX Runtime rejects the model.
    #[error("{}: ONNX Runtime cannot load the model: {reason}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An input or output has a type that no tensor has.
    #[error("{}: input `{name}` is {found}; only tensors are supported", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// The input.
        name: String,
        /// Its type.
        found: String,
    },
    /// The values do not have the model's type or shape.
    #[error(transparent)]
    Values(#[from] ValuesError),
    /// Another number of values than the model takes.
    #[error("{found} values for {samples} samples of shape {sample:?}; the model takes {input}")]
    Shape {
        /// Number of values.
        found: usize,
        /// Number of samples.
        samples: usize,
        /// Shape of one sample.
        sample: Vec<usize>,
        /// What the model takes.
        input: String,
    },
    /// The run failed.
    #[error("ONNX Runtime cannot run the model: {0}")]
    Run(String),
}

impl OnnxModel {
    /// Loads the model in the file `path`, and the files with external data that it names.
    ///
    /// # Errors
    /// See [`OnnxModelError`].
    pub fn open(path: &Path, options: OnnxOptions) -> Result<Self, OnnxModelError> {
        let own = || path.to_owned();
        let onnx = fs::read(path).map_err(|source| OnnxModelError::Unreadable {
            path: own(),
            source,
        })?;
        let summary = ModelSummary::read(&onnx).map_err(|source| OnnxModelError::Malformed {
            path: own(),
            source,
        })?;
        drop(onnx);
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let data_files = data_files::resolve(folder, &summary.data_files);
        let data_files = data_files.map_err(|source| OnnxModelError::DataFile {
            path: own(),
            source,
        })?;
        let (session, device) = load(path, options)?;
        let signature = Signature {
            inputs: session
                .inputs()
                .iter()
                .map(|input| read_input(path, input))
                .collect::<Result<_, _>>()?,
            outputs: session.outputs().iter().filter_map(describe).collect(),
        };
        let others = session.outputs().iter();
        let others = others.filter(|output| describe(output).is_none());
        Ok(Self {
            other_outputs: others
                .map(|output| format!("`{}` {}", output.name(), output.dtype()))
                .collect(),
            signature,
            session,
            summary,
            files: std::iter::once(own()).chain(data_files).collect(),
            device,
        })
    }

    /// The inputs and outputs that are tensors. A first dimension without a fixed size is the batch.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Outputs that are no tensors, for people: name and type. Such outputs cannot be used.
    pub fn other_outputs(&self) -> &[String] {
        &self.other_outputs
    }

    /// What the file says about itself.
    pub fn summary(&self) -> &ModelSummary {
        &self.summary
    }

    /// The file of the model, then the files with its external data in the order of their names.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What besides the model affects the bits of its outputs: device, instruction set, version.
    pub fn numerics(&self) -> String {
        device::describe(self.device)
    }

    /// Computes `output` for a batch of `samples`, each of shape `sample`; returns the batch's values as
    /// f32, row-major. The model must have one input; `values` are converted to its type.
    ///
    /// If the model has a fixed batch size, the samples go through in chunks of that size, and the last
    /// chunk is filled up with copies of its first sample.
    ///
    /// # Errors
    /// [`OnnxModelError::Shape`], [`OnnxModelError::Values`] or [`OnnxModelError::Run`].
    pub fn run(
        &mut self,
        output: &str,
        values: Values<'_>,
        sample: &[usize],
        samples: usize,
    ) -> Result<Vec<f32>, OnnxModelError> {
        let shape_error = |input: String| OnnxModelError::Shape {
            found: values.len(),
            samples,
            sample: sample.to_vec(),
            input,
        };
        let [input] = &self.signature.inputs[..] else {
            return Err(shape_error(format!(
                "{} inputs",
                self.signature.inputs.len()
            )));
        };
        let sample_values = sample.iter().product::<usize>();
        let fits = samples > 0
            && values.len() == samples.saturating_mul(sample_values)
            && input.dimensions.rank() == sample.len() + 1;
        if !fits {
            return Err(shape_error(input.to_string()));
        }
        let data_type = input.data_type;
        let chunk = match input.dimensions.0[0] {
            Dimension::Fixed(size) => size,
            Dimension::Batch | Dimension::Open => samples,
        };
        let options = select(output)?;
        let shape: Vec<_> = [chunk].into_iter().chain(sample.iter().copied()).collect();
        let mut rows = Vec::new();
        for first in (0..samples).step_by(chunk) {
            let taken = chunk.min(samples - first);
            let range = first * sample_values..(first + taken) * sample_values;
            let found = if taken == chunk {
                self.compute(&options, output, values.slice(range), data_type, &shape)?
            } else {
                let filled = values.slice(range).filled(sample_values, chunk);
                self.compute(&options, output, filled.as_values(), data_type, &shape)?
            };
            if found.len() % chunk != 0 {
                let count = found.len();
                return Err(OnnxModelError::Run(format!(
                    "`{output}` has {count} values for a batch of {chunk}"
                )));
            }
            rows.extend_from_slice(&found[..found.len() / chunk * taken]);
        }
        Ok(rows)
    }

    fn compute(
        &mut self,
        options: &RunOptions<HasSelectedOutputs>,
        output: &str,
        values: Values<'_>,
        data_type: DataType,
        shape: &[usize],
    ) -> Result<Vec<f32>, OnnxModelError> {
        let tensor = values.to_tensor(data_type, shape)?;
        let outputs = self.session.run_with_options([tensor], options)?;
        let found = outputs
            .get(output)
            .ok_or_else(|| OnnxModelError::Run(format!("it has no output `{output}`")))?;
        Ok(floats(found)?)
    }
}

impl From<TensorError> for OnnxModelError {
    fn from(error: TensorError) -> Self {
        match error {
            TensorError::Values(error) => Self::Values(error),
            TensorError::Runtime(error) => error.into(),
        }
    }
}

impl From<ort::Error> for OnnxModelError {
    /// For runs; an error while a model is loaded names the file.
    fn from(error: ort::Error) -> Self {
        Self::Run(error.message().to_owned())
    }
}

fn load(
    path: &Path,
    options: OnnxOptions,
) -> Result<(ort::session::Session, Device), OnnxModelError> {
    let environment = library::environment()?;
    let refused = |reason: &str| OnnxModelError::Load {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let builder = configure(environment, options.threads);
    let builder = builder.map_err(|error| refused(error.message()))?;
    let (mut builder, device) = device::place(builder, options.device)?;
    let session = builder.commit_from_file(path);
    Ok((session.map_err(|error| refused(error.message()))?, device))
}

fn configure(
    environment: &ort::environment::Environment,
    threads: usize,
) -> ort::Result<ort::session::builder::SessionBuilder> {
    Ok(ort::session::Session::builder(environment)?
        .with_intra_threads(threads)?
        // Spinning threads would keep whole cores of an idle service busy.
        .with_intra_op_spinning(false)?
        // Batches have any size, and ONNX Runtime would keep one pattern per size.
        .with_memory_pattern(false)?
        .with_deterministic_compute(true)?)
}

/// Computes only `output`: a classifier's labels may be of a type that costs time, as strings.
fn select(output: &str) -> ort::Result<RunOptions<HasSelectedOutputs>> {
    Ok(RunOptions::new()?.with_outputs(OutputSelector::no_default().with(output)))
}

fn floats(value: &DynValue) -> ort::Result<Vec<f32>> {
    Ok(match value.dtype().tensor_type() {
        Some(TensorElementType::Float16) => {
            let (_, values) = value.try_extract_tensor::<f16>()?;
            values.iter().map(|value| value.to_f32()).collect()
        }
        Some(TensorElementType::Float64) => {
            let (_, values) = value.try_extract_tensor::<f64>()?;
            values.iter().map(|value| *value as f32).collect()
        }
        _ => value.try_extract_tensor::<f32>()?.1.to_vec(),
    })
}

fn read_input(path: &Path, input: &Outlet) -> Result<TensorSpec, OnnxModelError> {
    describe(input).ok_or_else(|| OnnxModelError::Input {
        path: path.to_owned(),
        name: input.name().to_owned(),
        found: input.dtype().to_string(),
    })
}

/// `None` if it is no tensor, or its type has no name in the Open Inference Protocol.
fn describe(outlet: &Outlet) -> Option<TensorSpec> {
    let data_type = match outlet.dtype().tensor_type()? {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Bfloat16 => DataType::Bf16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    };
    let shape = outlet.dtype().tensor_shape()?.iter();
    let dimension = |(position, size): (usize, &i64)| match usize::try_from(*size) {
        Ok(size) if size > 0 => Dimension::Fixed(size),
        _ if position == 0 => Dimension::Batch,
        _ => Dimension::Open,
    };
    Some(TensorSpec {
        name: outlet.name().to_owned(),
        data_type,
        dimensions: Dimensions(shape.enumerate().map(dimension).collect()),
    })
}
