//! Where ONNX Runtime computes.

use common::compute::DeviceChoice;
use ort::{
    ep::{self, ExecutionProvider},
    session::builder::SessionBuilder,
};

/// The configured device is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "device \"cuda:{asked}\" is not available: {reason}; use \"cpu\", or a machine with a GPU and a CUDA \
     build of ONNX Runtime (its path in ORT_DYLIB_PATH)"
)]
pub struct DeviceUnavailable {
    /// Index of the configured device.
    pub asked: usize,
    /// What ONNX Runtime says.
    pub reason: String,
}

/// The device on which a model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    Cpu,
    Cuda(usize),
}

/// Makes `builder` use the configured device.
///
/// # Errors
/// [`DeviceUnavailable`] if a CUDA device is configured that ONNX Runtime cannot use.
pub(crate) fn place(
    builder: SessionBuilder,
    choice: DeviceChoice,
) -> Result<(SessionBuilder, Device), DeviceUnavailable> {
    let asked = match choice {
        DeviceChoice::Cpu => return Ok((builder, Device::Cpu)),
        DeviceChoice::Auto if !has_cuda() => return Ok((builder, Device::Cpu)),
        DeviceChoice::Auto => 0,
        DeviceChoice::Cuda(asked) => asked,
    };
    // Otherwise every convolution would be measured anew at each start, and the fastest algorithm, and
    // with it the bits of the logits, could be another one each time.
    let cuda = ep::CUDA::default()
        .with_device_id(i32::try_from(asked).unwrap_or(i32::MAX))
        .with_tf32(false)
        .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
        .build()
        .error_on_failure();
    match builder.with_execution_providers([cuda]) {
        Ok(builder) => Ok((builder, Device::Cuda(asked))),
        // The library is a CUDA build, but the machine has no GPU or no driver.
        Err(error) if choice == DeviceChoice::Auto => Ok((error.recover(), Device::Cpu)),
        Err(error) => Err(DeviceUnavailable {
            asked,
            reason: error.message().to_owned(),
        }),
    }
}

fn has_cuda() -> bool {
    ep::CUDA::is_available().unwrap_or(false)
}

/// What besides the model affects the bits of its outputs: device, instruction set and version of ONNX
/// Runtime. The library must be loaded.
pub(crate) fn describe(device: Device) -> String {
    let device = match device {
        Device::Cpu => format!("cpu ({})", instruction_set()),
        Device::Cuda(index) => format!("cuda({index})"),
    };
    format!("{device}, ONNX Runtime {}", version(ort::info()))
}

/// The release, if it is built from a release's branch, and the commit in ONNX Runtime's description of its
/// build.
fn version(build_info: &str) -> String {
    let part = |key: &str| {
        let (_, rest) = build_info.split_once(key)?;
        rest.split([',', ' ']).next()
    };
    let release = part("git-branch=").and_then(|branch| branch.strip_prefix("rel-"));
    let commit = part("git-commit-id=").unwrap_or("unknown");
    match release {
        Some(release) => format!("{release} ({commit})"),
        None => format!("commit {commit}"),
    }
}

/// The newest instruction set for which ONNX Runtime has kernels and that the processor has.
fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
            return if has!("avx512vnni") {
                "AVX512-VNNI"
            } else {
                "AVX512"
            };
        }
        if has!("avx2") && has!("fma") {
            return "AVX2";
        }
    }
    std::env::consts::ARCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_build_info() {
        let info = "ORT Build Info: git-branch=rel-1.19.0, git-commit-id=26250ae, build type=Release, \
                    cmake cxx flags: /DWIN32";
        assert_eq!(version(info), "1.19.0 (26250ae)");
        // As PyPI's wheel of 1.32.0 says.
        let info = "ORT Build Info: git-branch=HEAD, git-commit-id=fab30a4, build type=Release";
        assert_eq!(version(info), "commit fab30a4");
        assert_eq!(version("something else"), "commit unknown");
    }
}
