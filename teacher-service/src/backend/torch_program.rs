//! A program that PyTorch exported, in libtorch.

use std::path::{Path, PathBuf};

use common::{cores, digest::Sha256};
use tensors::{DataType, Dimension, Dimensions, Signature, TensorSpec};
use torch_networks::{Device, DeviceUnavailable, describe_device, resolve_device};
use torch_programs::{Kind, Program, ProgramError, Tensor};
use tracing::info;

use super::{BackendError, Classifier, LoadError, ModelFacts, file_digest::file_digest};
use crate::{batch::Input, config::ComputeConfig};

/// The names of input and output of a TorchScript program, whose file does not name them.
const INPUT: &str = "input";
const OUTPUT: &str = "output";

/// A file of `torch.export.save` (`.pt2`), or of `torch.jit.save` (TorchScript).
pub struct TorchProgram {
    program: Program,
    /// The type of the input.
    kind: Kind,
    signature: Signature,
    digest: Sha256,
    device: Device,
}

/// Why a program cannot be used; the text names the file or the key.
#[derive(Debug, thiserror::Error)]
pub enum TorchProgramError {
    /// The file is no program that libtorch can run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The configured device is not there.
    #[error("compute.device: {0}")]
    Device(#[from] DeviceUnavailable),
    /// An input or output has a type that teachers do not have.
    #[error("{}: `{tensor}` has the type {kind:?}, which a teacher cannot use; export a model with f32 tensors", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The input or output.
        tensor: String,
        /// Its type in libtorch.
        kind: Kind,
    },
}

impl TorchProgram {
    /// Loads the program in the file `path`. Sets libtorch's thread count for the calling thread.
    ///
    /// # Errors
    /// [`LoadError::TorchProgram`], [`LoadError::Unreadable`].
    pub fn open(path: &Path, config: &ComputeConfig) -> Result<Self, LoadError> {
        let device = resolve_device(config.device).map_err(TorchProgramError::Device)?;
        torch_networks::set_threads(cores::threads(config.threads));
        let program = Program::open(path, device).map_err(TorchProgramError::Program)?;
        let kind = match program.inputs() {
            Some([input, ..]) => input.kind,
            _ => Kind::Float,
        };
        info!(parameters = program.parameters(), "program of PyTorch");
        Ok(Self {
            kind,
            signature: signature(path, &program)?,
            digest: file_digest([path])?,
            program,
            device,
        })
    }

    fn compute(
        &self,
        output: usize,
        input: &Input,
        shape: &[i64],
    ) -> Result<Vec<f32>, ProgramError> {
        let values = match input {
            Input::U8(bytes) => Tensor::f_from_slice(bytes)?,
            Input::F32(values) => Tensor::f_from_slice(values)?,
        };
        let converted = values.f_to_kind(self.kind)?;
        let is_exact = |kind| {
            matches!(
                kind,
                Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16
            )
        };
        // Integers: the values must be whole, and in the type's range.
        if !is_exact(self.kind) && !converted.f_to_kind(values.kind())?.f_equal(&values)? {
            return Err(ProgramError::Input {
                input: self.signature.inputs[0].name.clone(),
                reason: format!("values that {:?} cannot hold", self.kind),
            });
        }
        let outputs = self
            .program
            .run_samples(&converted.f_view(shape)?, output)?;
        let outputs = outputs.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        Ok(Vec::try_from(outputs.f_reshape([-1])?)?)
    }
}

impl Classifier for TorchProgram {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn digest(&self, _probe: &[f32]) -> Sha256 {
        self.digest.clone()
    }

    fn numerics(&self) -> String {
        format!("PyTorch's program on {}", describe_device(self.device))
    }

    fn facts(&self) -> ModelFacts {
        ModelFacts {
            parameters: self.program.parameters(),
            ..ModelFacts::default()
        }
    }

    fn run(
        &mut self,
        output: &str,
        input: &Input,
        sample: &[usize],
        samples: usize,
    ) -> Result<Vec<f32>, BackendError> {
        let number = self
            .signature
            .outputs
            .iter()
            .position(|spec| spec.name == output);
        let number =
            number.ok_or_else(|| BackendError(format!("the program has no output `{output}`")))?;
        let shape: Vec<_> = [samples]
            .iter()
            .chain(sample)
            .map(|&size| size as i64)
            .collect();
        let outputs = tch::no_grad(|| self.compute(number, input, &shape));
        outputs.map_err(|error| BackendError(error.to_string()))
    }
}

/// Inputs and outputs; of a TorchScript program, which states nothing, one tensor of images and one of rows.
fn signature(path: &Path, program: &Program) -> Result<Signature, TorchProgramError> {
    let (Some(inputs), Some(outputs)) = (program.inputs(), program.outputs()) else {
        let spec = |name: &str, rank: usize| {
            let sizes = std::iter::once(Dimension::Batch)
                .chain(std::iter::repeat_n(Dimension::Open, rank - 1));
            TensorSpec {
                name: name.to_owned(),
                data_type: DataType::Fp32,
                dimensions: Dimensions(sizes.collect()),
            }
        };
        return Ok(Signature {
            inputs: vec![spec(INPUT, 4)],
            outputs: vec![spec(OUTPUT, 2)],
        });
    };
    let specs = |tensors: &[torch_programs::TensorSpec]| {
        tensors
            .iter()
            .map(|tensor| describe(path, tensor))
            .collect::<Result<_, _>>()
    };
    Ok(Signature {
        inputs: specs(inputs)?,
        outputs: specs(outputs)?,
    })
}

fn describe(
    path: &Path,
    tensor: &torch_programs::TensorSpec,
) -> Result<TensorSpec, TorchProgramError> {
    let data_type = data_type(tensor.kind).ok_or_else(|| TorchProgramError::Kind {
        path: path.to_owned(),
        tensor: tensor.name.clone(),
        kind: tensor.kind,
    })?;
    let dimensions = tensor
        .dimensions
        .iter()
        .enumerate()
        .map(|(position, dimension)| match dimension {
            torch_programs::Dimension::Fixed(size) => {
                Dimension::Fixed(usize::try_from(*size).unwrap_or(usize::MAX))
            }
            torch_programs::Dimension::Open { .. } if position == 0 => Dimension::Batch,
            torch_programs::Dimension::Open { .. } => Dimension::Open,
        });
    Ok(TensorSpec {
        name: tensor.name.clone(),
        data_type,
        dimensions: Dimensions(dimensions.collect()),
    })
}

fn data_type(kind: Kind) -> Option<DataType> {
    Some(match kind {
        Kind::Bool => DataType::Bool,
        Kind::Uint8 => DataType::Uint8,
        Kind::Int8 => DataType::Int8,
        Kind::Int16 => DataType::Int16,
        Kind::Int => DataType::Int32,
        Kind::Int64 => DataType::Int64,
        Kind::Half => DataType::Fp16,
        Kind::BFloat16 => DataType::Bf16,
        Kind::Float => DataType::Fp32,
        Kind::Double => DataType::Fp64,
        _ => return None,
    })
}
