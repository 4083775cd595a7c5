//! The `export` command: copies the models that a store serves into the layout of a store in a folder.

use std::{
    env,
    path::{self, Component, Path, PathBuf},
    time::Duration,
};

use artifacts::model_store::{self, Access, ExportTarget, ModelName, ModelStore, StoreOptions};
use common::output::Messages;
use object_storage::Location;
use server::program::{OtherExit, USAGE_EXIT_CODE};

/// The options of the `export` command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  inference-service export --store s3://bucket/models exported
  inference-service export --store s3://bucket/models --model fashion-mnist s3://bucket/kserve/1
KServe serves the second one with storageUri: s3://bucket/kserve/1")]
pub struct ExportArguments {
    /// Folder of the model store, or URL of a bucket (s3://, gs://, az://).
    #[arg(long, value_name = "DIR|URL")]
    store: PathBuf,
    /// Model to export; may be repeated. By default, all models with an active version.
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<ModelName>,
    /// Folder for the copies, or URL of a prefix in a bucket.
    #[arg(value_name = "DIR|URL")]
    target: PathBuf,
    /// Seconds to wait for a bucket that does not answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    bucket_patience: u32,
}

impl ExportArguments {
    /// Copies the active versions. Must not be called on a thread of an async runtime.
    ///
    /// # Errors
    /// If store and target overlap, no model is exported, a model that was named has no active version, or a file cannot be
    /// read or written.
    pub fn export(&self) -> anyhow::Result<()> {
        let store = location("--store", &self.store)?;
        let target = location("the target", &self.target)?;
        if overlap(&store, &target) {
            return Err(usage(format!(
                "{} and {} overlap; export to another place",
                self.store.display(),
                self.target.display()
            )));
        }
        let patience = Duration::from_secs(self.bucket_patience.into());
        let options = StoreOptions {
            access: Access::ReadOnly,
            // Each file is read once, so no copies are kept.
            cache: env::temp_dir(),
            max_cache_bytes: 0,
            patience,
        };
        let store = model_store::open(&store, &options)?;
        let models = match &self.models[..] {
            [] => store.models()?,
            named => named.to_vec(),
        };
        let target = ExportTarget::open(&target, patience)?;
        let mut exported = 0;
        for model in &models {
            exported += usize::from(self.export_model(&*store, &target, model)?);
        }
        if exported == 0 {
            anyhow::bail!("no model in {} has an active version", self.store.display());
        }
        Ok(())
    }

    /// Copies a model; returns whether it has an active version.
    fn export_model(
        &self,
        store: &dyn ModelStore,
        target: &ExportTarget,
        model: &ModelName,
    ) -> anyhow::Result<bool> {
        match target.export(store, model)? {
            Some(exported) => {
                let there = if exported.was_there { " already" } else { "" };
                let (version, target) = (exported.version, self.target.display());
                writeln!(Messages, "{model}: version {version} is{there} in {target}");
                Ok(true)
            }
            None if self.models.is_empty() => {
                writeln!(
                    Messages,
                    "{model}: left out, because it has no active version"
                );
                Ok(false)
            }
            None => anyhow::bail!(
                "model `{model}` has no active version in {}",
                self.store.display()
            ),
        }
    }
}

fn location(what: &str, path: &Path) -> anyhow::Result<Location> {
    Location::parse(path).map_err(|error| usage(format!("{what}: {}: {error}", path.display())))
}

/// Whether a file of one could be a file of the other.
fn overlap(one: &Location, other: &Location) -> bool {
    match (one, other) {
        (Location::Folder(one), Location::Folder(other)) => {
            let [one, other] = [one, other].map(|folder| resolved(folder));
            one.starts_with(&other) || other.starts_with(&one)
        }
        (Location::Bucket(one), Location::Bucket(other)) => {
            one.contains(other) || other.contains(one)
        }
        _ => false,
    }
}

/// The absolute path of the folder without links, also if it does not exist yet: links can lead to the part that exists.
fn resolved(folder: &Path) -> PathBuf {
    let absolute = path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let mut resolved = PathBuf::new();
    for part in absolute.components() {
        if part == Component::ParentDir {
            resolved.pop();
            continue;
        }
        resolved.push(part);
        if let Ok(found) = resolved.canonicalize() {
            resolved = found;
        }
    }
    resolved
}

fn usage(message: String) -> anyhow::Error {
    let code = USAGE_EXIT_CODE;
    OtherExit { code, message }.into()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn folders_overlap_also_through_links_and_before_they_exist() {
        let root = tempfile::tempdir().unwrap();
        let path = |path: &str| root.path().join(path);
        for folder in ["store/digits", "elsewhere"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        symlink("store", path("link")).unwrap();
        symlink("../store/digits", path("elsewhere/link")).unwrap();
        let overlaps = |target: &str| {
            let [store, target] = ["store", target].map(|it| Location::Folder(path(it)));
            let found = overlap(&store, &target);
            assert_eq!(found, overlap(&target, &store));
            found
        };
        for (target, expected) in [
            ("store", true),
            ("", true),
            ("store/new", true),
            ("link", true),
            ("link/new", true),
            ("link/new/below", true),
            ("elsewhere/link/new", true),
            ("elsewhere/link/../new", true),
            ("new/../store/new", true),
            ("new/../link/new", true),
            ("elsewhere", false),
            ("elsewhere/new", false),
            ("new", false),
            ("store-2", false),
            ("link/../new", false),
            ("store/../new", false),
        ] {
            assert_eq!(overlaps(target), expected, "{target}");
        }
    }
}
