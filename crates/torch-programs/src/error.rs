//! Errors of programs.

use std::{io, path::PathBuf};

use common::text::shorten;
use tch::TchError;

/// Longest message of libtorch that is shown, in characters.
const MESSAGE_LIMIT: usize = 500;

/// Why a program cannot be loaded or run. The text names the file and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a program of PyTorch.
    #[error("{} {found}; expected a file of torch.export.save or torch.jit.save", path.display())]
    NotAProgram {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The file holds pickled Python objects: a state dict, or a whole module.
    #[error(
        "{} holds pickled Python objects (torch.save), which only Python can read. Convert a state dict with: \
         python -c \"import torch; from safetensors.torch import save_file; \
         weights = torch.load('{name}', map_location='cpu', weights_only=True); \
         save_file({{name: value.contiguous().clone() for name, value in weights.items()}}, 'model.safetensors')\" \
         Or export the model itself: \
         torch.export.save(torch.export.export(model.eval(), (x,), dynamic_shapes=({{0: torch.export.Dim('batch', min=1)}},)), \
         'model.pt2')",
        path.display(),
        name = path.file_name().unwrap_or_default().display()
    )]
    Pickled {
        /// The file.
        path: PathBuf,
    },
    /// The archive holds compiled code, which would run with the service's permissions.
    #[error(
        "{} holds native code ({record}), as AOTInductor writes it, and is not loaded; save the program itself with \
         torch.export.save",
        path.display()
    )]
    NativeCode {
        /// The file.
        path: PathBuf,
        /// The entry of the archive.
        record: String,
    },
    /// The archive is incomplete, altered or larger than it should be.
    #[error("{} is damaged: {reason}; copy or export it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The program is complete, but not one that Retort can run.
    #[error("{}: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported, and what to do.
        reason: String,
    },
    /// libtorch rejects the program.
    #[error("{}: libtorch cannot load it: {message}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// libtorch's message.
        message: String,
    },
    /// An input does not match the program's signature.
    #[error("{input}: {reason}")]
    Input {
        /// The input's name.
        input: String,
        /// What does not match.
        reason: String,
    },
    /// libtorch cannot run the program.
    #[error("libtorch cannot run the program: {0}")]
    Run(String),
}

impl From<TchError> for ProgramError {
    fn from(error: TchError) -> Self {
        ProgramError::Run(concise(&error.to_string()))
    }
}

/// Reduces a message of libtorch to one line: the cause, without C++ stack, arguments and Python's stack.
pub(crate) fn concise(message: &str) -> String {
    let message = message
        .strip_prefix("Internal torch error: ")
        .unwrap_or(message);
    let end = ["Exception raised from", "Original Python stacktrace:"]
        .iter()
        .filter_map(|mark| message.find(mark))
        .min()
        .unwrap_or(message.len());
    let mut message = message[..end].trim();
    // The runner of exported programs puts node and arguments before the cause.
    let mut node = "";
    if message.starts_with("Exception while executing node:")
        && let Some((head, cause)) = message.split_once("\n\n")
    {
        node = head.lines().next().unwrap_or_default();
        message = cause.trim();
    }
    // TorchScript's interpreter puts its own stack before the cause.
    if message.starts_with("The following operation failed in the TorchScript interpreter.")
        && let Some((_, cause)) = message.rsplit_once("RuntimeError: ")
    {
        message = cause;
    }
    let lines: Vec<_> = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut text = lines.join(" ");
    if !node.is_empty() {
        text = format!("{text} ({node})");
    }
    shorten(&text, MESSAGE_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_libtorch_become_one_line() {
        let cases = [
            (
                "models/model.json not found in package",
                "models/model.json not found in package",
            ),
            (
                "expected scalar type Long but found Float\nException raised from check_type at TensorMethods.cpp:12\nframe #0",
                "expected scalar type Long but found Float",
            ),
            (
                "Exception while executing node: %y = f(x)\nwith args:\narg0 x: Tensor\n\n3 channels, but got 5\n\
                 Exception raised from g (most recent call first):\nframe #0: h\n\nOriginal Python stacktrace:\nFile",
                "3 channels, but got 5 (Exception while executing node: %y = f(x))",
            ),
            (
                "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript:\n  File x\n\
                 ~~~ <--- HERE\nRuntimeError: 3 channels, but got 5\n",
                "3 channels, but got 5",
            ),
            ("", ""),
        ];
        for (message, expected) in cases {
            assert_eq!(concise(message), expected);
        }
    }
}
