//! The teacher whose identity all others must share.

use std::fmt;

use artifacts::manifest::TeacherIdentity;

use crate::{
    candidate::Candidate, config::NumericsPolicy, expected::ExpectedTeacher, place::Place,
};

/// The teacher whose identity all others must share.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub origin: Origin,
    pub identity: TeacherIdentity,
    /// In logit order; those of the first teacher that is there.
    pub class_names: Option<Vec<String>>,
}

/// Where the reference is known from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// It is there, the first that fits.
    Place(Place),
    /// The run used it before it was interrupted.
    Checkpoint,
}

impl Reference {
    /// Whether `candidate` may answer beside the reference.
    ///
    /// # Errors
    /// How they differ, for people, both sides named.
    pub fn admits(
        &self,
        candidate: &Candidate,
        expected: &ExpectedTeacher,
        policy: NumericsPolicy,
    ) -> Result<(), String> {
        self.agrees(&candidate.identity, policy)?;
        let by_name = expected.class_names.is_some();
        match &self.class_names {
            Some(names) if by_name && *names != candidate.class_names => Err(format!(
                "has the same weights as {}, but names its classes otherwise or in another order",
                self.origin
            )),
            _ => Ok(()),
        }
    }

    fn agrees(&self, identity: &TeacherIdentity, policy: NumericsPolicy) -> Result<(), String> {
        let Self {
            origin,
            identity: own,
            ..
        } = self;
        if identity.model_id != own.model_id {
            return Err(format!(
                "is model {}, but the run uses model {} of {origin}",
                identity.model_id, own.model_id
            ));
        }
        match policy {
            NumericsPolicy::Any => Ok(()),
            NumericsPolicy::Same if identity == own => Ok(()),
            NumericsPolicy::Same => Err(format!(
                "has the same weights but computes with `{}` (probe {}), while {origin} computes \
                 with `{}` (probe {}); make them alike, or set teacher.numerics = \"any\" and give \
                 up reproducible bits",
                identity.numerics, identity.probe_sha256, own.numerics, own.probe_sha256
            )),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => write!(f, "{place}"),
            Self::Checkpoint => f.write_str("the teacher before the interruption"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(model_id: &str, numerics: &str, probe_sha256: &str) -> TeacherIdentity {
        TeacherIdentity {
            model_id: model_id.into(),
            numerics: numerics.into(),
            probe_sha256: probe_sha256.into(),
        }
    }

    #[test]
    fn only_the_same_bits_agree_unless_any_will_do() {
        let reference = Reference {
            origin: Origin::Place(Place::new("first:1", None)),
            identity: identity("m", "bf16", "p"),
            class_names: None,
        };
        let agrees = |identity: &TeacherIdentity, policy| reference.agrees(identity, policy);
        assert!(agrees(&identity("m", "bf16", "p"), NumericsPolicy::Same).is_ok());
        for (other, both) in [
            (
                identity("m", "f32", "q"),
                ["`f32` (probe q)", "`bf16` (probe p)"],
            ),
            // The descriptor knows nothing of a difference that the probe shows.
            (identity("m", "bf16", "q"), ["(probe q)", "(probe p)"]),
        ] {
            let error = agrees(&other, NumericsPolicy::Same).unwrap_err();
            assert!(error.contains("first:1"), "{error}");
            for side in both {
                assert!(error.contains(side), "{side} is not in: {error}");
            }
            assert!(agrees(&other, NumericsPolicy::Any).is_ok());
        }
        let other = identity("n", "bf16", "p");
        for policy in [NumericsPolicy::Same, NumericsPolicy::Any] {
            let error = agrees(&other, policy).unwrap_err();
            assert!(
                error.contains("model n") && error.contains("model m"),
                "{error}"
            );
        }
        let before = Reference {
            origin: Origin::Checkpoint,
            ..reference
        };
        let error = before.agrees(&other, NumericsPolicy::Same).unwrap_err();
        assert_eq!(
            error,
            "is model n, but the run uses model m of the teacher before the interruption"
        );
    }
}
