use common::config::ConfigError;
use test_support::run_toml::{PhaseToml, RunToml};

use super::*;
use crate::config::RoutedSample;

const BIG: &str = "[teachers.big]\nendpoints = [\"b:1\"]\n";
const WIDE: &str = "[teachers.wide]\nendpoints = [\"w:1\"]\n";
const BOTH: &str = "[ensembles.both]\nteachers = { big = 3, wide = 1 }\n";
const BY_CLASS: &str = "[routes.by_class]\nby = \"class\"\ndefault = \"wide\"\n\
                        teachers = { big = [\"Bag\", \"Sandal\"] }\n";

/// The configuration of a run whose one phase has `loss`.
fn run(loss: &str, tables: &[&str]) -> Result<RunConfig, ConfigError> {
    let toml = RunToml {
        phases: &[PhaseToml {
            loss,
            ..PhaseToml::default()
        }],
        tables: &tables.concat(),
        ..RunToml::default()
    };
    RunConfig::from_toml(&toml.to_string())
}

/// A loss with one term of kind `kd` for each of `teachers`.
fn kd(teachers: &[&str]) -> String {
    let terms = teachers
        .iter()
        .map(|name| format!("{{ kind = \"kd\", temperature = 4, teacher = \"{name}\" }}"));
    format!("[{}]", terms.collect::<Vec<_>>().join(", "))
}

fn learns_from(config: &RunConfig) -> Vec<Option<TermTeachers>> {
    let terms = config.phases[0].loss.terms();
    terms.iter().map(|term| config.teachers_of(term)).collect()
}

#[test]
fn terms_name_teachers_ensembles_and_routes() {
    let tables = [WIDE, BIG, BOTH, BY_CLASS];
    let loss = kd(&["wide", "both", "by_class"]).replace(']', ", { kind = \"cross_entropy\" }]");
    let config = run(&loss, &tables).unwrap();
    assert_eq!(RunConfig::from_toml(&config.to_toml()).unwrap(), config);
    let teachers = config.all_teachers();
    let names: Vec<_> = teachers.iter().map(|teacher| teacher.name).collect();
    assert_eq!(names, [Some("big"), Some("wide")]);
    assert_eq!(teachers[1].pool.unwrap().endpoints, ["w:1"]);
    let [wide, both, by_class, hard] = &learns_from(&config)[..] else {
        panic!("four terms");
    };
    assert_eq!(*wide, Some(TermTeachers::One(1)));
    let ensemble = TeacherEnsemble {
        members: vec![(0, 0.75), (1, 0.25)],
        of: EnsembleMean::Probabilities,
    };
    assert_eq!(*both, Some(TermTeachers::Ensemble(ensemble)));
    assert_eq!(*hard, None);
    assert!(matches!(by_class, Some(TermTeachers::Route(_))));
    for position in 0..2 {
        assert!(config.phase_uses(&config.phases[0], position));
    }
}

/// Classes count from 0 in the order of their names in the configuration: "Sandal" is 5, "Shirt" 6 and "Bag" 8.
#[test]
fn a_route_sends_each_sample_to_the_teacher_that_lists_it_and_the_others_to_the_default() {
    const UNLABELLED: i64 = datasets::IGNORED_LABEL;
    let [big, wide] = [0, 1];
    for (by, teachers, samples) in [
        (
            "class",
            "{ big = [\"Bag\", \"Sandal\"] }",
            vec![
                (0, 8, big),
                (0, 5, big),
                (0, 6, wide),
                (0, UNLABELLED, wide),
            ],
        ),
        (
            "position",
            "{ big = [\"0..5\", \"9..\"], wide = [\"5..7\"] }",
            vec![
                (0, 8, big),
                (4, UNLABELLED, big),
                (5, 8, wide),
                (8, 8, wide),
                (9, 8, big),
                (u32::MAX, 8, big),
            ],
        ),
        (
            "labelled",
            "{ big = [\"labelled\"] }",
            vec![(3, 0, big), (3, UNLABELLED, wide)],
        ),
        (
            "labelled",
            "{ big = [\"unlabelled\"], wide = [\"labelled\"] }",
            vec![(3, 0, wide), (3, UNLABELLED, big)],
        ),
    ] {
        let route =
            format!("[routes.r]\nby = \"{by}\"\ndefault = \"wide\"\nteachers = {teachers}\n");
        let config = run(&kd(&["r"]), &[WIDE, BIG, &route]).unwrap();
        assert_eq!(RunConfig::from_toml(&config.to_toml()).unwrap(), config);
        let [Some(TermTeachers::Route(route))] = &learns_from(&config)[..] else {
            panic!("a route");
        };
        for (position, label, teacher) in samples {
            let found = route.teacher(RoutedSample { position, label });
            assert_eq!(found, teacher, "{by} {teachers}: {position} {label}");
        }
        assert_eq!(route.teachers(), BTreeSet::from([big, wide]));
    }
}

#[test]
fn one_teacher_needs_no_name() {
    let alone = "{ kind = \"kd\", temperature = 4, alpha = 0.9 }";
    for (tables, name) in [
        ("[teacher]\nendpoints = [\"b:1\"]", None),
        (BIG, Some("big")),
    ] {
        let config = run(alone, &[tables]).unwrap();
        let [soft, hard] = &learns_from(&config)[..] else {
            panic!("two terms");
        };
        assert_eq!((soft, hard), (&Some(TermTeachers::One(0)), &None));
        let called = config.teacher_called(Some("teacher")).unwrap();
        assert_eq!((called.position, called.name), (0, name));
        // Files of earlier versions have none of these keys.
        for key in ["teachers", "ensembles", "routes"] {
            assert_eq!(
                config.to_toml().contains(key),
                key == "teachers" && name.is_some()
            );
        }
    }
    // α outside of a list leaves the soft term its teacher.
    let named = "{ kind = \"kd\", temperature = 4, alpha = 0.9, teacher = \"big\" }";
    let terms = run(named, &[BIG]).unwrap().phases[0].loss.terms();
    assert_eq!(terms[0].teacher.as_deref(), Some("big"));
    assert_eq!(terms[1].teacher, None);
}

#[test]
fn every_problem_of_teachers_is_reported_with_its_key() {
    let hard = "[{ kind = \"cross_entropy\", teacher = \"big\" }, \
                { kind = \"kd\", temperature = 4, teacher = \"bigg\" }, \
                { kind = \"kd\", temperature = 4 }]";
    let tables = [
        BIG,
        WIDE,
        "[teachers.\"old one\"]\nendpoints = []\n",
        "[ensembles.big]\nteachers = { big = 0, none = 1 }\n",
        "[ensembles.empty]\nteachers = {}\n",
        "[routes.r]\nby = \"class\"\ndefault = \"absent\"\n\
         teachers = { big = [\"Bag\", \"Cat\"], wide = [\"Bag\"], who = [] }\n",
        "[routes.none]\nby = \"class\"\ndefault = \"wide\"\nteachers = { big = [] }\n",
        "[routes.p]\nby = \"position\"\ndefault = \"wide\"\n\
         teachers = { big = [\"0..9\", \"Bag\"], ghost = [\"30..40\"], wide = [\"20..\"] }\n",
        "[routes.q]\nby = \"position\"\ndefault = \"wide\"\n\
         teachers = { big = [\"7..7\"], wide = [\"0..9\", \"8..12\"] }\n",
        "[routes.l]\nby = \"labelled\"\ndefault = \"wide\"\n\
         teachers = { big = [\"labelled\", \"Bag\"], ghost = [], wide = [\"labelled\"] }\n",
    ];
    let error = run(hard, &tables).unwrap_err().to_string();
    for part in [
        "teachers.old one.endpoints = []: needs at least one",
        "teachers.old one = {…}: has a name that is not 1 to 64",
        "ensembles.big = {…}: has the name of teachers.big",
        "ensembles.big.teachers.big = 0: must be above 0",
        "ensembles.big.teachers.none = 1: none is not a teacher; the run has big, old one, wide",
        "ensembles.empty.teachers = {}: needs at least one",
        "ensembles.empty = {…}: is not used by any term",
        "routes.r.default = absent: absent is not a teacher",
        "routes.r.teachers.big = Cat: is not one of data.class_names",
        "routes.r.teachers.wide = Bag: is also a class of big",
        "routes.r.teachers.who = []: who is not a teacher",
        "routes.r = {…}: is not used by any term",
        "routes.none.teachers.big = []: needs at least one class",
        "routes.p.teachers.big = Bag: is not a range of positions",
        "routes.q.teachers.big = 7..7: is empty",
        "routes.p.teachers.ghost = [\"30..40\"]: ghost is not a teacher",
        "routes.p.teachers.wide = 20..: overlaps 30..40 of ghost",
        "routes.q.teachers.wide = 8..12: overlaps 0..9 of wide",
        "routes.l.teachers.big = Bag: must be \"labelled\" or \"unlabelled\"",
        "routes.l.teachers.ghost = []: ghost is not a teacher",
        "routes.l.teachers.wide = labelled: is also listed for big",
        "phases[0].loss[0].teacher = big: is allowed for terms with soft targets only",
        "phases[0].loss[1].teacher = bigg: is not a teacher, an ensemble or a route; the run has big",
        "phases[0].loss[2].teacher = (none): is missing: the run has several teachers, big",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn the_short_form_and_names_exclude_each_other() {
    let short = "[teacher]\nendpoints = [\"t:1\"]\n";
    let recorded = "[soft_targets]\nmode = \"recorded\"\nviews = 1\nfolder = \"f\"\n";
    let digits = "[soft_targets.teachers]\nbig = \"12\"\nwide = \"34\"\n";
    for (loss, tables, part) in [
        (
            kd(&["big"]),
            vec![short, BIG],
            "teachers = big: is not allowed beside [teacher]",
        ),
        (
            kd(&["big"]),
            vec![short],
            "phases[0].loss[0].teacher = big: is not a teacher: only those of [teachers]",
        ),
        (
            kd(&["big"]),
            vec![short, recorded, digits],
            "soft_targets.teachers = big, wide: is for named teachers",
        ),
        (
            kd(&["big"]),
            vec![BIG, "[soft_targets]\nteacher = \"12\"\n"],
            "soft_targets.teacher = 12: is for the teacher of [teacher]",
        ),
        (
            kd(&["both"]),
            vec![BIG, BOTH, "[soft_targets.teachers]\nwide = \"12\"\n"],
            "teachers.wide = (none): is missing, and soft_targets.teachers names it",
        ),
        (
            kd(&["big"]),
            vec![BIG, "[soft_targets]\nmode = \"recorded\"\nviews = 1\n"],
            "soft_targets.folder = (none): is missing",
        ),
        (
            kd(&["both"]),
            vec![BIG, WIDE, BOTH, recorded],
            "soft_targets.teachers.wide = (none): is missing: the first digits",
        ),
        (
            kd(&["both"]),
            vec![
                BIG,
                WIDE,
                BOTH,
                "[publish]\nendpoint = \"h:1\"\nmodel = \"m\"\n[publish.gate]\nmin_agreement = 0.9",
            ],
            "publish.gate.min_agreement = 0.9: needs [teacher] or a single named teacher",
        ),
    ] {
        let error = run(&loss, &tables).unwrap_err().to_string();
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    // Recordings need no pools, and then name the teachers.
    let config = run(&kd(&["both"]), &[BOTH, recorded, digits]).unwrap();
    let teachers = config.all_teachers();
    assert!(teachers.iter().all(|teacher| teacher.pool.is_none()));
    assert_eq!(teachers[1].recording, Some("34"));
    assert_eq!(RunConfig::from_toml(&config.to_toml()).unwrap(), config);
}

#[test]
fn a_named_teacher_that_cannot_be_reached_cannot_be_recorded() {
    let recorded = "[soft_targets]\nmode = \"recorded\"\nfolder = \"t\"\nviews = 1\n";
    let digits = "[soft_targets.teachers]\nbig = \"12\"\nwide = \"34\"\n";
    let can_record = |tables: &[&str]| {
        let tables = [tables, &[BOTH, recorded, digits]].concat();
        run(&kd(&["both"]), &tables).unwrap().can_record()
    };
    assert_eq!(can_record(&[BIG, WIDE]), Ok(()));
    assert_eq!(
        can_record(&[BIG]),
        Err("[teachers.wide] is missing".to_owned())
    );
    assert_eq!(can_record(&[]), Err("[teacher] is missing".to_owned()));
}

#[test]
fn terms_that_combine_teachers_need_the_logits_of_all_classes() {
    let top_3 = "encoding = \"top-3\"\n";
    for (name, table) in [("both", BOTH), ("by_class", BY_CLASS)] {
        let error = run(&kd(&[name]), &[BIG, WIDE, top_3, table]).unwrap_err();
        let error = error.to_string();
        let part = "phases[0].loss[0] = kd: needs the teacher's logits of all classes, but teachers.wide.encoding = \
                    top-3 keeps 3 of 10";
        assert!(error.contains(part), "{error}");
        assert!(!error.contains("teachers.big.encoding"), "{error}");
        run(&kd(&[name]), &[BIG, WIDE, "encoding = \"top-10\"\n", table]).unwrap();
    }
    run(&kd(&["big", "wide"]), &[BIG, WIDE, top_3]).unwrap();
}

#[test]
fn files_and_addresses_of_every_teacher_are_known_by_their_keys() {
    let token = "token_file = \"wide.token\"\n";
    let config = run(&kd(&["both"]), &[BIG, WIDE, token, BOTH]).unwrap();
    let paths = config.paths();
    let key = "teachers.wide.token_file".to_owned();
    assert!(paths.contains(&(key, std::path::Path::new("wide.token"))));
    let error = run(&kd(&["both"]), &[BIG, WIDE, "prefetch = 0\n", BOTH]).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("teachers.wide.prefetch = 0"), "{error}");
}
