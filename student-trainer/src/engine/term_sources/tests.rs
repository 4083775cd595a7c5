use soft_targets::{Encoder, Encoding};
use tch::Kind;

use super::*;
use crate::engine::loss::{Targets, loss};

const CLASSES: usize = 3;
const BIG: [f32; 6] = [2.0, 0.0, -1.0, 0.5, 1.5, 0.0];
const WIDE: [f32; 6] = [-1.0, 1.0, 0.0, 3.0, 0.0, 1.0];
const STUDENT: [f32; 6] = [0.3, -0.2, 0.1, 0.0, 0.4, -0.5];

fn answer(logits: &[f32], rows: Option<&[usize]>) -> Option<Answer> {
    let targets = Encoder::default().encode(Encoding::F32, logits, CLASSES);
    let answer = TeacherAnswer {
        targets: targets.unwrap(),
        rows: rows.map(<[usize]>::to_vec),
    };
    Some(Answer::new(answer, Device::Cpu).unwrap())
}

/// Samples with `labels`, at positions from 0.
fn labelled(labels: &[i64]) -> Vec<RoutedSample> {
    let labels = (0..).zip(labels);
    labels
        .map(|(position, label)| RoutedSample {
            position,
            label: *label,
        })
        .collect()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.reshape([-1]).to_kind(Kind::Double)).unwrap()
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
    }
}

fn ensemble(of: EnsembleMean) -> TermTeachers {
    TermTeachers::Ensemble(TeacherEnsemble {
        members: vec![(0, 0.7), (1, 0.3)],
        of,
    })
}

fn term(json: serde_json::Value) -> LossTerm {
    serde_json::from_value(json).unwrap()
}

/// The targets of one source from BIG and WIDE.
fn combined(source: TermTeachers) -> TeacherLogits {
    let kd = term(serde_json::json!({"kind": "kd", "temperature": 2.0}));
    let (sources, _) = TermSources::new(vec![kd], &[Some(source)]);
    let answers = [answer(&BIG, None), answer(&WIDE, None)];
    sources
        .targets(&answers, &labelled(&[0, 1]))
        .unwrap()
        .remove(0)
}

/// softmax(z / T), in f64.
fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let powers = logits.iter();
    let powers: Vec<f64> = powers
        .map(|logit| (f64::from(*logit) / temperature).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

#[test]
fn the_arithmetic_mean_is_of_the_probabilities_at_the_temperature() {
    let mixture = combined(ensemble(EnsembleMean::Probabilities));
    for temperature in [1.0, 4.0] {
        let mut expected = Vec::new();
        for (big, wide) in BIG.chunks(CLASSES).zip(WIDE.chunks(CLASSES)) {
            let pairs = softmax(big, temperature);
            let pairs = pairs.iter().zip(softmax(wide, temperature));
            expected.extend(pairs.map(|(big, wide)| 0.7 * big + 0.3 * wide));
        }
        let softened = mixture.softened(temperature).unwrap();
        assert_close(&values(&softened.exp()), &expected);
    }
    // By hand, first sample at T = 1: softmax([2, 0, -1]) = [0.843795, 0.114195, 0.042010] and softmax([-1, 1, 0]) =
    // [0.090031, 0.665241, 0.244728].
    let first = values(&mixture.softened(1.0).unwrap().exp());
    assert_close(&first[..3], &[0.617665, 0.279509, 0.102826]);
    // Its logits are those probabilities' logarithms.
    let logits = values(&mixture.all_classes().unwrap());
    assert_close(&logits[..1], &[0.617665_f64.ln()]);
}

#[test]
fn the_geometric_mean_is_that_of_the_logits() {
    let TeacherLogits::Dense(logits) = combined(ensemble(EnsembleMean::Logits)) else {
        panic!("dense logits");
    };
    // 0.7 * 2 - 0.3 * 1, …
    assert_close(&values(&logits), &[1.1, 0.3, -0.7, 1.25, 1.05, 0.3]);
    // At any temperature its probabilities are p_big^0.7 p_wide^0.3, up to a factor.
    for temperature in [1.0, 3.0] {
        let (big, wide) = (
            softmax(&BIG[..3], temperature),
            softmax(&WIDE[..3], temperature),
        );
        let powers = big.iter().zip(&wide);
        let powers: Vec<f64> = powers.map(|(p, q)| p.powf(0.7) * q.powf(0.3)).collect();
        let sum: f64 = powers.iter().sum();
        let expected: Vec<f64> = powers.iter().map(|power| power / sum).collect();
        let found = (logits.shallow_clone() / temperature).softmax(-1, Kind::Float);
        assert_close(&values(&found)[..3], &expected);
    }
}

/// T² mean KL(p ‖ softmax(z_s / T)), where p are the probabilities of the teachers together.
#[test]
fn kd_from_a_mixture_is_the_divergence_from_the_mean_of_the_probabilities() {
    const T: f64 = 4.0;
    let kd = term(serde_json::json!({"kind": "kd", "temperature": T}));
    let source = ensemble(EnsembleMean::Probabilities);
    let (sources, terms) = TermSources::new(vec![kd], &[Some(source)]);
    let answers = [answer(&BIG, None), answer(&WIDE, None)];
    let soft_targets = sources.targets(&answers, &labelled(&[0, 1])).unwrap();
    let targets = Targets {
        labels: &Tensor::from_slice(&[0_i64, 1]),
        mixed: None,
        soft_targets: &soft_targets,
        epoch: 1,
    };
    let student = Tensor::from_slice(&STUDENT).view([2, CLASSES as i64]);
    let found = loss(&terms, &student, &targets).unwrap().total;
    let mut expected = 0.0;
    for sample in 0..2 {
        let row = sample * CLASSES..(sample + 1) * CLASSES;
        let (big, wide) = (
            softmax(&BIG[row.clone()], T),
            softmax(&WIDE[row.clone()], T),
        );
        let student = softmax(&STUDENT[row], T);
        for ((big, wide), student) in big.iter().zip(&wide).zip(&student) {
            let teachers = 0.7 * big + 0.3 * wide;
            expected += T * T * teachers * (teachers / student).ln() / 2.0;
        }
    }
    assert_close(&[found.double_value(&[])], &[expected]);
}

/// U KL(p^γ / U ‖ p_s) with U = Σ p^γ, where p are the probabilities of the mixture at the temperature 1.
#[test]
fn the_exponent_of_wttm_applies_to_the_probabilities_of_the_mixture() {
    const GAMMA: f64 = 0.5;
    let wttm = term(serde_json::json!({"kind": "wttm", "gamma": GAMMA}));
    let source = ensemble(EnsembleMean::Probabilities);
    let (sources, terms) = TermSources::new(vec![wttm], &[Some(source)]);
    let answers = [answer(&BIG[..3], None), answer(&WIDE[..3], None)];
    let soft_targets = sources.targets(&answers, &labelled(&[0])).unwrap();
    let targets = Targets {
        labels: &Tensor::from_slice(&[0_i64]),
        mixed: None,
        soft_targets: &soft_targets,
        epoch: 1,
    };
    let student = Tensor::from_slice(&STUDENT[..3]).view([1, CLASSES as i64]);
    let found = loss(&terms, &student, &targets).unwrap().total;
    let (big, wide) = (softmax(&BIG[..3], 1.0), softmax(&WIDE[..3], 1.0));
    let powers = big.iter().zip(&wide);
    let powers: Vec<f64> = powers
        .map(|(big, wide)| (0.7 * big + 0.3 * wide).powf(GAMMA))
        .collect();
    let sum: f64 = powers.iter().sum();
    let student = softmax(&STUDENT[..3], 1.0);
    let pairs = powers.iter().zip(&student);
    let expected: f64 = pairs
        .map(|(power, student)| power * (power / sum / student).ln())
        .sum();
    assert_close(&[found.double_value(&[])], &[expected]);
}

#[test]
fn a_route_puts_the_rows_of_its_teachers_into_the_order_of_the_batch() {
    let config = crate::config::RunConfig::from_toml(&format!(
        "{}[teachers.a]\nendpoints = [\"a:1\"]\n[teachers.b]\nendpoints = [\"b:1\"]\n\
         [routes.r]\nby = \"class\"\ndefault = \"b\"\nteachers = {{ a = [\"Bag\"] }}\n",
        test_support::run_toml::RunToml {
            phases: &[test_support::run_toml::PhaseToml {
                loss: "{ kind = \"kd\", temperature = 2, alpha = 1, teacher = \"r\" }",
                ..Default::default()
            }],
            ..Default::default()
        }
    ))
    .unwrap();
    let bag = config.data.class_names.iter().position(|it| it == "Bag");
    let bag = bag.unwrap() as i64;
    let terms = config.phases[0].loss.terms();
    let source = config.teachers_of(&terms[0]);
    let (sources, _) = TermSources::new(terms, &[source]);
    let samples = labelled(&[bag + 1, bag, datasets::IGNORED_LABEL, bag]);
    let row = |first: f32| [first, first + 1.0, first + 2.0];
    let rows = |firsts: &[f32]| firsts.iter().flat_map(|it| row(*it)).collect::<Vec<_>>();
    let expected: Vec<f64> = rows(&[10.0, 20.0, 30.0, 40.0])
        .into_iter()
        .map(f64::from)
        .collect();
    let routed = |a: Option<Answer>, b: Option<Answer>| {
        let targets = sources.targets(&[a, b], &samples).unwrap().remove(0);
        values(&targets.all_classes().unwrap())
    };
    // Each teacher got its own samples, or all, because another term needs them.
    let own = answer(&rows(&[20.0, 40.0]), Some(&[1, 3]));
    let others = answer(&rows(&[10.0, 30.0]), Some(&[0, 2]));
    assert_eq!(routed(own, others), expected);
    let all = answer(&rows(&[0.0, 20.0, 0.0, 40.0]), None);
    let others = answer(&rows(&[10.0, 0.0, 30.0]), Some(&[0, 1, 2]));
    assert_eq!(routed(all, others), expected);
    // A batch without samples of a teacher needs no answer of it.
    let alone = [answer(&rows(&[5.0]), None), None];
    let targets = sources
        .targets(&alone, &labelled(&[bag]))
        .unwrap()
        .remove(0);
    assert_eq!(values(&targets.all_classes().unwrap()), [5.0, 6.0, 7.0]);
    let missing = sources.targets(&[None, None], &samples);
    assert!(missing.unwrap_err().to_string().contains("missing"));
}

#[test]
fn terms_with_the_same_source_share_its_targets() {
    let kd = term(serde_json::json!({"kind": "kd", "temperature": 2.0}));
    let hard = term(serde_json::json!({"kind": "cross_entropy"}));
    let (one, other) = (TermTeachers::One(0), TermTeachers::One(1));
    let teachers = [Some(one.clone()), None, Some(other), Some(one)];
    let terms = vec![kd.clone(), hard, kd.clone(), kd];
    let (sources, terms) = TermSources::new(terms, &teachers);
    let positions: Vec<_> = terms.iter().map(|term| term.soft_targets).collect();
    assert_eq!(positions, [0, 0, 1, 0]);
    let answers = [answer(&BIG, None), answer(&WIDE, None)];
    let targets = sources.targets(&answers, &labelled(&[0, 1])).unwrap();
    assert_eq!(targets.len(), 2);
    let second = values(&targets[1].all_classes().unwrap());
    assert_eq!(second, WIDE.map(f64::from));
}
