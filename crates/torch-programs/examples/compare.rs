//! Compares the programs of `bench/make-teacher-files` with PyTorch, and measures them.
//!
//! ```text
//! cargo run --release -p torch-programs --example compare -- FOLDER
//! ```

use std::{env, error::Error, fs, path::Path, time::Instant};

use safetensors::SafeTensors;
use torch_programs::{Device, Dimension, Program, Tensor};

/// The batches in `expected.safetensors`.
const BATCHES: [i64; 3] = [1, 7, 64];
/// Calls per measurement.
const CALLS: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args_os()
        .nth(1)
        .ok_or("name the folder that bench/make-teacher-files wrote")?;
    let folder = Path::new(&folder);
    let expected = fs::read(folder.join("expected.safetensors"))?;
    let expected = SafeTensors::deserialize(&expected)?;
    let input = tensor(&expected, "input")?;
    for name in ["resnet18.pt2", "resnet18-batch16.pt2", "resnet18.pt"] {
        let start = Instant::now();
        let program = Program::open(&folder.join(name), Device::Cpu)?;
        println!(
            "{name}: loaded in {:.0} ms, {:?} parameters",
            start.elapsed().as_secs_f64() * 1e3,
            program.parameters()
        );
        if let Some(inputs) = program.inputs() {
            println!("  inputs {inputs:?}");
        }
        let fixed =
            program
                .inputs()
                .and_then(|inputs| match inputs.first()?.dimensions.first()? {
                    Dimension::Fixed(size) => i64::try_from(*size).ok(),
                    Dimension::Open { .. } => None,
                });
        let whole = tensor(&expected, "logits.64")?;
        for batch in fixed.map_or(BATCHES.to_vec(), |fixed| vec![fixed]) {
            let samples = [input.narrow(0, 0, batch)];
            let logits = &program.run(&samples)?[0];
            let same_batch =
                tensor(&expected, &format!("logits.{batch}")).unwrap_or(whole.narrow(0, 0, batch));
            let start = Instant::now();
            for _ in 0..CALLS {
                program.run(&samples)?;
            }
            println!(
                "  batch {batch}: off by {:e}, off by {:e} from the batch of 64, {:.1} ms per call",
                difference(logits, &same_batch),
                difference(logits, &whole.narrow(0, 0, batch)),
                start.elapsed().as_secs_f64() * 1e3 / f64::from(CALLS)
            );
        }
    }
    Ok(())
}

/// The largest difference of two values.
fn difference(left: &Tensor, right: &Tensor) -> f64 {
    (left - right).abs().max().double_value(&[])
}

fn tensor(file: &SafeTensors<'_>, name: &str) -> Result<Tensor, Box<dyn Error>> {
    let view = file.tensor(name)?;
    let values: Vec<_> = view
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let shape: Vec<_> = view.shape().iter().map(|&size| size as i64).collect();
    Ok(Tensor::from_slice(&values).view(shape.as_slice()))
}
