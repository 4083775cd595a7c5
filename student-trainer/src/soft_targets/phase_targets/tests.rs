use test_support::run_toml::{PhaseToml, RunToml};

use super::*;
use datasets::Interpolation;

/// What the terms of one phase learn from: `terms` are names of teachers, ensembles and routes.
fn learned_from(terms: &[&str]) -> Vec<Option<TermTeachers>> {
    let terms = terms
        .iter()
        .map(|name| format!("{{ kind = \"kd\", temperature = 2, teacher = \"{name}\" }}"));
    let loss = format!("[{}]", terms.collect::<Vec<_>>().join(", "));
    let tables = ["a", "b", "c"].map(|name| format!("{name} = {{ endpoints = [\"{name}:1\"] }}\n"));
    let tables = format!(
        "[teachers]\n{}[ensembles.mean]\nteachers = {{ a = 1, c = 1 }}\n\
         [routes.bags]\nby = \"class\"\ndefault = \"c\"\nteachers = {{ a = [\"Bag\"], b = [\"Coat\"] }}\n\
         [routes.coats]\nby = \"class\"\ndefault = \"c\"\nteachers = {{ b = [\"Shirt\"] }}\n",
        tables.concat()
    );
    // A phase of its own uses everything that the configuration names.
    let everything = "[{ kind = \"kd\", temperature = 1, teacher = \"mean\" }, \
                      { kind = \"kd\", temperature = 1, teacher = \"bags\" }, \
                      { kind = \"kd\", temperature = 1, teacher = \"coats\" }]";
    let toml = RunToml {
        phases: &[
            PhaseToml {
                loss: &loss,
                ..PhaseToml::default()
            },
            PhaseToml {
                loss: everything,
                ..PhaseToml::default()
            },
        ],
        tables: &tables,
        ..RunToml::default()
    };
    let config = RunConfig::from_toml(&toml.to_string()).unwrap();
    let terms = config.phases[0].loss.terms();
    terms.iter().map(|term| config.teachers_of(term)).collect()
}

#[test]
fn a_teacher_gets_the_samples_of_its_routes_unless_a_term_needs_it_for_all() {
    let [a, b, c] = [0, 1, 2];
    let routed = learned_from(&["bags"]);
    for teacher in [a, b, c] {
        assert_eq!(routes_to(teacher, &routed).map(|it| it.len()), Some(1));
    }
    let twice = learned_from(&["bags", "coats"]);
    let counts = [a, b, c].map(|teacher| routes_to(teacher, &twice).map(|it| it.len()));
    assert_eq!(counts, [Some(1), Some(2), Some(2)]);
    for whole in ["c", "mean"] {
        let terms = learned_from(&["bags", whole]);
        assert_eq!(routes_to(c, &terms), None, "{whole}");
        assert!(routes_to(b, &terms).is_some());
        assert_eq!(routes_to(a, &terms).is_none(), whole == "mean");
    }
}

#[test]
fn rows_are_selected_whole_and_in_order() {
    let values = Bytes::from((0..12).collect::<Vec<u8>>());
    assert_eq!(select(&values, 4, &[1, 3]), [3_u8, 4, 5, 9, 10, 11][..]);
    assert_eq!(select(&values, 6, &[0]), [0_u8, 1][..]);
}

#[test]
fn teachers_with_the_same_input_share_it() {
    let input = |side: usize| Target {
        shape: vec![1, side, side],
        interpolation: Interpolation::Bilinear,
    };
    let mut inputs = Vec::new();
    let positions = [8, 16, 8].map(|side| index_of(input(side), &mut inputs));
    assert_eq!(positions, [0, 1, 0]);
    assert_eq!(inputs, [input(8), input(16)]);
}
