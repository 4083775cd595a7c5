//! Finds and loads `libonnxruntime.so`, once per process.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ort::environment::Environment;

/// Path of the library; takes precedence over every other location.
const PATH_VARIABLE: &str = "ORT_DYLIB_PATH";
/// Disables telemetry. From version 1.29 on the official builds report to their vendor which models
/// they run, and the C API can stop that only after a first report. The library reads the variable
/// when it is loaded: https://github.com/microsoft/onnxruntime/pull/27379.
const TELEMETRY_VARIABLE: &str = "ORT_DISABLE_TELEMETRY";
/// Environment variables (name, value) that a process must set before its first session; see
/// `common::process_environment`.
pub const ENVIRONMENT: [(&str, &str); 1] = [(TELEMETRY_VARIABLE, "1")];
const FILE_NAME: &str = "libonnxruntime.so";
/// The folder where `scripts/setup` installs the library, relative to the repository's root.
const SETUP_FOLDER: &str = ".deps/onnxruntime/lib";

/// Why ONNX Runtime is not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// `ORT_DYLIB_PATH` is not the path of a file.
    #[error(
        "{PATH_VARIABLE} is {}, which is not a file; correct it, or run scripts/setup",
        path.display()
    )]
    NoSuchFile {
        /// The value of the variable.
        path: PathBuf,
    },
    /// The library is in none of the usual locations.
    #[error(
        "{FILE_NAME} was not found; tried {}; run scripts/setup, or set {PATH_VARIABLE} to its path",
        list(tried)
    )]
    NotFound {
        /// The tried paths, in order.
        tried: Vec<PathBuf>,
    },
    /// `ORT_DISABLE_TELEMETRY` is unset or empty. Any value is accepted, so users can choose.
    #[error(
        "{TELEMETRY_VARIABLE} is unset or empty, so ONNX Runtime would report the models that it runs to \
         its vendor; set it to 1 before the program starts"
    )]
    TelemetryNotDecided,
    /// The library exists but cannot be loaded.
    #[error("cannot load ONNX Runtime from {}: {reason}", path.display())]
    Unusable {
        /// Path of the library.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

/// Loads ONNX Runtime now rather than with the first session, so that a program can report a missing
/// library at its start.
///
/// # Errors
/// See [`LibraryError`].
pub fn load_library() -> Result<(), LibraryError> {
    environment().map(drop)
}

/// The process's only environment; the first call loads the library.
///
/// # Errors
/// See [`LibraryError`]; every later call returns the same result.
pub(crate) fn environment() -> Result<&'static Environment, LibraryError> {
    static ENVIRONMENT: OnceLock<Result<Environment, LibraryError>> = OnceLock::new();
    let loaded = ENVIRONMENT.get_or_init(|| {
        decide_telemetry(env::var_os(TELEMETRY_VARIABLE).as_deref())?;
        load(&find()?)
    });
    loaded.as_ref().map_err(LibraryError::clone)
}

fn decide_telemetry(variable: Option<&OsStr>) -> Result<(), LibraryError> {
    match variable {
        Some(value) if !value.is_empty() => Ok(()),
        _ => Err(LibraryError::TelemetryNotDecided),
    }
}

fn find() -> Result<PathBuf, LibraryError> {
    if let Some(path) = env::var_os(PATH_VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(LibraryError::NoSuchFile { path })
        };
    }
    // If the path of the executable is unknown, only the variable can locate the library.
    let executable = env::current_exe().unwrap_or_default();
    let tried = usual_places(&executable);
    match tried.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(LibraryError::NotFound { tried }),
    }
}

/// Paths beside the executable, in `../lib`, and in the set-up folder of every ancestor folder.
fn usual_places(executable: &Path) -> Vec<PathBuf> {
    let Some(folder) = executable.parent() else {
        return Vec::new();
    };
    let beside = folder.join(FILE_NAME);
    let lib = folder.join("../lib").join(FILE_NAME);
    let set_up = folder
        .ancestors()
        .map(|above| above.join(SETUP_FOLDER).join(FILE_NAME));
    [beside, lib].into_iter().chain(set_up).collect()
}

fn load(path: &Path) -> Result<Environment, LibraryError> {
    let unusable = |reason: String| LibraryError::Unusable {
        path: path.to_owned(),
        reason,
    };
    ort::init_from(path)
        .map_err(|error| unusable(error.to_string()))?
        .with_name("retort")
        .with_telemetry(false)
        .build()
        .map_err(|error| unusable(error.to_string()))
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
    paths.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_beside_the_executable_then_lib_then_the_ancestors() {
        let places = usual_places(Path::new("/repo/target/release/retort"));
        let expected = [
            "/repo/target/release/libonnxruntime.so",
            "/repo/target/release/../lib/libonnxruntime.so",
            "/repo/target/release/.deps/onnxruntime/lib/libonnxruntime.so",
            "/repo/target/.deps/onnxruntime/lib/libonnxruntime.so",
            "/repo/.deps/onnxruntime/lib/libonnxruntime.so",
            "/.deps/onnxruntime/lib/libonnxruntime.so",
        ];
        assert_eq!(places, expected.map(PathBuf::from));
    }

    #[test]
    fn is_not_loaded_while_telemetry_is_enabled() {
        for undecided in [None, Some("")] {
            let error = decide_telemetry(undecided.map(OsStr::new)).unwrap_err();
            assert!(error.to_string().contains("ORT_DISABLE_TELEMETRY"));
        }
        for decided in ["1", "0"] {
            assert_eq!(decide_telemetry(Some(OsStr::new(decided))), Ok(()));
        }
    }

    #[test]
    fn errors_name_the_tried_paths_and_the_fix() {
        let tried = vec![PathBuf::from("/a/libonnxruntime.so"), PathBuf::from("/b")];
        let error = LibraryError::NotFound { tried }.to_string();
        for part in [
            "/a/libonnxruntime.so, /b",
            "scripts/setup",
            "ORT_DYLIB_PATH",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_error_names_a_file_that_is_not_a_library() {
        let error = load(Path::new("/proc/self/status"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/proc/self/status"), "{error}");
    }
}
