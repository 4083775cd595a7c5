//! Checks before a publish, and warnings about the model that are no reason to reject it.

use std::sync::Arc;

use artifacts::{
    manifest::ArtifactManifest,
    model_store::{ModelName, ModelStore},
};
use soft_targets::ClassMatch;
use tracing::warn;

use super::{Publisher, Upload};
use crate::error::PublishError;

impl Publisher {
    /// Checks whether `upload` could be published. Changes nothing.
    pub(crate) async fn check(&self, upload: Upload) -> Result<(), PublishError> {
        let canary = self.canary_place(&upload);
        let Upload {
            model,
            onnx,
            manifest,
            signed,
            ..
        } = upload;
        self.store.check_writable()?;
        let candidate = self.candidate(&model, onnx, manifest, signed)?;
        if let Some(place) = canary {
            self.check_replaces(&model, place.active, &candidate.manifest)?;
        }
        let checked = candidate.check().await?;
        // The versions that are loaded now may be unloaded by the time of the publish.
        self.check_memory(checked.memory_bytes, u64::MAX)
    }

    /// Warnings about what changes for clients of `model` with a version of `manifest`. They are logged too, and
    /// do not prevent the publish: new classes may be intended.
    pub(crate) async fn warnings(
        self: &Arc<Self>,
        model: &ModelName,
        manifest: &ArtifactManifest,
    ) -> Vec<String> {
        let name = model.clone();
        let active = move |store: &dyn ModelStore| {
            let active = store.active(&name)?;
            let manifest = active.map(|active| store.manifest(&name, active.version));
            Ok(active.zip(manifest.transpose()?))
        };
        // Errors of the active version are reported elsewhere.
        let Ok(Some((active, before))) = self.blocking(active).await else {
            return Vec::new();
        };
        let change = class_change(&before.class_names, &manifest.class_names);
        let warning = change.map(|change| {
            format!(
                "the classes differ from those of the active version {} of `{model}`: {change}. Clients that \
                 identify classes by index will get wrong classes",
                active.version
            )
        });
        if let Some(warning) = &warning {
            warn!(%model, "{warning}");
        }
        warning.into_iter().collect()
    }
}

/// Describes how the classes changed, if they did.
fn class_change(before: &[String], now: &[String]) -> Option<String> {
    match ClassMatch::of(now, before) {
        Ok(ClassMatch::Same) => None,
        Ok(ClassMatch::Reordered(_)) => Some("the same names in another order".to_owned()),
        Ok(ClassMatch::Unnamed) => Some("the names of one of them are empty".to_owned()),
        Err(differ) => Some(differ.lists("the new version", "the active one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_of_classes_gives_a_warning() {
        let names = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let change = |before, now| class_change(&names(before), &names(now));
        assert_eq!(change("a b", "a b"), None);
        assert_eq!(
            change("a b", "b a").unwrap(),
            "the same names in another order"
        );
        assert_eq!(
            change("a b", "a c d").unwrap(),
            "only the new version has \"c\", \"d\"; only the active one has \"b\""
        );
    }
}
