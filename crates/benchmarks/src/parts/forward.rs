//! A teacher's forward pass alone.

use std::path::PathBuf;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use common::{
    atomic_file,
    compute::{DeviceChoice, PrecisionChoice},
    output::Results,
};
use teacher_service::{
    backend::{Backend, RetortNetwork},
    batch::{Batch, Input},
    config::ComputeConfig,
    libtorch_environment::CpuIsa,
};

use crate::measurement::Stopwatch;

/// Batches before the measurement.
const WARM_UP: u64 = 10;

/// Compute logits in this process, without network traffic, and print the time as JSON.
#[derive(Debug, Args)]
pub(crate) struct ForwardArguments {
    /// Folder with weights.safetensors and model.toml.
    #[arg(long, value_name = "DIR")]
    artifact: PathBuf,
    /// Minimum number of samples to compute.
    #[arg(long)]
    samples: u64,
    /// Samples per batch.
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Threads for one batch; 0 = all cores.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// "auto", "f32" or "bf16".
    #[arg(long, default_value = "auto", value_parser = precision)]
    precision: PrecisionChoice,
    /// "auto", "cpu", "cuda" or "cuda:1".
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Write the logits of one batch to this file: f32 in row-major order, little-endian.
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,
}

fn precision(text: &str) -> Result<PrecisionChoice, String> {
    match text {
        "auto" => Ok(PrecisionChoice::Auto),
        "f32" => Ok(PrecisionChoice::F32),
        "bf16" => Ok(PrecisionChoice::Bf16),
        other => Err(format!("`{other}` is not one of auto, f32 and bf16")),
    }
}

/// Measures forward passes.
pub(super) fn measure(arguments: &ForwardArguments) -> anyhow::Result<()> {
    let config = ComputeConfig {
        threads: arguments.threads,
        precision: arguments.precision,
        cpu_isa: CpuIsa::Auto,
        device: arguments.device,
    };
    let mut teacher = RetortNetwork::load(&arguments.artifact, &config)?;
    let dimensions = &teacher.description().input.dimensions;
    let pixels = dimensions.sample_values().unwrap_or_default();
    let pixels = (0..arguments.batch_size * pixels).map(|index| (index * 37 % 251) as u8);
    let batch = Batch {
        samples: arguments.batch_size,
        input: Input::U8(Bytes::from_iter(pixels)),
    };
    for _ in 0..WARM_UP {
        teacher.logits(&batch)?;
    }
    if let Some(file) = &arguments.logits {
        let logits = teacher.logits(&batch)?.into_iter();
        let bytes: Vec<u8> = logits.flat_map(f32::to_le_bytes).collect();
        atomic_file::write(file, &bytes).with_context(|| file.display().to_string())?;
    }
    let batches = arguments.samples.div_ceil(arguments.batch_size as u64);
    let watch = Stopwatch::start();
    for _ in 0..batches {
        teacher.logits(&batch)?;
    }
    let measurement = watch.stop(batches * arguments.batch_size as u64);
    writeln!(Results, "{}", serde_json::to_string(&measurement)?)?;
    Ok(())
}
