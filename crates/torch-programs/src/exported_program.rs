//! Files of `torch.export.save`.

use std::path::Path;

use tch::{Device, Tensor};

use crate::{
    ProgramError, TensorSpec, archive::Archive, model_file::ModelFile, runner::Runner,
    signature::check_inputs,
};

/// An exported program.
#[derive(Debug)]
pub struct ExportedProgram {
    runner: Runner,
    device: Device,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    parameters: u64,
}

impl ExportedProgram {
    /// Loads the program `model` of an archive.
    pub(crate) fn open(
        path: &Path,
        archive: &mut Archive,
        model: &str,
        device: Device,
    ) -> Result<Self, ProgramError> {
        let file = ModelFile::read(path, archive, model)?;
        let unsupported = |reason| ProgramError::Unsupported {
            path: path.to_owned(),
            reason,
        };
        file.check_mode().map_err(unsupported)?;
        file.check_device(device).map_err(unsupported)?;
        let inputs = file.inputs().map_err(unsupported)?;
        let outputs = file.outputs().map_err(unsupported)?;
        let runner = Runner::open(path, model).map_err(|message| ProgramError::Load {
            path: path.to_owned(),
            message: format!("{message} (written by {})", file.written_by()),
        })?;
        Ok(Self {
            runner,
            device,
            inputs,
            outputs,
            parameters: file.parameters(),
        })
    }

    /// The inputs in the order of the call.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// The outputs in the order of the result. Outputs in tuples, lists and dictionaries are listed one by one.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Number of trained values.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    pub(crate) fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ProgramError> {
        check_inputs(&self.inputs, inputs)?;
        let inputs = inputs
            .iter()
            .map(|input| Ok(input.f_to_device(self.device)?))
            .collect::<Result<Vec<_>, ProgramError>>()?;
        self.runner
            .run(&inputs, self.outputs.len())
            .map_err(ProgramError::Run)
    }
}
