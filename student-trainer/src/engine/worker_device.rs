//! The device on which a worker trains.

use common::compute::DeviceChoice;
use torch_distributed::Workers;
use torch_networks::{Device, DeviceUnavailable, resolve_device};

/// The configured device of this worker. `auto` gives each worker of a machine a GPU of its own, if the launcher numbers them.
///
/// # Errors
/// [`DeviceUnavailable`] if this machine has no such CUDA device.
pub fn device_of_worker(
    workers: &dyn Workers,
    choice: DeviceChoice,
) -> Result<Device, DeviceUnavailable> {
    let device = resolve_device(choice)?;
    if choice == DeviceChoice::Auto && device.is_cuda() {
        return resolve_device(DeviceChoice::Cuda(workers.local_rank()));
    }
    Ok(device)
}
