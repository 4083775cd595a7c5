//! Prints training and forward throughput of some networks, to compare machines and code changes.
//!
//! `cargo run --release -p torch-networks --example throughput -- [THREADS] [SECONDS]`

use std::time::{Duration, Instant};

use networks::{NetworkSpec, Weights};
use tch::{Device, Kind, Tensor, no_grad};
use torch_networks::{Mode, Precision, TorchError, TorchNetwork};

const BATCH: i64 = 128;

const NETWORKS: [(&str, &str); 3] = [
    (
        "ResNet-14 32/64/128, stride-2 stem",
        "preset = 'resnet'\nwidths = [32, 64, 128]\ndepths = [2, 2, 2]\nstem_stride = 2",
    ),
    (
        "ResNet-8 16/32/64",
        "preset = 'resnet'\nwidths = [16, 32, 64]",
    ),
    (
        "CNN 24-48-64, strides 2 2 1",
        "preset = 'cnn'\nwidths = [24, 48, 64]\nstrides = [2, 2, 1]",
    ),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().map_or(Ok(1), |threads| threads.parse())?;
    let seconds = Duration::from_secs_f64(
        arguments
            .next()
            .map_or(Ok(3.0), |seconds| seconds.parse())?,
    );
    torch_networks::set_threads(threads);
    println!(
        "samples/s, batch {BATCH}, {threads} threads, {}",
        torch_networks::InstructionSet::current()
    );
    println!("{:36} {:>5} {:>8} {:>8}", "network", "", "train", "forward");
    for (name, preset) in NETWORKS {
        let spec = NetworkSpec::from_toml(&format!("input = [1, 28, 28]\nclasses = 10\n{preset}"))?;
        let network = TorchNetwork::new(&spec, &Weights::initial(&spec, 1)?, Device::Cpu)?;
        let input = Tensor::f_randn([BATCH, 1, 28, 28], (Kind::Float, Device::Cpu))?;
        let labels = Tensor::f_randint(10, [BATCH], (Kind::Int64, Device::Cpu))?;
        for precision in [Precision::F32, Precision::Bf16] {
            let train = measure(seconds, || step(&network, &input, &labels, precision))?;
            let forward = measure(seconds, || {
                no_grad(|| network.forward(&input, Mode::Evaluate, precision)).map(drop)
            })?;
            println!("{name:36} {precision:>5} {train:8.0} {forward:8.0}");
        }
    }
    Ok(())
}

/// One step of plain gradient descent.
fn step(
    network: &TorchNetwork,
    input: &Tensor,
    labels: &Tensor,
    precision: Precision,
) -> Result<(), TorchError> {
    let logits = network.forward(input, Mode::Train { dropout_seed: 0 }, precision)?;
    logits.cross_entropy_for_logits(labels).f_backward()?;
    no_grad(|| {
        for (_, parameter) in network.parameters() {
            let mut gradient = parameter.f_grad()?;
            let _ = parameter
                .shallow_clone()
                .f_sub_(&gradient.f_mul_scalar(1e-4)?)?;
            let _ = gradient.f_zero_()?;
        }
        Ok(())
    })
}

/// Samples per second over repeated batches, after two warm-up batches.
fn measure(
    seconds: Duration,
    mut batch: impl FnMut() -> Result<(), TorchError>,
) -> Result<f64, TorchError> {
    batch()?;
    batch()?;
    let start = Instant::now();
    let mut batches = 0;
    while start.elapsed() < seconds {
        batch()?;
        batches += 1;
    }
    Ok(f64::from(batches) * BATCH as f64 / start.elapsed().as_secs_f64())
}
