use common::config::ConfigError;
use test_support::run_toml::{PhaseToml, RunToml};

use super::*;
use crate::config::RunConfig;

const TEACHER: &str = "[teacher]\nendpoints = [\"t:1\"]";

/// The configuration of a run whose second phase has `loss`.
fn run(loss: &str, tables: &str) -> Result<RunConfig, ConfigError> {
    let toml = RunToml {
        phases: &[
            PhaseToml::default(),
            PhaseToml {
                loss,
                ..PhaseToml::default()
            },
        ],
        tables,
        ..RunToml::default()
    };
    RunConfig::from_toml(&toml.to_string())
}

fn refusal(loss: &str, tables: &str) -> String {
    run(loss, tables).unwrap_err().to_string()
}

#[test]
fn every_form_resolves_to_itself_and_to_its_terms() {
    for (loss, kinds, weights) in [
        (
            "{ kind = \"cross_entropy\" }",
            &["cross_entropy"][..],
            &[1.0][..],
        ),
        (
            "{ kind = \"kd\", temperature = 4, alpha = 0.75 }",
            &["kd", "cross_entropy"],
            &[0.75, 0.25],
        ),
        (
            "{ kind = \"kd\", temperature = 4, alpha = 1, standardize = true }",
            &["kd"],
            &[1.0],
        ),
        (
            "[{ kind = \"kd\", weight = 0.9, temperature = 4 }, \
             { kind = \"cross_entropy\", weight = 0.1, label_smoothing = 0.1 }]",
            &["kd", "cross_entropy"],
            &[0.9, 0.1],
        ),
        (
            "[{ kind = \"dkd\", temperature = 4, warm_up = 20 }, { kind = \"dist\", weight = 2 }, \
             { kind = \"wttm\", gamma = 0.5 }, { kind = \"rld\", temperature = 4, standardize = true }, \
             { kind = \"mse_logits\" }, { kind = \"mlkd_instance\", temperatures = [2, 3.5] }, \
             { kind = \"mlkd_batch\", temperatures = [2] }, { kind = \"mlkd_class\", temperatures = [2] }, \
             { kind = \"soft_cross_entropy\", temperature = 2 }]",
            &[
                "dkd",
                "dist",
                "wttm",
                "rld",
                "mse_logits",
                "mlkd_instance",
                "mlkd_batch",
                "mlkd_class",
                "soft_cross_entropy",
            ],
            &[1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        ),
    ] {
        let config = run(loss, TEACHER).unwrap();
        let terms = config.phases[1].loss.terms();
        assert!(
            terms
                .iter()
                .map(|term| term.kind.as_str())
                .eq(kinds.iter().copied()),
            "{loss}"
        );
        assert!(
            terms
                .iter()
                .map(|term| term.weight)
                .eq(weights.iter().copied()),
            "{loss}"
        );
        assert_eq!(RunConfig::from_toml(&config.to_toml()).unwrap(), config);
    }
}

#[test]
fn the_values_of_the_papers_are_the_defaults() {
    let config = run(
        "[{ kind = \"dkd\", temperature = 4 }, { kind = \"rld\", temperature = 4 }]",
        TEACHER,
    );
    let terms = config.unwrap().phases[1].loss.terms();
    let dkd = DkdConfig {
        temperature: 4.0,
        alpha: 1.0,
        beta: 8.0,
        warm_up: 0,
    };
    assert_eq!(terms[0].kind, LossKind::Dkd(dkd));
    assert_eq!(
        [1, 2, 9].map(|epoch| terms[0].kind.warm_up(epoch)),
        [1.0; 3]
    );
    let rising = LossKind::Dkd(DkdConfig { warm_up: 4, ..dkd });
    assert_eq!(
        [1, 2, 4, 9].map(|epoch| rising.warm_up(epoch)),
        [0.25, 0.5, 1.0, 1.0]
    );
    let rld = RldConfig {
        temperature: 4.0,
        confidence_temperature: 1.0,
        alpha: 1.0,
        beta: 8.0,
        warm_up: 0,
    };
    assert_eq!(terms[1].kind, LossKind::Rld(rld));
}

#[test]
fn problems_name_the_key_of_the_term() {
    for (loss, part) in [
        ("[]", "phases[1].loss = []: needs at least one term"),
        ("\"kd\"", "expected a table or a list of tables"),
        (
            "{ kind = \"kd\", temperature = 4 }",
            "phases[1].loss.alpha = (none): is missing: it is the weight of the soft term",
        ),
        (
            "[{ kind = \"cross_entropy\" }, { kind = \"kd\", temperature = 4, alpha = 0.9 }]",
            "phases[1].loss[1].alpha = 0.9: is not allowed in a list",
        ),
        (
            "[{ kind = \"cross_entropy\", weight = 0 }]",
            "phases[1].loss[0].weight = 0: must be above 0",
        ),
        (
            "{ kind = \"cross_entropy\", weight = -1 }",
            "phases[1].loss.weight = -1: must be above 0",
        ),
        (
            "[{ kind = \"cross_entropy\", standardize = true }]",
            "phases[1].loss[0].standardize = true: is allowed for terms with soft targets only",
        ),
        (
            "[{ kind = \"cross_entropy\", label_smoothing = 1.5 }]",
            "phases[1].loss[0].label_smoothing = 1.5: must be from 0 to 1",
        ),
        (
            "[{ kind = \"dkd\", temperature = 0, alpha = -1 }]",
            "phases[1].loss[0].temperature = 0: must be above 0",
        ),
        (
            "[{ kind = \"dkd\", temperature = 0, alpha = -1 }]",
            "phases[1].loss[0].alpha = -1: must be 0 or more",
        ),
        (
            "[{ kind = \"dist\", beta = 0, gamma = 0 }]",
            "phases[1].loss[0].beta = 0: must be above 0 if phases[1].loss[0].gamma is 0",
        ),
        (
            "[{ kind = \"dist\", tau = 0 }]",
            "phases[1].loss[0].tau = 0: must be above 0",
        ),
        (
            "[{ kind = \"wttm\", gamma = 0 }]",
            "phases[1].loss[0].gamma = 0: must be above 0",
        ),
        (
            "[{ kind = \"rld\", temperature = 4, confidence_temperature = 0 }]",
            "phases[1].loss[0].confidence_temperature = 0: must be above 0",
        ),
        (
            "[{ kind = \"mlkd_class\", temperatures = [1, 0] }]",
            "phases[1].loss[0].temperatures[1] = 0: must be above 0",
        ),
        (
            "[{ kind = \"mlkd_batch\", temperatures = [] }]",
            "phases[1].loss[0].temperatures = []: needs at least one",
        ),
        // Keys of other terms are unknown.
        (
            "[{ kind = \"mse_logits\" }, { kind = \"mse_logits\", temperature = 2 }]",
            "unknown field `temperature`",
        ),
        ("[{ kind = \"dist\", alpha = 2 }]", "unknown field `alpha`"),
        (
            "[{ kind = \"kd\", temperature = 2, wieght = 2 }]",
            "unknown field `wieght`",
        ),
        ("[{ kind = \"hinge\" }]", "unknown variant `hinge`"),
        ("[{ temperature = 2 }]", "missing field `kind`"),
    ] {
        let said = refusal(loss, TEACHER);
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let said = refusal("[{ kind = \"mse_logits\" }, { kind = \"hinge\" }]", TEACHER);
    assert!(said.contains("phases[1].loss[1]"), "{said}");
}

#[test]
fn a_missing_teacher_is_named_with_the_first_term_that_needs_one() {
    let said = refusal("[{ kind = \"cross_entropy\" }, { kind = \"dist\" }]", "");
    let part =
        "teacher = (none): is missing, and phases[1].loss[1] (dist) needs a teacher's soft targets";
    assert!(said.contains(part), "{said}");
    let labels_alone =
        "[{ kind = \"cross_entropy\" }, { kind = \"cross_entropy\", label_smoothing = 0.1 }]";
    let config = run(labels_alone, "").unwrap();
    assert!(config.phases[1].loss.needs_labels() && !config.needs_soft_targets());
}

#[test]
fn terms_that_need_all_logits_are_refused_with_encodings_that_drop_some() {
    let encodings = |teacher: &str, recording: &str| {
        format!(
            "{TEACHER}\nencoding = \"{teacher}\"\n[soft_targets]\nmode = \"recorded\"\nfolder = \"f\"\nviews = 1\n\
             encoding = \"{recording}\""
        )
    };
    let live = |encoding: &str| format!("{TEACHER}\nencoding = \"{encoding}\"");
    let with_kd = |term: &str| format!("[{{ kind = \"kd\", temperature = 4 }}, {term}]");
    for (term, kind) in [
        ("{ kind = \"dkd\", temperature = 4 }", "dkd"),
        ("{ kind = \"dist\" }", "dist"),
        ("{ kind = \"rld\", temperature = 4 }", "rld"),
        ("{ kind = \"mse_logits\" }", "mse_logits"),
        (
            "{ kind = \"mlkd_batch\", temperatures = [2] }",
            "mlkd_batch",
        ),
        (
            "{ kind = \"mlkd_class\", temperatures = [2] }",
            "mlkd_class",
        ),
        (
            "{ kind = \"wttm\", gamma = 0.5, standardize = true }",
            "wttm, standardized",
        ),
    ] {
        let loss = with_kd(term);
        let said = refusal(&loss, &live("top-9"));
        let part = format!(
            "phases[1].loss[1] = {kind}: needs the teacher's logits of all classes, but teacher.encoding = top-9 keeps \
             9 of 10; use \"f32\" or \"f16\""
        );
        assert!(
            said.contains(&part) && !said.contains("loss[0]"),
            "{part} is not in: {said}"
        );
        // A recording replaces the teacher.
        let said = refusal(&loss, &encodings("top-3", "top-3"));
        assert!(
            said.contains("soft_targets.encoding = top-3 keeps 3 of 10"),
            "{said}"
        );
        assert!(!said.contains("teacher.encoding"), "{said}");
        for tables in [live("f16"), live("top-10"), encodings("top-3", "f32")] {
            run(&loss, &tables).unwrap();
        }
    }
    for term in [
        "{ kind = \"cross_entropy\" }",
        "{ kind = \"soft_cross_entropy\", temperature = 2 }",
        "{ kind = \"wttm\", gamma = 0.5 }",
        "{ kind = \"mlkd_instance\", temperatures = [2] }",
    ] {
        run(&with_kd(term), &live("top-1")).unwrap();
    }
}

#[test]
fn sampled_encodings_serve_only_terms_that_are_linear_in_the_probabilities_at_their_temperature() {
    let live = |encoding: &str| format!("{TEACHER}\nencoding = \"{encoding}\"");
    for (loss, encoding) in [
        (
            "{ kind = \"soft_cross_entropy\", temperature = 1 }",
            "sampled-50",
        ),
        (
            "{ kind = \"kd\", temperature = 4, alpha = 0.9 }",
            "sampled-50-t4",
        ),
        (
            "[{ kind = \"kd\", temperature = 4 }, { kind = \"soft_cross_entropy\", temperature = 4 }, \
             { kind = \"cross_entropy\" }]",
            "sampled-8-t4",
        ),
    ] {
        run(loss, &live(encoding)).unwrap();
    }
    let all = "needs the teacher's logits of all classes, but teacher.encoding = sampled-50-t4 has drawn classes and \
               no logits; use \"f32\" or \"f16\"";
    let some = "needs the teacher's logits, but teacher.encoding = sampled-50-t4 has drawn classes and no logits; \
                use \"f32\", \"f16\" or \"top-K\"";
    let at = |needed: &str, instead: &str| {
        format!(
            "needs classes drawn at its temperature, {needed}, but teacher.encoding = sampled-50-t4 draws at \
             temperature 4; use {instead}"
        )
    };
    for (term, kind, message) in [
        ("{ kind = \"dkd\", temperature = 4 }", "dkd", all),
        ("{ kind = \"dist\" }", "dist", all),
        ("{ kind = \"rld\", temperature = 4 }", "rld", all),
        ("{ kind = \"mse_logits\" }", "mse_logits", all),
        (
            "{ kind = \"mlkd_batch\", temperatures = [4] }",
            "mlkd_batch",
            all,
        ),
        (
            "{ kind = \"mlkd_class\", temperatures = [4] }",
            "mlkd_class",
            all,
        ),
        (
            "{ kind = \"kd\", temperature = 4, standardize = true }",
            "kd, standardized",
            all,
        ),
        ("{ kind = \"wttm\", gamma = 0.25 }", "wttm", some),
        (
            "{ kind = \"mlkd_instance\", temperatures = [4] }",
            "mlkd_instance",
            some,
        ),
        (
            "{ kind = \"kd\", temperature = 1 }",
            "kd",
            &at("1", "\"sampled-50\""),
        ),
        (
            "{ kind = \"soft_cross_entropy\", temperature = 2 }",
            "soft_cross_entropy",
            &at("2", "\"sampled-50-t2\""),
        ),
        (
            "{ kind = \"kd\", temperature = 2.5 }",
            "kd",
            &at("2.5", "\"f32\", \"f16\" or \"top-K\""),
        ),
    ] {
        let loss = format!("[{{ kind = \"kd\", temperature = 4 }}, {term}]");
        let said = refusal(&loss, &live("sampled-50-t4"));
        let part = format!("phases[1].loss[1] = {kind}: {message}");
        assert!(
            said.contains(&part) && !said.contains("loss[0]"),
            "{part} is not in: {said}"
        );
        // A recording replaces the teacher.
        let recorded = "[soft_targets]\nmode = \"recorded\"\nfolder = \"f\"\nviews = 1\nencoding = \"sampled-50-t4\"";
        let said = refusal(&loss, recorded);
        let part = part.replace("teacher.encoding", "soft_targets.encoding");
        assert!(said.contains(&part), "{part} is not in: {said}");
    }
}

#[test]
fn single_keys_of_a_term_can_be_overridden() {
    let toml = RunToml {
        phases: &[PhaseToml {
            loss: "[{ kind = \"kd\", temperature = 4 }, { kind = \"cross_entropy\" }]",
            ..PhaseToml::default()
        }],
        tables: TEACHER,
        ..RunToml::default()
    };
    let overrides = [
        "phases[0].loss[0].temperature=2",
        "phases[0].loss[0].standardize=true",
        "phases[0].loss[1].weight=0.5",
    ];
    let config = RunConfig::from_submitted(&toml.to_string(), &overrides.map(str::to_owned));
    let terms = config.unwrap().phases[0].loss.terms();
    let kd = LossKind::Kd {
        temperature: 2.0,
        alpha: None,
    };
    assert!(terms[0].kind == kd && terms[0].standardize, "{terms:?}");
    assert_eq!(terms[1].weight, 0.5);
}

#[test]
fn terms_without_a_value_for_mixed_samples_are_refused_by_name() {
    let mixing = format!("{TEACHER}\n[data.augmentation]\nmixup = {{ alpha = 0.2 }}");
    for kind in ["dkd", "rld"] {
        let loss = format!("[{{ kind = \"{kind}\", temperature = 4 }}]");
        assert!(run(&loss, TEACHER).is_ok());
        let error = refusal(&loss, &mixing);
        let part = format!("phases[1].loss[0] = {kind}: treats the class of the label");
        assert!(error.contains(&part), "{part} is not in: {error}");
    }
    let all =
        "[{ kind = \"kd\", temperature = 4 }, { kind = \"cross_entropy\", label_smoothing = 0.1 }]";
    run(all, &mixing).unwrap();
}
