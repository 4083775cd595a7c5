//! Selection of the device.

use common::compute::DeviceChoice;
use tch::{Cuda, Device};

/// The configuration selects a CUDA device that libtorch cannot use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceUnavailable {
    /// There is no CUDA device, or this libtorch is a CPU build.
    #[error(
        "device \"cuda:{asked}\" is not available: libtorch {} finds no CUDA device; use \"cpu\", or a machine with a \
         GPU and a CUDA build of libtorch (make setup DEVICE=cuda)",
        env!("LIBTORCH_VERSION")
    )]
    NoCuda {
        /// Index of the configured device.
        asked: usize,
    },
    /// The machine has fewer CUDA devices.
    #[error(
        "device \"cuda:{asked}\" does not exist: libtorch finds {}",
        found(*count)
    )]
    TooFew {
        /// Index of the configured device.
        asked: usize,
        /// Number of CUDA devices.
        count: usize,
    },
}

/// Resolves a configured device on this machine.
///
/// # Errors
/// [`DeviceUnavailable`] if the CUDA device does not exist.
pub fn resolve_device(choice: DeviceChoice) -> Result<Device, DeviceUnavailable> {
    let count = if Cuda::is_available() {
        usize::try_from(Cuda::device_count()).unwrap_or(0)
    } else {
        0
    };
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto if count == 0 => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(Device::Cuda(0)),
        DeviceChoice::Cuda(asked) if asked < count => Ok(Device::Cuda(asked)),
        DeviceChoice::Cuda(asked) if count == 0 => Err(DeviceUnavailable::NoCuda { asked }),
        DeviceChoice::Cuda(asked) => Err(DeviceUnavailable::TooFew { asked, count }),
    }
}

/// What identifies the GPU among those of all machines, in hexadecimal; `None` for other devices, or if the driver does not say.
pub fn gpu_uuid(device: Device) -> Option<String> {
    let Device::Cuda(index) = device else {
        return None;
    };
    torch_cuda::device(index).map(|device| hex::encode(device.uuid))
}

fn found(count: usize) -> String {
    let devices = (0..count).map(|index| match torch_cuda::device(index) {
        Some(device) => format!("cuda:{index} ({})", device.name),
        None => format!("cuda:{index}"),
    });
    devices.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_a_missing_device() {
        assert_eq!(resolve_device(DeviceChoice::Cpu), Ok(Device::Cpu));
        let error = resolve_device(DeviceChoice::Cuda(99)).unwrap_err();
        assert!(error.to_string().contains("cuda:99"), "{error}");
        let (asked, count) = (7, 2);
        let error = DeviceUnavailable::TooFew { asked, count }.to_string();
        for part in ["\"cuda:7\" does not exist", "cuda:0", "cuda:1"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
