//! One loaded model.

use ort::value::{Outlet, TensorElementType, TensorRef};

use crate::{
    interface::{INPUT_NAME, ModelInterface, OUTPUT_NAME},
    library::{self, LibraryError},
};

/// How a session computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads that share the work within one operator, 1 or more; with 1, the caller's own.
    pub threads: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { threads: 1 }
    }
}

/// A model in memory, ready to run. One run at a time: a thread that wants its own loads its own.
#[derive(Debug)]
pub struct Session {
    session: ort::session::Session,
    interface: ModelInterface,
}

/// Why a model cannot be loaded or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// ONNX Runtime itself is missing.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// ONNX Runtime refuses the model.
    #[error("ONNX Runtime cannot load the model: {0}")]
    Load(String),
    /// The model takes or gives other tensors than Retort's.
    #[error(
        "the model has inputs {inputs} and outputs {outputs}; expected one f32 `{INPUT_NAME}` \
         [batch, channels, height, width] and one f32 `{OUTPUT_NAME}` [batch, classes]"
    )]
    Interface {
        /// Names, types and shapes of the inputs.
        inputs: String,
        /// Names, types and shapes of the outputs.
        outputs: String,
    },
    /// The input is not of the size that its batch asks for.
    #[error("input: {found} values for a batch of {batch}, expected {expected}")]
    InputSize {
        /// Samples in the batch; never 0.
        batch: usize,
        /// Values given.
        found: usize,
        /// Values needed, at least one sample's.
        expected: usize,
    },
    /// The model failed on this input.
    #[error("ONNX Runtime cannot run the model: {0}")]
    Run(String),
}

impl Session {
    /// Loads a model. Bytes from elsewhere go through [`check_model`](crate::check_model) first:
    /// ONNX Runtime loads much that is not fit to be served.
    ///
    /// # Errors
    /// [`SessionError::Library`], [`SessionError::Load`] or [`SessionError::Interface`].
    pub fn load(onnx: &[u8], options: SessionOptions) -> Result<Self, SessionError> {
        let environment = library::environment()?;
        let session = build(environment, onnx, options)
            .map_err(|error| SessionError::Load(error.message().to_owned()))?;
        let interface = read_interface(&session).ok_or_else(|| SessionError::Interface {
            inputs: describe(session.inputs()),
            outputs: describe(session.outputs()),
        })?;
        Ok(Self { session, interface })
    }

    /// What goes in and what comes out.
    pub fn interface(&self) -> &ModelInterface {
        &self.interface
    }

    /// Computes the logits of `batch` samples.
    ///
    /// `input` is row-major [batch, channels, height, width], the result [batch, classes].
    ///
    /// # Errors
    /// [`SessionError::InputSize`] or [`SessionError::Run`].
    pub fn run(&mut self, input: &[f32], batch: usize) -> Result<Vec<f32>, SessionError> {
        let expected = self.interface.sample_values().saturating_mul(batch.max(1));
        if batch == 0 || input.len() != expected {
            return Err(SessionError::InputSize {
                batch,
                found: input.len(),
                expected,
            });
        }
        let logits = self
            .compute(input, batch)
            .map_err(|error| SessionError::Run(error.message().to_owned()))?;
        let expected = batch * self.interface.classes;
        if logits.len() != expected {
            let found = logits.len();
            let problem = format!("{found} logits for a batch of {batch}, expected {expected}");
            return Err(SessionError::Run(problem));
        }
        Ok(logits)
    }

    fn compute(&mut self, input: &[f32], batch: usize) -> ort::Result<Vec<f32>> {
        let [channels, height, width] = self.interface.input_shape;
        let tensor = TensorRef::from_array_view(([batch, channels, height, width], input))?;
        let outputs = self.session.run(ort::inputs![tensor])?;
        let (_, logits) = outputs[0].try_extract_tensor::<f32>()?;
        Ok(logits.to_vec())
    }
}

fn build(
    environment: &ort::environment::Environment,
    onnx: &[u8],
    options: SessionOptions,
) -> ort::Result<ort::session::Session> {
    ort::session::Session::builder(environment)?
        .with_intra_threads(options.threads)?
        // Threads that spin while they wait keep whole cores of an idle service busy.
        .with_intra_op_spinning(false)?
        .commit_from_memory(onnx)
}

fn read_interface(session: &ort::session::Session) -> Option<ModelInterface> {
    let ([input], [output]) = (session.inputs(), session.outputs()) else {
        return None;
    };
    if (input.name(), output.name()) != (INPUT_NAME, OUTPUT_NAME) {
        return None;
    }
    ModelInterface::from_shapes(&f32_shape(input)?, &f32_shape(output)?)
}

/// The shape of an f32 tensor; `None` in it is a dimension that is left open.
fn f32_shape(outlet: &Outlet) -> Option<Vec<Option<usize>>> {
    if outlet.dtype().tensor_type() != Some(TensorElementType::Float32) {
        return None;
    }
    let shape = outlet.dtype().tensor_shape()?;
    Some(shape.iter().map(|size| (*size).try_into().ok()).collect())
}

fn describe(outlets: &[Outlet]) -> String {
    let described: Vec<_> = outlets
        .iter()
        .map(|outlet| format!("`{}` {}", outlet.name(), outlet.dtype()))
        .collect();
    described.join(", ")
}
