use tch::{Device, Kind};

use super::*;

/// The tensors of one case, all leaves of the graph.
struct Case {
    input: Tensor,
    residual: Option<Tensor>,
    scale: Tensor,
    shift: Tensor,
    running: [Tensor; 2],
    weights: Tensor,
}

const MOMENTUM: f64 = 0.1;
const EPSILON: f64 = 1e-5;

fn draw(size: &[i64], factor: f64) -> Tensor {
    let count: i64 = size.iter().product();
    let numbers = Tensor::arange(count, (Kind::Double, Device::Cpu)) * factor;
    (numbers.sin() * 1.5 + numbers.square().cos() * 0.5)
        .to_kind(Kind::Float)
        .view(size)
}

/// Copies `tensor` to channels-last layout.
fn channels_last(tensor: &Tensor, kind: Kind) -> Tensor {
    let rows = tensor.permute([0, 2, 3, 1]).contiguous();
    rows.permute([0, 3, 1, 2]).to_kind(kind)
}

impl Case {
    fn new(size: [i64; 4], kind: Kind, with_residual: bool) -> Self {
        let leaf = |tensor: Tensor| tensor.detach().copy().set_requires_grad(true);
        let layout = |tensor: Tensor| {
            let tensor = channels_last(&tensor, kind);
            tensor.detach().set_requires_grad(true)
        };
        let channels = [size[1]];
        Self {
            // Channels with large means show cancellation.
            input: layout(draw(&size, 12.9898) + draw(&[1, size[1], 1, 1], 3.7) * 3.0),
            residual: with_residual.then(|| layout(draw(&size, 78.233))),
            scale: leaf(draw(&channels, 4.1) + 1.2),
            shift: leaf(draw(&channels, 9.7)),
            running: [draw(&channels, 2.3), draw(&channels, 5.9).abs()],
            weights: channels_last(&draw(&size, 45.164), kind),
        }
    }

    fn fused(&self, limits: Limits) -> Tensor {
        assert!(is_fused(&self.input));
        let norm = BatchNorm {
            scale: &self.scale,
            shift: &self.shift,
            running_mean: &self.running[0],
            running_variance: &self.running[1],
            residual: self.residual.as_ref(),
            momentum: MOMENTUM,
            epsilon: EPSILON,
            limits,
        };
        norm.forward(&self.input).unwrap()
    }

    /// libtorch's operations, one after the other, in f64.
    fn plain(&self, limits: Limits) -> Tensor {
        let wide = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let [mean, variance] = self.running.each_ref().map(wide);
        let mut value = wide(&self.input).batch_norm(
            Some(wide(&self.scale)),
            Some(wide(&self.shift)),
            Some(mean.shallow_clone()),
            Some(variance.shallow_clone()),
            true,
            MOMENTUM,
            EPSILON,
            false,
        );
        if let Some(residual) = &self.residual {
            value += wide(residual);
        }
        for (running, updated) in self.running.iter().zip([mean, variance]) {
            running.shallow_clone().copy_(&updated);
        }
        match limits {
            Limits::None => value,
            Limits::Relu => value.relu(),
            Limits::Relu6 => value.relu6(),
        }
    }

    /// Output, running statistics, and the gradients of a weighted sum of the output.
    fn results(&self, output: &Tensor) -> Vec<Tensor> {
        let loss = (output * &self.weights.to_kind(output.kind())).sum(Kind::Double);
        let mut leaves = vec![&self.input, &self.scale, &self.shift];
        leaves.extend(&self.residual);
        let gradients = Tensor::run_backward(&[loss], &leaves, false, false);
        let [mean, variance] = self.running.each_ref().map(Tensor::shallow_clone);
        [output.detach(), mean, variance]
            .into_iter()
            .chain(gradients)
            .collect()
    }
}

/// Largest difference, as a share of the largest value.
fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let largest = expected.abs().max().double_value(&[]).max(1e-9);
    (found - expected).abs().max().double_value(&[]) / largest
}

#[test]
fn results_and_gradients_are_libtorchs() {
    let mut cases = 0;
    for size in [
        [2, 3, 5, 7],
        [4, 16, 28, 28],
        [1, 64, 1, 3],
        [3, 40, 9, 9],
        // More channels than a panel has.
        [2, 300, 3, 3],
        // Of one channel, and of one value per image and channel: in both orders of memory at once.
        [5, 1, 3, 3],
        [7, 6, 1, 1],
    ] {
        for kind in [Kind::Float, Kind::BFloat16] {
            for limits in [Limits::None, Limits::Relu, Limits::Relu6] {
                for with_residual in [false, true] {
                    let fused = Case::new(size, kind, with_residual);
                    let plain = Case::new(size, kind, with_residual);
                    let output = fused.fused(limits);
                    assert_eq!(output.kind(), kind);
                    let found = fused.results(&output);
                    let expected = plain.results(&plain.plain(limits));
                    assert_eq!(found.len(), expected.len());
                    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        // bf16 has 8 bits, of which rounding takes half a unit.
                        let is_rounded = kind == Kind::BFloat16 && ![1, 2, 4, 5].contains(&index);
                        let bound = if is_rounded { 4e-3 } else { 2e-5 };
                        let difference = difference(found, expected);
                        let case = format!("{size:?} {kind:?} {limits:?} {with_residual} {index}");
                        assert!(difference <= bound, "{case}: {difference}");
                        cases += 1;
                    }
                }
            }
        }
    }
    assert!(cases >= 300, "{cases}");
}

/// The gradients of [`Case::results`] for some of a case's leaves, and no others.
fn gradients(case: &Case, leaves: &[&Tensor]) -> Vec<Tensor> {
    let output = case.fused(Limits::Relu);
    let loss = (output * &case.weights).sum(Kind::Double);
    Tensor::run_backward(&[loss], leaves, false, false)
}

#[test]
fn gradients_are_those_of_all_if_some_tensors_need_none() {
    for kind in [Kind::Float, Kind::BFloat16] {
        for with_residual in [false, true] {
            let new = || Case::new([4, 16, 28, 28], kind, with_residual);
            let whole = new();
            let all = whole.results(&whole.fused(Limits::Relu));
            // After output and running statistics.
            let [of_input, of_scale, of_shift] = [3, 4, 5].map(|index| &all[index]);
            let of_residual = all.get(6);
            for frozen in ["input", "residual", "both", "parameters", "not asked"] {
                let case = new();
                let has = |names: &[&str]| names.contains(&frozen);
                let freeze = |tensor: &Tensor| {
                    let _ = tensor.set_requires_grad(false);
                };
                if has(&["input", "both"]) {
                    freeze(&case.input);
                }
                if has(&["residual", "both"]) {
                    case.residual.iter().for_each(freeze);
                }
                if has(&["parameters"]) {
                    freeze(&case.scale);
                    freeze(&case.shift);
                }
                let mut leaves = Vec::new();
                let mut expected = Vec::new();
                if !has(&["input", "both", "not asked"]) {
                    leaves.push(&case.input);
                    expected.push(of_input);
                }
                if !has(&["parameters"]) {
                    leaves.extend([&case.scale, &case.shift]);
                    expected.extend([of_scale, of_shift]);
                }
                if !has(&["residual", "both", "not asked"]) {
                    leaves.extend(&case.residual);
                    expected.extend(of_residual);
                }
                let found = gradients(&case, &leaves);
                assert_eq!(found.len(), expected.len());
                for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let case = format!("{kind:?} {with_residual} {frozen} {index}");
                    assert!(found.equal(expected), "{case}");
                    assert!(found.abs().max().double_value(&[]) > 0.0, "{case}");
                }
            }
        }
    }
}

#[test]
fn the_gradients_of_the_parameters_are_libtorchs_if_the_input_needs_none() {
    for with_residual in [false, true] {
        let new = || {
            let case = Case::new([4, 16, 28, 28], Kind::Float, with_residual);
            let _ = case.input.set_requires_grad(false);
            case
        };
        let (fused, plain) = (new(), new());
        let found = gradients(&fused, &[&fused.scale, &fused.shift]);
        let loss = plain.plain(Limits::Relu) * plain.weights.to_kind(Kind::Double);
        let leaves = [&plain.scale, &plain.shift];
        let expected = Tensor::run_backward(&[loss.sum(Kind::Double)], &leaves, false, false);
        for (found, expected) in found.iter().zip(&expected) {
            let difference = difference(found, expected);
            assert!(difference <= 2e-5, "{with_residual}: {difference}");
        }
    }
}

#[test]
fn the_running_statistics_change() {
    let case = Case::new([2, 3, 5, 7], Kind::Float, false);
    let before = case.running.each_ref().map(Tensor::copy);
    let _ = case.fused(Limits::Relu);
    for (before, after) in before.iter().zip(&case.running) {
        assert!(difference(before, after) > 0.01);
    }
}

#[test]
fn a_thread_more_changes_only_the_rounding_and_the_same_threads_give_the_same_bits() {
    let before = tch::get_num_threads();
    let run = |threads| {
        tch::set_num_threads(threads);
        let case = Case::new([16, 16, 28, 28], Kind::Float, true);
        case.results(&case.fused(Limits::Relu))
    };
    let [one, two, again] = [1, 2, 2].map(run);
    tch::set_num_threads(before);
    for (found, same) in two.iter().zip(&again) {
        assert!(found.equal(same));
    }
    let mut differ = 0;
    for (one, two) in one.iter().zip(&two) {
        assert!(difference(two, one) < 1e-5);
        differ += usize::from(!one.equal(two));
    }
    assert!(differ > 0, "two threads divided the rows");
}

#[test]
fn not_a_number_passes_the_limits() {
    let case = Case::new([2, 3, 5, 7], Kind::BFloat16, false);
    let _ = tch::no_grad(|| case.input.get(0).get(1).get(2).get(3).fill_(f64::NAN));
    let output = case.fused(Limits::Relu6);
    let of_channel = output.select(1, 1).isnan().all().int64_value(&[]);
    let of_others = output.select(1, 0).isnan().any().int64_value(&[]);
    assert_eq!((of_channel, of_others), (1, 0));
}

#[test]
fn gradients_pass_where_a_value_is_not_a_number() {
    let case = Case::new([2, 3, 5, 7], Kind::Float, true);
    let at = |tensor: &Tensor| tensor.get(0).get(1).get(2).get(3);
    let residual = case.residual.as_ref().unwrap();
    let _ = tch::no_grad(|| at(residual).fill_(f64::NAN));
    for limits in [Limits::Relu, Limits::Relu6] {
        let results = case.results(&case.fused(limits));
        let of_residual = results.last().unwrap();
        assert!(at(of_residual).equal(&at(&case.weights)), "{limits:?}");
    }
}

#[test]
fn fewer_rows_than_threads_give_numbers() {
    let before = tch::get_num_threads();
    tch::set_num_threads(8);
    let case = Case::new([1, 81_920, 1, 2], Kind::Float, true);
    let results = case.results(&case.fused(Limits::Relu));
    tch::set_num_threads(before);
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result.isfinite().all().int64_value(&[]), 1, "{index}");
    }
}

#[test]
fn second_derivatives_are_refused() {
    let case = Case::new([2, 3, 5, 7], Kind::Float, false);
    let sum = case.fused(Limits::None).sum(Kind::Float);
    let error = Tensor::f_run_backward(&[sum], &[&case.input], true, true).unwrap_err();
    assert!(error.to_string().contains("second derivatives"), "{error}");
}

#[test]
fn other_inputs_are_refused() {
    let contiguous = draw(&[2, 3, 5, 7], 1.0);
    let integers = channels_last(&contiguous, Kind::Int64);
    let flat = draw(&[6, 35], 1.0);
    let wide = channels_last(&contiguous, Kind::Double);
    let empty = Tensor::zeros([0, 3, 5, 7], (Kind::Float, Device::Cpu));
    // Every other row, which is in channels-last order and has gaps.
    let with_gaps = channels_last(&draw(&[2, 3, 10, 7], 1.0), Kind::Float).slice(2, 0, 10, 2);
    for input in [&contiguous, &integers, &flat, &wide, &empty, &with_gaps] {
        assert!(!is_fused(input), "{:?} {:?}", input.kind(), input.size());
    }
    let case = Case::new([2, 3, 5, 7], Kind::Float, false);
    let other = Case::new([2, 4, 5, 7], Kind::Float, true);
    let norm = |input: &Tensor, residual: Option<&Tensor>| {
        let norm = BatchNorm {
            scale: &case.scale,
            shift: &case.shift,
            running_mean: &case.running[0],
            running_variance: &case.running[1],
            residual,
            momentum: MOMENTUM,
            epsilon: EPSILON,
            limits: Limits::None,
        };
        norm.forward(input).unwrap_err().to_string()
    };
    let single = channels_last(&draw(&[1, 3, 1, 1], 1.0), Kind::Float);
    for (error, part) in [
        (norm(&contiguous, None), "channels-last"),
        (norm(&other.input, None), "f32 [channels]"),
        (norm(&single, None), "a single value"),
        (norm(&case.input, other.residual.as_ref()), "another shape"),
    ] {
        assert!(error.contains(part), "{error}");
    }
}
