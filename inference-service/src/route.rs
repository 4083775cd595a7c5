//! The way of one request: the version that answers it, and who observes it.

use std::sync::Arc;

use crate::{canary::Observer, loaded_version::LoadedVersion};

/// The version that answers a request.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) version: Arc<LoadedVersion>,
    /// During the trial of a canary, if the request names no version.
    pub(crate) observer: Option<Observer>,
}

impl Route {
    /// A request that `version` answers and no trial observes.
    pub(crate) fn to(version: &Arc<LoadedVersion>) -> Self {
        Self {
            version: Arc::clone(version),
            observer: None,
        }
    }
}
