//! The teacher whose identity all others must share.

use std::fmt;

use artifacts::manifest::TeacherIdentity;

use crate::{config::NumericsPolicy, teacher::TeacherAddress};

/// The teacher whose identity all others must share.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub origin: Origin,
    pub identity: TeacherIdentity,
}

/// Where the reference comes from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// The first connected teacher that fits.
    Teacher(TeacherAddress),
    /// The teacher that the run used before it was interrupted.
    Checkpoint,
}

impl Reference {
    /// Checks that a teacher of `identity` gives the same answers as the reference, as far as `policy` requires.
    ///
    /// # Errors
    /// How they differ, in words for the user; the text names both sides.
    pub fn accept(&self, identity: &TeacherIdentity, policy: NumericsPolicy) -> Result<(), String> {
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
                 with `{}` (probe {}); make their numerics the same, or set teacher.numerics = \
                 \"any\" if the result need not be bit-identical",
                identity.numerics, identity.probe_sha256, own.numerics, own.probe_sha256
            )),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Teacher(teacher) => write!(f, "{teacher}"),
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
    fn numerics_must_be_the_same_unless_the_policy_is_any() {
        let reference = Reference {
            origin: Origin::Teacher(TeacherAddress::new("first:1", None)),
            identity: identity("m", "bf16", "p"),
        };
        let check = |identity: &TeacherIdentity, policy| reference.accept(identity, policy);
        assert!(check(&identity("m", "bf16", "p"), NumericsPolicy::Same).is_ok());
        for (other, both) in [
            (
                identity("m", "f32", "q"),
                ["`f32` (probe q)", "`bf16` (probe p)"],
            ),
            // The probe shows a difference that the descriptor does not.
            (identity("m", "bf16", "q"), ["(probe q)", "(probe p)"]),
        ] {
            let error = check(&other, NumericsPolicy::Same).unwrap_err();
            assert!(error.contains("first:1"), "{error}");
            for side in both {
                assert!(error.contains(side), "{side} is not in: {error}");
            }
            assert!(check(&other, NumericsPolicy::Any).is_ok());
        }
        let other = identity("n", "bf16", "p");
        for policy in [NumericsPolicy::Same, NumericsPolicy::Any] {
            let error = check(&other, policy).unwrap_err();
            assert!(
                error.contains("model n") && error.contains("model m"),
                "{error}"
            );
        }
        let from_checkpoint = Reference {
            origin: Origin::Checkpoint,
            ..reference
        };
        let error = from_checkpoint
            .accept(&other, NumericsPolicy::Same)
            .unwrap_err();
        assert_eq!(
            error,
            "is model n, but the run uses model m of the teacher before the interruption"
        );
    }
}
