//! The size and the speed of a network's file.

use networks::{NetworkSpec, Weights, WeightsError, onnx};
use onnx_runtime::Latency;

use crate::CliError;

/// Seed of the weights, which do not change the time.
const SEED: u64 = 1;

/// A network's file and its speed on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Size of the ONNX file.
    pub bytes: usize,
    pub latency: Latency,
}

/// Exports the network with random weights and measures it.
pub(super) fn measure(spec: &NetworkSpec) -> Result<Measured, CliError> {
    let invalid = |error: WeightsError| CliError::Usage(format!("the network: {error}"));
    let weights = Weights::initial(spec, SEED).map_err(|error| invalid(error.into()))?;
    let model = onnx::export(spec, &weights).map_err(invalid)?;
    drop(weights);
    Ok(Measured {
        bytes: model.len(),
        latency: Latency::measure(&model)?,
    })
}
