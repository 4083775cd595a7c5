//! Finding and loading `libonnxruntime.so`, once a process.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ort::environment::Environment;

/// Names the library's file; wins over every other place.
const PATH_VARIABLE: &str = "ORT_DYLIB_PATH";
/// The official builds report to their maker which models are run, and how, from version 1.29 on; the
/// C API can end that only once a first report is on its way. The variable is read when the library
/// is loaded: https://github.com/microsoft/onnxruntime/pull/27379.
const TELEMETRY_VARIABLE: &str = "ORT_DISABLE_TELEMETRY";
/// What a process's environment must hold before its first session, names and values; see
/// `common::process_environment`.
pub const ENVIRONMENT: [(&str, &str); 1] = [(TELEMETRY_VARIABLE, "1")];
const FILE_NAME: &str = "libonnxruntime.so";
/// Where `scripts/setup` puts the library, below the repository's root.
const SETUP_FOLDER: &str = ".deps/onnxruntime/lib";

/// Why ONNX Runtime is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// `ORT_DYLIB_PATH` names no file.
    #[error(
        "{PATH_VARIABLE} names {}, which is no file; correct it, or run scripts/setup",
        path.display()
    )]
    NoSuchFile {
        /// What the variable holds.
        path: PathBuf,
    },
    /// The library is in none of the usual places.
    #[error(
        "{FILE_NAME} was not found; tried {}; run scripts/setup, or set {PATH_VARIABLE} to its path",
        list(tried)
    )]
    NotFound {
        /// The paths tried, in order.
        tried: Vec<PathBuf>,
    },
    /// `ORT_DISABLE_TELEMETRY` is unset or empty. Any value will do: a user's own choice stays.
    #[error(
        "{TELEMETRY_VARIABLE} is unset or empty, and ONNX Runtime would report to its maker which models \
         are run; set it to 1 before the program starts"
    )]
    TelemetryNotDecided,
    /// The library is there and cannot be used.
    #[error("cannot load ONNX Runtime from {}: {reason}", path.display())]
    Unusable {
        /// The library.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Loads ONNX Runtime now rather than with the first session, so that a program that needs it can
/// say at its start that it is missing.
///
/// # Errors
/// See [`LibraryError`].
pub fn load_library() -> Result<(), LibraryError> {
    environment().map(drop)
}

/// The process's one environment; the first call loads the library.
///
/// # Errors
/// See [`LibraryError`]; every later call gives the same answer.
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
        return match path.is_file() {
            true => Ok(path),
            false => Err(LibraryError::NoSuchFile { path }),
        };
    }
    // Without a path of its own the program can only be told by the variable.
    let executable = env::current_exe().unwrap_or_default();
    let tried = usual_places(&executable);
    match tried.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(LibraryError::NotFound { tried }),
    }
}

/// Beside the executable, in `../lib`, and in the set-up folder of every folder above.
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
    fn looks_beside_the_executable_then_in_lib_then_in_the_folders_above() {
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
    fn is_not_loaded_while_it_would_report_to_its_maker() {
        for undecided in [None, Some("")] {
            let error = decide_telemetry(undecided.map(OsStr::new)).unwrap_err();
            assert!(error.to_string().contains("ORT_DISABLE_TELEMETRY"));
        }
        for decided in ["1", "0"] {
            assert_eq!(decide_telemetry(Some(OsStr::new(decided))), Ok(()));
        }
    }

    #[test]
    fn errors_name_what_was_tried_and_what_to_do() {
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
    fn a_file_that_is_no_library_is_named() {
        let error = load(Path::new("/proc/self/status"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/proc/self/status"), "{error}");
    }
}
