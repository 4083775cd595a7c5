//! A loaded model.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ort::{
    session::RunOptions,
    value::{Outlet, TensorElementType, TensorRef},
};

use crate::{
    interface::{INPUT_NAME, ModelInterface, OUTPUT_NAME},
    library::{self, LibraryError},
};

/// Options of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads that share the work within one operator, 1 or more; with 1, the caller's thread computes.
    pub threads: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { threads: 1 }
    }
}

/// A model in memory, ready to run. A session runs one batch at a time; load one session per thread.
#[derive(Debug)]
pub struct Session {
    session: ort::session::Session,
    interface: ModelInterface,
}

/// Why a model cannot be loaded or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// ONNX Runtime itself is not available.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// ONNX Runtime rejects the model.
    #[error("ONNX Runtime cannot load the model: {0}")]
    Load(String),
    /// The inputs or outputs differ from those of Retort's models.
    #[error(
        "the model has inputs {inputs} and outputs {outputs}; expected one f32 `{INPUT_NAME}` \
         [batch, channels, height, width] or [batch, values] and one f32 `{OUTPUT_NAME}` [batch, classes]"
    )]
    Interface {
        /// Names, types and shapes of the inputs.
        inputs: String,
        /// Names, types and shapes of the outputs.
        outputs: String,
    },
    /// The input does not match the batch size.
    #[error("input: {found} values for a batch of {batch}, expected {expected}")]
    InputSize {
        /// Samples in the batch; never 0.
        batch: usize,
        /// Number of values in the input.
        found: usize,
        /// Number of values that the batch requires, at least those of one sample.
        expected: usize,
    },
    /// An [`Interrupt`] ended the run.
    #[error("the run was interrupted")]
    Interrupted,
    /// The model failed on this input.
    #[error("ONNX Runtime cannot run the model: {0}")]
    Run(String),
}

/// Stops runs from another thread, permanently: a current run ends at its next operator, and every
/// later run at its first.
#[derive(Clone)]
pub struct Interrupt(Arc<InterruptState>);

struct InterruptState {
    options: RunOptions,
    interrupted: AtomicBool,
}

impl Interrupt {
    /// # Errors
    /// [`SessionError::Library`], or [`SessionError::Run`] if ONNX Runtime cannot allocate it.
    pub fn new() -> Result<Self, SessionError> {
        library::environment()?;
        let options = RunOptions::new();
        let options = options.map_err(|error| SessionError::Run(error.message().to_owned()))?;
        Ok(Self(Arc::new(InterruptState {
            options,
            interrupted: AtomicBool::new(false),
        })))
    }

    /// Stops every run that uses this interrupt.
    pub fn interrupt(&self) {
        self.0.interrupted.store(true, Ordering::Release);
        if let Err(error) = self.0.options.terminate() {
            // Cannot fail: the options are valid, and the call only sets a flag.
            debug_assert!(false, "{error}");
        }
    }

    /// Whether [`interrupt`](Self::interrupt) was called.
    pub fn is_interrupted(&self) -> bool {
        self.0.interrupted.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interrupt")
            .field(&self.0.interrupted)
            .finish()
    }
}

impl Session {
    /// Loads a model. Check untrusted bytes with [`check_model`](crate::check_model) first, because ONNX
    /// Runtime loads models that are unsafe to serve.
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

    /// The inputs and outputs of the model.
    pub fn interface(&self) -> &ModelInterface {
        &self.interface
    }

    /// Computes the logits of `batch` samples.
    ///
    /// `input` is row-major [batch, channels, height, width] or [batch, values], the result [batch, classes].
    ///
    /// # Errors
    /// [`SessionError::InputSize`] or [`SessionError::Run`].
    pub fn run(&mut self, input: &[f32], batch: usize) -> Result<Vec<f32>, SessionError> {
        self.run_with(input, batch, None)
    }

    /// Like [`run`](Self::run), but `interrupt` can stop it.
    ///
    /// # Errors
    /// [`SessionError::Interrupted`], and the errors of [`run`](Self::run).
    pub fn run_unless(
        &mut self,
        interrupt: &Interrupt,
        input: &[f32],
        batch: usize,
    ) -> Result<Vec<f32>, SessionError> {
        let logits = self.run_with(input, batch, Some(&interrupt.0.options));
        if interrupt.is_interrupted() {
            Err(SessionError::Interrupted)
        } else {
            logits
        }
    }

    fn run_with(
        &mut self,
        input: &[f32],
        batch: usize,
        options: Option<&RunOptions>,
    ) -> Result<Vec<f32>, SessionError> {
        let expected = self.interface.sample_values().saturating_mul(batch.max(1));
        if batch == 0 || input.len() != expected {
            return Err(SessionError::InputSize {
                batch,
                found: input.len(),
                expected,
            });
        }
        let logits = self
            .compute(input, batch, options)
            .map_err(|error| SessionError::Run(error.message().to_owned()))?;
        let expected = batch * self.interface.classes;
        if logits.len() != expected {
            let found = logits.len();
            let problem = format!("{found} logits for a batch of {batch}, expected {expected}");
            return Err(SessionError::Run(problem));
        }
        Ok(logits)
    }

    fn compute(
        &mut self,
        input: &[f32],
        batch: usize,
        options: Option<&RunOptions>,
    ) -> ort::Result<Vec<f32>> {
        let shape: Vec<usize> = [batch]
            .into_iter()
            .chain(self.interface.sample.iter().copied())
            .collect();
        let tensor = TensorRef::from_array_view((shape, input))?;
        let inputs = ort::inputs![tensor];
        let outputs = match options {
            None => self.session.run(inputs)?,
            Some(options) => self.session.run_with_options(inputs, options)?,
        };
        let (_, logits) = outputs[0].try_extract_tensor::<f32>()?;
        Ok(logits.to_vec())
    }
}

pub(crate) fn build(
    environment: &ort::environment::Environment,
    onnx: &[u8],
    options: SessionOptions,
) -> ort::Result<ort::session::Session> {
    ort::session::Session::builder(environment)?
        .with_intra_threads(options.threads)?
        // Spinning threads would keep whole cores of an idle service busy.
        .with_intra_op_spinning(false)?
        // Batches have any size, and ONNX Runtime would keep one pattern per size.
        .with_memory_pattern(false)?
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

/// The shape of an f32 tensor; `None` stands for a dynamic dimension.
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
