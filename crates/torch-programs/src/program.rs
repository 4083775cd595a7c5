//! A program of either format.

use std::path::Path;

use tch::{Device, Tensor};

use crate::{
    ExportedProgram, ProgramError, TensorSpec, TorchScript,
    archive::{Archive, Format},
};

/// A program exported by PyTorch, ready to run.
#[derive(Debug)]
pub enum Program {
    /// A file of `torch.export.save`.
    Exported(ExportedProgram),
    /// A file of `torch.jit.save`.
    TorchScript(TorchScript),
}

impl Program {
    /// Loads the file at `path`; its content, not its name, decides the format. TorchScript programs are moved to
    /// `device`, exported programs must have been exported for it.
    ///
    /// # Errors
    /// If the file is not a complete program that libtorch can run; see [`ProgramError`].
    pub fn open(path: &Path, device: Device) -> Result<Self, ProgramError> {
        let mut archive = Archive::open(path)?;
        match archive.format()? {
            Format::ExportedProgram { model } => {
                ExportedProgram::open(path, &mut archive, &model, device).map(Program::Exported)
            }
            Format::TorchScript => TorchScript::open(path, device).map(Program::TorchScript),
        }
    }

    /// The inputs in the order of [`Program::run`]; `None` if the file does not state them.
    pub fn inputs(&self) -> Option<&[TensorSpec]> {
        match self {
            Program::Exported(program) => Some(program.inputs()),
            Program::TorchScript(_) => None,
        }
    }

    /// The outputs in the order of [`Program::run`]; `None` if the file does not state them.
    pub fn outputs(&self) -> Option<&[TensorSpec]> {
        match self {
            Program::Exported(program) => Some(program.outputs()),
            Program::TorchScript(_) => None,
        }
    }

    /// Number of trained values; `None` if the file does not mark them.
    pub fn parameters(&self) -> Option<u64> {
        match self {
            Program::Exported(program) => Some(program.parameters()),
            Program::TorchScript(program) => program.parameters(),
        }
    }

    /// Runs the program in inference mode. Inputs are moved to the program's device; the outputs stay there and cannot
    /// take part in training.
    ///
    /// # Errors
    /// [`ProgramError::Input`] if an input does not match the file's signature; [`ProgramError::Run`] if libtorch
    /// fails. A later call may succeed.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ProgramError> {
        tch::no_grad(|| match self {
            Program::Exported(program) => program.run(inputs),
            Program::TorchScript(program) => program.run(inputs),
        })
    }
}
