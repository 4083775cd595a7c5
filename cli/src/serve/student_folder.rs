//! Finds the models in a folder, and checks them before a service is started.

use std::{
    fs,
    path::{Path, PathBuf},
};

use artifacts::{manifest::ArtifactManifest, model_store::ModelName};
use common::{digest::Sha256, folders};

use super::ServeError;
use crate::CliError;

/// Where a folder has its model: itself, as the folder of a run, as the output of `retort distill`.
const PLACES: [&str; 3] = ["", "artifact", "run/artifact"];
const MODEL: &str = "model.onnx";
const MANIFEST: &str = "manifest.json";

/// A model to serve.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Artifact {
    /// Its name in the service.
    pub name: ModelName,
    /// The folder of its files.
    pub folder: PathBuf,
    /// What its manifest says.
    pub manifest: ArtifactManifest,
}

/// The model in `folder`, named `name` or like the folder, or else the models in the folders in it, named like
/// these.
///
/// # Errors
/// If there is no model, or one that cannot be served.
pub(super) fn find(folder: &Path, name: Option<&str>) -> Result<Vec<Artifact>, CliError> {
    // Resolves `.`, so that the folder has a name.
    let folder = folder.canonicalize().map_err(CliError::file(folder))?;
    if let Some(place) = place(&folder) {
        let name = name.map_or_else(|| name_of(&folder), str::to_owned);
        return Ok(vec![read(&name, place)?]);
    }
    let listing = folders::list(&folder).map_err(CliError::file(&folder))?;
    let places: Vec<_> = listing
        .folders()
        .filter_map(|entry| Some((&entry.name, place(&entry.path)?)))
        .collect();
    if let (Some(name), [_, _, ..]) = (name, &places[..]) {
        let count = places.len();
        let folder = folder.display();
        return Err(CliError::Usage(format!(
            "--name {name} names one model, but {folder} has {count}; give the folder of one of them"
        )));
    }
    if places.is_empty() {
        return Err(ServeError::NoArtifact { folder }.into());
    }
    let places = places.into_iter();
    places
        .map(|(own, place)| read(name.unwrap_or(own), place))
        .collect()
}

/// The folder with the files of the model of `folder`.
fn place(folder: &Path) -> Option<PathBuf> {
    let with = |file: &str| {
        let mut places = PLACES.iter().map(|place| folder.join(place));
        places.find(|place| place.join(file).is_file())
    };
    // The model first: a run's folder has a manifest of its own.
    with(MODEL).or_else(|| with(MANIFEST))
}

/// The name of the folder; `run`, `artifact` and `int8` are the names of all runs, artifacts and models in int8.
fn name_of(folder: &Path) -> String {
    let names = folder.ancestors().filter_map(Path::file_name);
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let mut names = names.filter(|name| !["run", "artifact", "int8"].contains(&name.as_str()));
    names.next().unwrap_or_default()
}

fn read(name: &str, folder: PathBuf) -> Result<Artifact, CliError> {
    let name = ModelName::new(name)
        .map_err(|error| CliError::Usage(format!("{error}; name the model with --name")))?;
    let [model, manifest] = [MODEL, MANIFEST].map(|file| folder.join(file));
    for file in [&model, &manifest] {
        if !file.is_file() {
            return Err(ServeError::Missing { file: file.clone() }.into());
        }
    }
    let json = fs::read(&manifest).map_err(CliError::file(&manifest))?;
    let manifest = ArtifactManifest::from_json(&json).map_err(|error| ServeError::Manifest {
        file: manifest,
        error,
    })?;
    let onnx = fs::read(&model).map_err(CliError::file(&model))?;
    check(&onnx, &manifest).map_err(|(found, expected)| ServeError::Damaged {
        file: model,
        found,
        expected,
    })?;
    Ok(Artifact {
        name,
        folder,
        manifest,
    })
}

/// Compares the model with its manifest; an error says what was found and what was expected.
fn check(onnx: &[u8], manifest: &ArtifactManifest) -> Result<(), (String, String)> {
    let (size, digest) = (onnx.len() as u64, Sha256::of(onnx));
    let expected = &manifest.onnx;
    if size != expected.size {
        return Err((format!("{size} bytes"), expected.size.to_string()));
    }
    if digest != expected.sha256 {
        return Err((format!("SHA-256 {digest}"), expected.sha256.to_string()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_its_model_unless_every_run_has_that_name() {
        for (folder, expected) in [
            ("/home/ann/student", "student"),
            ("/home/ann/student/run", "student"),
            ("/home/ann/student/run/artifact", "student"),
            ("/home/ann/student/run/artifact/int8", "student"),
            ("/", ""),
        ] {
            assert_eq!(name_of(Path::new(folder)), expected, "{folder}");
        }
    }

    #[test]
    fn a_folder_without_a_model_says_where_models_are() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("student/run/checkpoints")).unwrap();
        let error = find(folder.path(), None).unwrap_err();
        assert!(error.to_string().contains("run/artifact"), "{error}");
        let missing = find(&folder.path().join("nowhere"), None).unwrap_err();
        assert!(missing.to_string().contains("nowhere"), "{missing}");
    }

    #[test]
    fn half_a_model_names_the_missing_file_and_a_bad_manifest_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let artifact = folder.path().join("student/artifact");
        fs::create_dir_all(&artifact).unwrap();
        fs::write(artifact.join(MANIFEST), "{}").unwrap();
        let error = find(folder.path(), None).unwrap_err().to_string();
        assert!(
            error.contains("student/artifact/model.onnx is missing"),
            "{error}"
        );
        fs::write(artifact.join(MODEL), "x").unwrap();
        let error = find(folder.path(), None).unwrap_err().to_string();
        assert!(
            error.contains("student/artifact/manifest.json: manifest: "),
            "{error}"
        );
    }

    #[test]
    fn the_manifest_of_a_run_is_not_that_of_its_model() {
        let folder = tempfile::tempdir().unwrap();
        let artifact = folder.path().join("artifact");
        fs::create_dir(&artifact).unwrap();
        fs::write(folder.path().join(MANIFEST), "{}").unwrap();
        fs::write(artifact.join(MANIFEST), "{}").unwrap();
        fs::write(artifact.join(MODEL), "x").unwrap();
        assert_eq!(place(folder.path()), Some(artifact));
    }

    #[test]
    fn one_name_is_for_one_model() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join(MODEL), "x").unwrap();
        }
        let error = find(folder.path(), Some("m")).unwrap_err();
        assert_eq!(error.exit_code(), 64);
        assert!(error.to_string().contains("has 2"), "{error}");
        let error = find(&folder.path().join("a"), Some("no name")).unwrap_err();
        assert!(error.to_string().contains("--name"), "{error}");
    }
}
