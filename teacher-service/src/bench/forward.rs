//! A teacher's forward pass alone.

use common::output::Results;
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use common::turn::Stopwatch;
use torch_networks::{DeviceChoice, PrecisionChoice};

use crate::{
    backend::{Backend, RetortNetwork},
    batch::{Batch, Input},
    config::ComputeConfig,
    libtorch_environment::CpuIsa,
};

/// Batches before the clock starts.
const WARM_UP: u64 = 10;

#[derive(Args)]
pub(super) struct ForwardArguments {
    /// Folder with weights.safetensors and model.toml.
    #[arg(long, value_name = "DIR")]
    artifact: PathBuf,
    /// Samples to compute, at least.
    #[arg(long)]
    samples: u64,
    /// Samples a batch.
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Threads for one batch; 0 = all cores.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

pub(super) fn execute(arguments: &ForwardArguments) -> anyhow::Result<()> {
    let config = ComputeConfig {
        threads: arguments.threads,
        precision: PrecisionChoice::Auto,
        cpu_isa: CpuIsa::Auto,
        device: DeviceChoice::Cpu,
    };
    let mut teacher = RetortNetwork::load(&arguments.artifact, &config)?;
    let pixels: usize = teacher.description().input_shape.iter().product();
    let pixels = (0..arguments.batch_size * pixels).map(|place| (place * 37 % 251) as u8);
    let batch = Batch {
        samples: arguments.batch_size,
        input: Input::U8(Bytes::from_iter(pixels)),
    };
    for _ in 0..WARM_UP {
        teacher.logits(&batch)?;
    }
    let batches = arguments.samples.div_ceil(arguments.batch_size as u64);
    let watch = Stopwatch::start();
    for _ in 0..batches {
        teacher.logits(&batch)?;
    }
    let turn = watch.stop(batches * arguments.batch_size as u64);
    writeln!(Results, "{}", serde_json::to_string(&turn)?)?;
    Ok(())
}
