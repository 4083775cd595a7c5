//! Compares programs with PyTorch (`tests/golden/make.py`).

use safetensors::SafeTensors;
use torch_programs::{Device, Dimension, Kind, Program, Tensor, TensorSpec};

use crate::edited_archive::{golden, golden_bytes};

/// The files that compute the logits in `expected.safetensors` for any batch size.
const PROGRAMS: [&str; 4] = [
    "open-batch.pt2",
    "scripted.pt",
    "traced.pt",
    "saved-in-training-mode.pt",
];
/// Values in the network's weights, without the statistics of batch normalization.
const PARAMETERS: u64 = 8 * 3 * 9 + 2 * 8 + 16 * 8 * 9 + 16 + 2 * 16 + 10 * 16 + 10;

#[test]
fn logits_are_those_of_pytorch() {
    for name in PROGRAMS {
        let program = open(name);
        for batch in [1, 7, 64] {
            let logits = run(&program, &input(batch));
            let difference = (logits - expected(&format!("logits.{batch}")))
                .abs()
                .max()
                .double_value(&[]);
            assert!(
                difference <= 1e-5,
                "{name}, batch {batch}: off by {difference}"
            );
        }
    }
}

#[test]
fn a_fixed_batch_size_is_reported_and_required() {
    let program = open("batch-16.pt2");
    let inputs = program.inputs().expect("stated inputs");
    assert_eq!(inputs[0].dimensions[0], Dimension::Fixed(16));
    let logits = run(&program, &input(16));
    let difference = (logits - expected("logits.64").narrow(0, 0, 16))
        .abs()
        .max()
        .double_value(&[]);
    assert!(difference <= 1e-5, "off by {difference}");
    for batch in [1, 7, 64] {
        let error = program
            .run(&[input(batch)])
            .expect_err("another batch size")
            .to_string();
        let expected =
            format!("input: shape [{batch}, 3, 8, 8], but the program needs [16, 3, 8, 8]");
        assert_eq!(error, expected);
    }
}

/// A fixed batch size of 16, a largest of 256, and none.
#[test]
fn samples_go_through_in_batches_that_the_program_takes() {
    for name in ["batch-16.pt2", "open-batch.pt2", "traced.pt"] {
        let program = open(name);
        for count in [1, 7, 16, 17, 64] {
            let logits = program.run_samples(&input(count), 0).expect("logits");
            let expected = expected("logits.64").narrow(0, 0, count);
            assert_eq!(logits.size(), expected.size(), "{name}");
            let difference = (logits - expected).abs().max().double_value(&[]);
            assert!(
                difference <= 1e-5,
                "{name}, {count} samples: off by {difference}"
            );
        }
        let many = Tensor::cat(&[input(64), input(64), input(64), input(64), input(64)], 0);
        let logits = program
            .run_samples(&many, 0)
            .expect("logits of 320 samples");
        let last = logits.narrow(0, 256, 64);
        let difference = (last - expected("logits.64")).abs().max().double_value(&[]);
        assert!(difference <= 1e-5, "{name}: off by {difference}");

        for (samples, output, message) in [
            (input(0), 0, "input: it has no sample"),
            (input(2), 1, "output 1 was asked for"),
        ] {
            let error = program
                .run_samples(&samples, output)
                .expect_err(message)
                .to_string();
            assert!(error.contains(message), "{name}: {error}");
        }
    }
}

#[test]
fn a_file_states_inputs_outputs_and_parameters() {
    let open_dimension = |minimum, maximum| move |found: &Dimension| matches!(found, Dimension::Open { minimum: low, maximum: high, .. } if *low == minimum && *high == maximum);
    let program = open("open-batch.pt2");
    assert_eq!(program.parameters(), Some(PARAMETERS));
    let (inputs, outputs) = (
        program.inputs().expect("inputs"),
        program.outputs().expect("outputs"),
    );
    for (specs, name, rest) in [
        (inputs, "input", &[3, 8, 8][..]),
        (outputs, "linear", &[10]),
    ] {
        let [
            TensorSpec {
                name: found,
                kind,
                dimensions,
            },
        ] = specs
        else {
            panic!("one of {specs:?}");
        };
        assert_eq!((found.as_str(), *kind), (name, Kind::Float));
        assert!(
            open_dimension(1, Some(256))(&dimensions[0]),
            "{dimensions:?}"
        );
        let rest: Vec<_> = rest.iter().map(|&size| Dimension::Fixed(size)).collect();
        assert_eq!(dimensions[1..], rest);
    }

    let program = open("two-inputs.pt2");
    let names: Vec<_> = program
        .inputs()
        .expect("inputs")
        .iter()
        .map(|input| input.name.as_str())
        .collect();
    assert_eq!(names, ["image", "scale"]);
    let batch = &program.inputs().expect("inputs")[1].dimensions[0];
    assert!(open_dimension(1, None)(batch), "{batch:?}");
    assert_eq!(program.outputs().expect("outputs").len(), 2);
    assert_eq!(program.parameters(), Some(0));

    for name in ["scripted.pt", "traced.pt"] {
        let program = open(name);
        assert_eq!((program.inputs(), program.outputs()), (None, None));
        assert_eq!(program.parameters(), Some(PARAMETERS), "{name}");
    }
}

#[test]
fn several_inputs_and_outputs() {
    let program = open("two-inputs.pt2");
    // PyTorch assumes 2 or more for open dimensions, and accepts 1.
    for batch in [1, 5] {
        let image = input(batch);
        let scale = Tensor::full([batch, 1, 1, 1], 3.0, (Kind::Float, Device::Cpu));
        let outputs = program
            .run(&[image.shallow_clone(), scale])
            .expect("outputs");
        let [scaled, sums] = &outputs[..] else {
            panic!("{} outputs", outputs.len());
        };
        assert_eq!(bits(scaled), bits(&(image * 3.0)));
        assert_eq!(sums.size(), [batch]);
    }
    let error = program.run(&[
        input(2),
        Tensor::ones([3, 1, 1, 1], (Kind::Float, Device::Cpu)),
    ]);
    let error = error.expect_err("batches of two sizes").to_string();
    assert!(
        error.starts_with("scale: shape [3, 1, 1, 1], but the program needs ["),
        "{error}"
    );
}

/// Batch size may affect the bits, because libtorch chooses its algorithms by shape. Nothing else may: not the call's
/// number, not the other samples, not the number of threads.
#[test]
fn bits_depend_on_nothing_but_the_batch_size() {
    for name in PROGRAMS {
        let program = open(name);
        let first = bits(&run(&program, &input(64)));
        for threads in [1, 2, 2, 1] {
            tch::set_num_threads(threads);
            assert_eq!(
                bits(&run(&program, &input(64))),
                first,
                "{name}, {threads} threads"
            );
        }
        let others = Tensor::cat(&[input(32), input(32) * -5.0], 0);
        let half = bits(&run(&program, &others));
        assert_eq!(half[..320], first[..320], "{name}");
    }
}

/// A failed call gives a message, and a later call succeeds.
#[test]
fn a_program_survives_wrong_inputs() {
    for (name, messages) in [
        (
            "open-batch.pt2",
            [
                "inputs: 0 were given, but the program has 1",
                "data type Int64, but the program needs Float",
                "but the program needs [s",
                "but the program needs [s",
            ],
        ),
        (
            "scripted.pt",
            [
                "missing value for argument 'input'",
                "expected scalar type Long but found Float",
                "to have 3 channels, but got 4 channels instead",
                "Expected 3D (unbatched) or 4D (batched) input",
            ],
        ),
    ] {
        let program = open(name);
        let image = |sizes: &[i64], kind| Tensor::ones(sizes, (kind, Device::Cpu));
        let inputs = [
            vec![],
            vec![image(&[1, 3, 8, 8], Kind::Int64)],
            vec![image(&[1, 4, 8, 8], Kind::Float)],
            vec![image(&[3], Kind::Float)],
        ];
        for (inputs, expected) in inputs.iter().zip(messages) {
            let error = program.run(inputs).expect_err(expected).to_string();
            assert!(
                error.contains(expected) && !error.contains('\n'),
                "{name}: {error}"
            );
        }
        assert_eq!(run(&program, &input(2)).size(), [2, 10]);
    }
}

#[test]
fn programs_can_be_used_on_another_thread() {
    for name in PROGRAMS {
        let program = open(name);
        let here = bits(&run(&program, &input(7)));
        let there = std::thread::spawn(move || bits(&run(&program, &input(7))));
        assert_eq!(there.join().expect("no panic"), here);
    }
}

fn open(name: &str) -> Program {
    Program::open(&golden(name), Device::Cpu).expect("a program")
}

fn run(program: &Program, input: &Tensor) -> Tensor {
    let mut outputs = program.run(&[input.shallow_clone()]).expect("outputs");
    outputs.pop().expect("one output")
}

/// The first samples of the input that PyTorch computed, at most 64.
fn input(samples: i64) -> Tensor {
    expected("input").narrow(0, 0, samples)
}

fn expected(name: &str) -> Tensor {
    let file = golden_bytes("expected.safetensors");
    let file = SafeTensors::deserialize(&file).expect("a good file");
    let view = file.tensor(name).expect("a tensor of this name");
    let values: Vec<_> = view
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let shape: Vec<_> = view.shape().iter().map(|&size| size as i64).collect();
    Tensor::from_slice(&values).view(shape.as_slice())
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = tensor.reshape([-1]).try_into().expect("f32 values");
    values.into_iter().map(f32::to_bits).collect()
}
