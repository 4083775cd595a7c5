//! Moves batches to the device that computes.

use tch::{Device, TchError, Tensor};

/// Moves a tensor from the CPU to `device`. On the CPU this is the tensor itself. A GPU copies it from pinned memory
/// behind the work that it still has, and the caller continues at once: libtorch queues the steps of training, so
/// the copy of one batch runs while the caller prepares the next. (The allocator of pinned memory keeps the
/// memory until the copy is done.)
///
/// # Errors
/// Errors of libtorch.
pub fn to_device(tensor: Tensor, device: Device) -> Result<Tensor, TchError> {
    if device == Device::Cpu {
        return Ok(tensor);
    }
    let kind = tensor.f_kind()?;
    // `pin_memory` itself warns about its argument in each call.
    let pinned = tensor.f_internal_pin_memory(device)?;
    pinned.f_to_device_(device, kind, true, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_gets_the_tensor_itself() {
        let tensor = Tensor::from_slice(&[1.0_f32, 2.0]);
        let memory = tensor.data_ptr();
        let moved = to_device(tensor, Device::Cpu).unwrap();
        assert_eq!(moved.data_ptr(), memory);
    }
}
