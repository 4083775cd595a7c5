use datasets::{MixedLabels, View};
use serde::Deserialize;
use soft_targets::{DrawSeeds, Encoder, Encoding, SoftTargets};
use tch::{Device, Kind};

use super::*;
use crate::config::{LossConfig, TargetClasses};

/// A batch, and PyTorch's value and gradient.
#[derive(Deserialize)]
struct Golden {
    name: String,
    loss: LossConfig,
    student: Vec<Vec<f32>>,
    teacher: Vec<Vec<f32>>,
    /// How the teacher's logits are encoded on their way.
    encoding: Encoding,
    labels: Vec<i64>,
    epoch: usize,
    value: f64,
    gradient: Vec<Vec<f32>>,
}

impl Golden {
    /// Value and gradient with the teacher's logits in `encoding`.
    fn compute(&self, encoding: Encoding) -> (Loss, Tensor) {
        let logits = matrix(&self.student).set_requires_grad(true);
        let targets = Targets {
            labels: &Tensor::from_slice(&self.labels),
            mixed: None,
            soft_targets: &[teacher(&self.teacher, encoding)],
            epoch: self.epoch,
        };
        let loss = loss(&with_one_teacher(&self.loss), &logits, &targets).unwrap();
        let gradients = Tensor::run_backward(&[&loss.total], &[&logits], true, false);
        (loss, gradients[0].shallow_clone())
    }
}

fn golden() -> Vec<Golden> {
    serde_json::from_str(include_str!("../../../tests/golden/losses.json")).unwrap()
}

fn matrix(rows: &[Vec<f32>]) -> Tensor {
    Tensor::from_slice2(rows)
}

fn teacher(rows: &[Vec<f32>], encoding: Encoding) -> TeacherLogits {
    let mut encoder = Encoder::default();
    let targets = encoder.encode(encoding, &rows.concat(), rows[0].len());
    TeacherLogits::new(&targets.unwrap()).unwrap()
}

/// Draws classes of each row.
fn draws(rows: &[Vec<f32>], encoding: &str) -> SoftTargets {
    let encoding = encoding.parse().unwrap();
    let seeds = DrawSeeds::of(encoding, View::Plain, 0..rows.len() as u32);
    let mut encoder = Encoder::default();
    let targets = encoder.encode_with_seeds(encoding, &rows.concat(), rows[0].len(), &seeds);
    targets.unwrap()
}

fn terms(json: serde_json::Value) -> Vec<Term> {
    with_one_teacher(&serde_json::from_value(json).unwrap())
}

/// The terms of a loss, all of which learn from one teacher.
fn with_one_teacher(loss: &LossConfig) -> Vec<Term> {
    let terms = loss.terms().into_iter();
    terms
        .map(|config| Term {
            config,
            soft_targets: 0,
        })
        .collect()
}

fn number(tensor: &Tensor) -> f64 {
    tensor.double_value(&[])
}

#[test]
fn values_and_gradients_are_pytorchs() {
    let cases = golden();
    assert!(cases.len() >= 60, "{}", cases.len());
    for case in cases {
        let (loss, gradient) = case.compute(case.encoding);
        let found = number(&loss.total);
        let close = (found - case.value).abs() <= 1e-6 + 1e-5 * case.value.abs();
        assert!(close, "{}: {found} is not {}", case.name, case.value);
        let expected = matrix(&case.gradient);
        let largest = number(&expected.abs().max());
        let difference = number(&(gradient - expected).abs().max());
        assert!(
            difference <= 1e-6 * largest.max(1.0),
            "{}: gradients up to {largest} differ by {difference}",
            case.name
        );
    }
}

#[test]
fn soft_cross_entropy_differs_from_the_divergence_by_the_teachers_entropy_alone() {
    let case = &golden()[0];
    let student = matrix(&case.student);
    let teacher = teacher(&case.teacher, Encoding::F32);
    let entropy = soft_cross_entropy(&matrix(&case.teacher), &teacher, 3.0).unwrap();
    let soft = soft_cross_entropy(&student, &teacher, 3.0).unwrap();
    let divergence = kd(&student, &teacher, 3.0).unwrap();
    let difference = number(&(soft - entropy - divergence)).abs();
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn top_k_that_keeps_every_class_gives_the_bits_of_f32() {
    for case in golden() {
        let [dense, all] = ["f32", "top-4-f32"].map(|encoding| {
            let (loss, gradient) = case.compute(encoding.parse().unwrap());
            let bits = number(&loss.total).to_bits();
            (bits, Vec::<f32>::try_from(gradient.reshape([-1])).unwrap())
        });
        assert_eq!(dense, all, "{}", case.name);
    }
}

/// What a term declares to need is what it cannot do without.
#[test]
fn a_term_without_what_it_needs_is_an_error_and_without_the_rest_it_is_not() {
    let case = &golden()[0];
    let logits = matrix(&case.student);
    let labels = Tensor::from_slice(&case.labels);
    let top_2 = [teacher(&case.teacher, "top-2-f32".parse().unwrap())];
    let drawn = [TeacherLogits::new(&draws(&case.teacher, "sampled-3-t2")).unwrap()];
    for case in golden() {
        for term in with_one_teacher(&case.loss) {
            let works = |soft_targets: &[TeacherLogits]| {
                let targets = Targets {
                    labels: &labels,
                    mixed: None,
                    soft_targets,
                    epoch: 1,
                };
                loss(std::slice::from_ref(&term), &logits, &targets).is_ok()
            };
            let needed = term.config.needs().soft_targets;
            assert_eq!(works(&[]), needed.is_none(), "{term:?}");
            let works_with_top_k = needed != Some(TargetClasses::All);
            assert_eq!(works(&top_2), works_with_top_k, "{term:?}");
            let works_with_draws = match needed {
                None => true,
                Some(TargetClasses::Drawn { temperature }) => temperature == 2.0,
                Some(TargetClasses::Kept | TargetClasses::All) => false,
            };
            assert_eq!(works(&drawn), works_with_draws, "{term:?}");
        }
    }
}

/// Value and gradient of the one term `kind` at `temperature`, for a student whose logits are `student`.
fn computed(
    kind: &str,
    temperature: f64,
    student: &Tensor,
    soft_targets: &TeacherLogits,
) -> (f64, Tensor) {
    let logits = student.copy().set_requires_grad(true);
    let targets = Targets {
        labels: &Tensor::zeros([student.size()[0]], (Kind::Int64, Device::Cpu)),
        mixed: None,
        soft_targets: std::slice::from_ref(soft_targets),
        epoch: 1,
    };
    let terms = terms(serde_json::json!([{"kind": kind, "temperature": temperature}]));
    let loss = loss(&terms, &logits, &targets).unwrap();
    let gradients = Tensor::run_backward(&[&loss.total], &[&logits], false, false);
    (number(&loss.total), gradients[0].shallow_clone())
}

#[test]
fn drawn_classes_count_with_their_shares() {
    let case = &golden()[0];
    let targets = draws(&case.teacher, "sampled-7-t3");
    let drawn: Vec<u32> = targets.kept_classes().collect();
    let mut shares = vec![vec![0.0f32; 4]; case.teacher.len()];
    for (shares, drawn) in shares.iter_mut().zip(drawn.chunks_exact(7)) {
        for class in drawn {
            shares[*class as usize] += 1.0 / 7.0;
        }
    }
    let student = matrix(&case.student).set_requires_grad(true);
    let log_probabilities = (&student / 3.0).log_softmax(-1, Kind::Float);
    let sum = (log_probabilities * matrix(&shares)).sum(Kind::Float);
    let expected = sum * (-9.0 / case.student.len() as f64);
    let gradients = Tensor::run_backward(&[&expected], &[&student], false, false);
    let teacher = TeacherLogits::new(&targets).unwrap();
    for kind in ["soft_cross_entropy", "kd"] {
        let (value, gradient) = computed(kind, 3.0, &matrix(&case.student), &teacher);
        assert!((value - number(&expected)).abs() < 1e-5, "{kind}: {value}");
        let difference = number(&(gradient - &gradients[0]).abs().max());
        assert!(difference < 1e-6, "{kind}: {difference}");
    }
}

/// The mean over many draws is within five standard deviations of the value and the gradient with all logits.
#[test]
fn drawn_classes_give_value_and_gradient_without_bias() {
    let student = vec![0.5f32, -1.0, 2.0, 0.0, 1.0];
    let logits = vec![2.0f32, -1.0, 0.5, 3.0, -2.0];
    let rows = 20_000;
    let repeated = matrix(&vec![student.clone(); rows]);
    for (temperature, encoding) in [(1.0, "sampled-3"), (4.0, "sampled-3-t4")] {
        let drawn = draws(&vec![logits.clone(); rows], encoding);
        let drawn = TeacherLogits::new(&drawn).unwrap();
        let all = teacher(std::slice::from_ref(&logits), Encoding::F32);
        let single = matrix(std::slice::from_ref(&student));
        let (exact, exact_gradient) = computed("soft_cross_entropy", temperature, &single, &all);
        let exact_gradient = Vec::<f32>::try_from(exact_gradient.reshape([-1])).unwrap();

        let probabilities = all.probabilities(temperature).unwrap();
        let log_student = (&single / temperature).log_softmax(-1, Kind::Float);
        let mean = number(&(&probabilities * &log_student).sum(Kind::Double));
        let square = number(&(&probabilities * log_student.square()).sum(Kind::Double));
        let draws = 3.0 * rows as f64;
        let deviation = temperature.powi(2) * ((square - mean * mean) / draws).sqrt();
        let probabilities = Vec::<f32>::try_from(probabilities.reshape([-1])).unwrap();
        for kind in ["soft_cross_entropy", "kd"] {
            let (value, gradient) = computed(kind, temperature, &repeated, &drawn);
            let off = (value - exact).abs();
            assert!(
                off < 5.0 * deviation + 1e-5,
                "{kind}: {value} is not {exact}"
            );
            // Each row has the share 1 / rows of the mean.
            let sum = gradient.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
            let sum = Vec::<f64>::try_from(sum).unwrap();
            for (class, (found, exact)) in sum.iter().zip(&exact_gradient).enumerate() {
                let probability = f64::from(probabilities[class]);
                let deviation = temperature * (probability * (1.0 - probability) / draws).sqrt();
                let off = (found - f64::from(*exact)).abs();
                assert!(
                    off < 5.0 * deviation + 1e-5,
                    "{kind}, class {class}: {found} is not {exact}"
                );
            }
        }
    }
}

#[test]
fn kd_outside_of_a_list_has_the_bits_of_its_terms_in_a_list() {
    let case = &golden()[0];
    let [single, list] = [
        serde_json::json!({"kind": "kd", "temperature": 4.0, "alpha": 0.9}),
        serde_json::json!([
            {"kind": "kd", "temperature": 4.0, "weight": 0.9},
            {"kind": "cross_entropy", "weight": 1.0 - 0.9},
        ]),
    ]
    .map(|json| {
        let targets = Targets {
            labels: &Tensor::from_slice(&case.labels),
            mixed: None,
            soft_targets: &[teacher(&case.teacher, Encoding::F32)],
            epoch: 1,
        };
        let loss = loss(&terms(json), &matrix(&case.student), &targets).unwrap();
        let parts = loss.terms.iter().map(number).sum::<f64>();
        assert!((number(&loss.total) - parts).abs() < 1e-6);
        (number(&loss.total).to_bits(), loss.terms.len())
    });
    assert_eq!(single, list);
    assert_eq!(list.1, 2);
}

/// `kd` with α = 1 has no hard labels, so a batch without any must not make it NaN.
#[test]
fn soft_terms_alone_do_not_read_the_labels() {
    let case = &golden()[0];
    let targets = Targets {
        labels: &Tensor::from_slice(&[datasets::IGNORED_LABEL; 5]),
        mixed: None,
        soft_targets: &[teacher(&case.teacher, Encoding::F32)],
        epoch: 1,
    };
    let terms = terms(serde_json::json!({"kind": "kd", "temperature": 4.0, "alpha": 1.0}));
    let loss = loss(&terms, &matrix(&case.student), &targets).unwrap();
    assert!(number(&loss.total).is_finite() && loss.terms.is_empty());
}

#[test]
fn extreme_logits_give_finite_gradients() {
    let rows: [[f32; 4]; 3] = [[0.0; 4], [1e4, -1e4, 0.0, 0.0], [-300.0, 300.0, 299.0, 0.0]];
    let of_teacher = [rows[2], rows[0], rows[1]].map(Vec::from);
    let soft_targets = [teacher(&of_teacher, Encoding::F32)];
    for case in golden() {
        let logits = Tensor::from_slice2(&rows).set_requires_grad(true);
        let targets = Targets {
            labels: &Tensor::from_slice(&[0_i64, 1, 3]),
            mixed: None,
            soft_targets: &soft_targets,
            epoch: 1,
        };
        let loss = loss(&with_one_teacher(&case.loss), &logits, &targets).unwrap();
        let gradients = Tensor::run_backward(&[&loss.total], &[&logits], false, false);
        let sum = number(&gradients[0].sum(tch::Kind::Double)) + number(&loss.total);
        assert!(sum.is_finite(), "{}: {sum}", case.name);
    }
}

#[test]
fn mixed_labels_give_the_cross_entropy_with_their_probabilities() {
    let case = &golden()[0];
    let mixed = MixedLabels {
        labels: vec![3, 1, 0, 2, 2],
        weights: vec![0.0, 0.125, 0.25, 0.5, 0.3],
    };
    let labels = Tensor::from_slice(&case.labels);
    let one_hot = |labels: &Tensor| labels.one_hot(4).to_kind(Kind::Float);
    let weights = Tensor::from_slice(&mixed.weights).unsqueeze(1);
    let others = one_hot(&Tensor::from_slice(&mixed.labels)) * &weights;
    let probabilities = one_hot(&labels) * (1.0 - weights) + others;
    let values = |loss_of: &dyn Fn(&Tensor) -> Tensor| {
        let logits = matrix(&case.student).set_requires_grad(true);
        let value = loss_of(&logits);
        let gradient = Tensor::run_backward(&[&value], &[&logits], false, false);
        (number(&value), gradient[0].shallow_clone())
    };
    for smoothing in [0.0, 0.25] {
        let smoothed = &probabilities * (1.0 - smoothing) + smoothing / 4.0;
        let (expected, expected_gradient) = values(&|logits| {
            let weighted = logits.log_softmax(-1, Kind::Float) * &smoothed;
            -weighted.sum(Kind::Float) / case.labels.len() as f64
        });
        let targets = Targets {
            labels: &labels,
            mixed: Some(&MixedTargets::new(&mixed, Device::Cpu).unwrap()),
            soft_targets: &[],
            epoch: 1,
        };
        let json = serde_json::json!({"kind": "cross_entropy", "label_smoothing": smoothing});
        let terms = terms(json);
        let (found, gradient) = values(&|logits| loss(&terms, logits, &targets).unwrap().total);
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        assert!(number(&(gradient - expected_gradient).abs().max()) < 1e-6);
    }
}
