//! Programs exported by PyTorch, run by libtorch.
//!
//! A [`Program`] is a file of `torch.export.save` (`.pt2`) or of `torch.jit.save` (TorchScript, `.pt`). Its computation
//! is in the file, so no Python and no description of the network is needed.
//!
//! A `.pt2` file states its inputs and outputs, and a program runs only on inputs that match: libtorch would compute
//! other batch sizes of a program that was exported for one, with results that may be wrong. A TorchScript file states
//! nothing.
//!
//! A file is checked before libtorch reads it: it must be a complete ZIP archive with correct checksums, inflate to a
//! bounded size, and describe tensors that its weights fill. Files with native code (AOTInductor) and pickled Python
//! objects are rejected. A program may still call any operator of libtorch, including those that read and write files:
//! **load only files that you trust**.
//!
//! Like libtorch's other forward passes, the logits of a sample may depend, in the last bits, on the number of samples
//! in the batch, but for one batch size they are the same in every call, for any thread count.

mod archive;
mod error;
mod exported_program;
mod model_file;
mod program;
mod runner;
mod samples;
mod schema;
mod signature;
mod torch_script;

pub use error::ProgramError;
pub use exported_program::ExportedProgram;
pub use program::Program;
pub use signature::{Dimension, TensorSpec};
pub use tch::{Device, Kind, Tensor};
pub use torch_script::TorchScript;
