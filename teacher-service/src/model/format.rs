//! What a model's path leads to.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The format in a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FormatChoice {
    /// Detected from the path and the content.
    #[default]
    Auto,
    /// See [`ModelFormat::Artifact`].
    Artifact,
    /// See [`ModelFormat::Onnx`].
    Onnx,
    /// See [`ModelFormat::TorchProgram`].
    TorchProgram,
    /// See [`ModelFormat::TorchScript`].
    TorchScript,
    /// See [`ModelFormat::Safetensors`].
    Safetensors,
    /// See [`ModelFormat::InferenceServer`].
    InferenceServer,
}

/// A format that a teacher can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelFormat {
    /// A folder that a run wrote: `model.toml` and `weights.safetensors`.
    Artifact,
    /// An ONNX file.
    Onnx,
    /// A program that `torch.export` wrote, `.pt2`.
    TorchProgram,
    /// A program that `torch.jit` wrote, `.pt`.
    TorchScript,
    /// Weights that another project published, `.safetensors`.
    Safetensors,
    /// The address of a model on a server with the Open Inference Protocol.
    InferenceServer,
}

/// Why a path's format is not known.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The path cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no known format.
    #[error(
        "model.path = {}: {found}; a teacher is a folder that a run wrote, an ONNX file, a .pt2, TorchScript or \
         safetensors file, or grpc://HOST:PORT/MODEL on an inference server", path.display()
    )]
    Unknown {
        /// The path.
        path: PathBuf,
        /// What was found.
        found: &'static str,
    },
}

/// Addresses of models on inference servers begin with one of these.
pub const SCHEMES: [&str; 4] = ["grpc://", "grpcs://", "http://", "https://"];

impl FormatChoice {
    /// The format of the model at `path`, which is read only if the choice is [`FormatChoice::Auto`].
    ///
    /// # Errors
    /// [`FormatError`] if the format cannot be detected.
    pub fn resolve(self, path: &Path) -> Result<ModelFormat, FormatError> {
        match self {
            Self::Auto => detect(path),
            Self::Artifact => Ok(ModelFormat::Artifact),
            Self::Onnx => Ok(ModelFormat::Onnx),
            Self::TorchProgram => Ok(ModelFormat::TorchProgram),
            Self::TorchScript => Ok(ModelFormat::TorchScript),
            Self::Safetensors => Ok(ModelFormat::Safetensors),
            Self::InferenceServer => Ok(ModelFormat::InferenceServer),
        }
    }
}

fn detect(path: &Path) -> Result<ModelFormat, FormatError> {
    let text = path.to_string_lossy();
    if SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(ModelFormat::InferenceServer);
    }
    let unknown = |found| {
        Err(FormatError::Unknown {
            path: path.to_owned(),
            found,
        })
    };
    if text.contains("://") {
        return unknown("the scheme of the address is not known");
    }
    let unreadable = |source| FormatError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    // A folder that is incomplete or missing is reported with the file that it lacks.
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => return Ok(ModelFormat::Artifact),
        Err(error) if error.kind() == io::ErrorKind::NotFound && extension.is_empty() => {
            return Ok(ModelFormat::Artifact);
        }
        Ok(_) => {}
        Err(source) => return Err(unreadable(source)),
    }
    let head = read_head(path).map_err(unreadable)?;
    let is_zip = head.starts_with(b"PK\x03\x04");
    // A state dict as PyTorch wrote it before 1.6. Reading it gives the error that says how to convert it.
    let is_pickle = matches!(head[..], [0x80, 2..=5, ..]);
    match &*extension.to_ascii_lowercase() {
        "pt2" if is_zip => Ok(ModelFormat::TorchProgram),
        "pt" | "pth" | "ts" | "torchscript" if is_zip || is_pickle => Ok(ModelFormat::TorchScript),
        "onnx" => Ok(ModelFormat::Onnx),
        _ if is_zip => unknown("it is a zip archive, and its name ends neither in .pt2 nor in .pt"),
        // The length of the header, then the header.
        _ if head.get(5..9) == Some(b"\0\0\0{") => Ok(ModelFormat::Safetensors),
        // The version of the format is an ONNX file's first field.
        _ if head.first() == Some(&0x08) => Ok(ModelFormat::Onnx),
        _ => unknown("it is a file of another format"),
    }
}

fn read_head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(16).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn formats_are_detected_from_name_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let zip = b"PK\x03\x04....";
        let safetensors = [&8_u64.to_le_bytes()[..], b"{}      "].concat();
        for (name, content, format) in [
            ("a.onnx", &b"\x08\x08"[..], ModelFormat::Onnx),
            ("a", b"\x08\x0a\x12", ModelFormat::Onnx),
            ("a.pt2", zip, ModelFormat::TorchProgram),
            ("a.pt", zip, ModelFormat::TorchScript),
            ("a.pth", b"\x80\x02", ModelFormat::TorchScript),
            ("a.safetensors", &safetensors, ModelFormat::Safetensors),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            assert_eq!(FormatChoice::Auto.resolve(&path).unwrap(), format, "{name}");
        }
        let detected = FormatChoice::Auto.resolve(folder.path()).unwrap();
        assert_eq!(detected, ModelFormat::Artifact);
        for address in ["grpc://triton:8001/resnet", "https://host:1/m/versions/2"] {
            let detected = FormatChoice::Auto.resolve(Path::new(address)).unwrap();
            assert_eq!(detected, ModelFormat::InferenceServer);
        }
    }

    #[test]
    fn what_is_no_model_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content, named) in [
            ("a.zip", &b"PK\x03\x04"[..], "zip archive"),
            ("a.pt2", b"text", "another format"),
            ("a.txt", b"", "another format"),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            let error = FormatChoice::Auto.resolve(&path).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains(name), "{error}");
        }
        for (path, named) in [
            ("s3://bucket/model", "scheme"),
            ("/no/such/model.onnx", "cannot read /no/such/model.onnx"),
        ] {
            let error = FormatChoice::Auto.resolve(Path::new(path)).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
