//! What a publisher should know of a model beside that it can be served.

use std::sync::Arc;

use artifacts::{
    manifest::ArtifactManifest,
    model_store::{ModelName, ModelStore},
};
use soft_targets::ClassMatch;
use tracing::warn;

use super::{Publisher, upload::Upload};
use crate::error::PublishError;

impl Publisher {
    /// Whether `upload` could be published; changes nothing.
    pub(super) async fn check(&self, upload: Upload) -> Result<(), PublishError> {
        let Upload {
            model,
            onnx,
            manifest,
            ..
        } = upload;
        let candidate = self.candidate(&model, onnx, Arc::new(manifest));
        let checked = candidate.check().await?;
        // The versions that are loaded now may be unloaded by the time of the publish.
        self.check_memory(checked.memory_bytes, u64::MAX)
    }

    /// What changes for the clients of `model` with a version of `manifest`, for people; in the log too. It is
    /// no reason to refuse it: a model may well get another class.
    pub(super) async fn warnings(
        self: &Arc<Self>,
        model: &ModelName,
        manifest: &ArtifactManifest,
    ) -> Vec<String> {
        let name = model.clone();
        let active = move |store: &ModelStore| {
            let active = store.active(&name)?;
            let manifest = active.map(|active| store.manifest(&name, active.version));
            Ok(active.zip(manifest.transpose()?))
        };
        // Other listings report what is wrong with the active version.
        let Ok(Some((active, before))) = self.blocking(active).await else {
            return Vec::new();
        };
        let change = class_change(&before.class_names, &manifest.class_names);
        let warning = change.map(|change| {
            format!(
                "the classes are not those of the active version {} of `{model}`: {change}. Clients that know \
                 them by position will read wrong classes",
                active.version
            )
        });
        if let Some(warning) = &warning {
            warn!(%model, "{warning}");
        }
        warning.into_iter().collect()
    }
}

/// How the classes `now` differ from those `before`, for people.
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
    fn a_change_of_classes_is_told_and_none_is_not() {
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
