//! Whether the teachers of a resumed run are those that it used before.

use artifacts::manifest::TeacherIdentity;
use common::digest::Sha256;

use super::{
    resume::ResumeError,
    teachers::{RunTeachers, UsedTeacher},
};
use crate::{config::RunConfig, soft_targets::TeacherSupplies};

/// The teachers that the run used `before` it was interrupted, with those of `supplies`, which it uses now.
///
/// # Errors
/// [`ResumeError::OtherTeacher`] if one of them is another than before.
pub(super) fn continued(
    mut before: RunTeachers,
    supplies: &TeacherSupplies<'_>,
    config: &RunConfig,
) -> Result<RunTeachers, ResumeError> {
    for supplied in supplies.teachers() {
        let now = UsedTeacher {
            identity: supplied.identity.clone(),
            class_order: supplied.class_order,
        };
        if let Some(before) = before.get(supplied.name) {
            let mixes_numerics = config.mixes_numerics(supplied.name);
            check(supplied.name, before, &now, mixes_numerics)?;
        }
        before.set(supplied.name, now);
    }
    Ok(before)
}

/// Compares a teacher with the one that the run used before. Their weights, and the order into which their classes are
/// brought, must be the same; their numerics may differ if the run mixes numerics anyway.
fn check(
    name: Option<&str>,
    before: &UsedTeacher,
    now: &UsedTeacher,
    mixes_numerics: bool,
) -> Result<(), ResumeError> {
    let other = |before: String, now: String| {
        Err(ResumeError::OtherTeacher {
            name: name.map(str::to_owned),
            before,
            now,
        })
    };
    let same_model = before.identity.model_id == now.identity.model_id;
    if before.identity != now.identity && !(mixes_numerics && same_model) {
        return other(identity(before), identity(now));
    }
    if before.class_order != now.class_order {
        return other(order(before), order(now));
    }
    Ok(())
}

fn identity(teacher: &UsedTeacher) -> String {
    let TeacherIdentity {
        model_id,
        numerics,
        probe_sha256,
    } = &teacher.identity;
    format!("model {model_id} with `{numerics}` (probe {probe_sha256})")
}

fn order(teacher: &UsedTeacher) -> String {
    match teacher.class_order.as_ref().map(Sha256::as_str) {
        Some(order) => format!(
            "of classes in another order than the data's ({})",
            &order[..12]
        ),
        None => "of classes in the data's order".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_model_or_order_of_classes_is_refused_by_the_name_of_its_teacher() {
        let teacher = |model_id: &str, numerics: &str, order: Option<&str>| UsedTeacher {
            identity: TeacherIdentity {
                model_id: model_id.to_owned(),
                numerics: numerics.to_owned(),
                probe_sha256: "p".to_owned(),
            },
            class_order: order.map(|order| Sha256::of(order.as_bytes())),
        };
        let before = teacher("a", "f32", None);
        let refusal = |name, now: &UsedTeacher, mixes_numerics| {
            let refused = check(name, &before, now, mixes_numerics);
            refused.err().map(|error| error.to_string())
        };
        assert_eq!(refusal(None, &before, false), None);
        let other_numerics = teacher("a", "bf16", None);
        assert_eq!(refusal(Some("big"), &other_numerics, true), None);
        for (now, part) in [
            (other_numerics, "model a with `bf16`"),
            (teacher("b", "f32", None), "model b with `f32`"),
            (teacher("a", "f32", Some("o")), "classes in another order"),
        ] {
            let named = refusal(Some("big"), &now, false).unwrap();
            assert!(named.contains("the teachers called big are"), "{named}");
            let single = refusal(None, &now, false).unwrap();
            assert!(single.contains("the teachers are"), "{single}");
            assert!(named.contains(part) && single.contains(part), "{named}");
        }
    }
}
