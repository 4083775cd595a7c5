//! What tch lacks for CUDA: the properties of a device, and settings for the same bits in every run, through the C
//! interface of `shim/cuda.h` to libtorch and NVIDIA's driver.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};

/// Long enough for every name that NVIDIA's driver reports.
const NAME_BYTES: usize = 256;

/// A CUDA device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaDevice {
    /// The model, for example `NVIDIA H200`.
    pub name: String,
    /// Compute capability: major and minor number.
    pub capability: (i32, i32),
    /// Identifies the device among all devices.
    pub uuid: [u8; 16],
}

unsafe extern "C" {
    fn retort_describe_cuda_device(
        index: c_int,
        name: *mut c_char,
        capacity: usize,
        major: *mut c_int,
        minor: *mut c_int,
        uuid: *mut u8,
    ) -> bool;
    fn retort_make_cuda_reproducible() -> bool;
}

/// The CUDA device with this index; `None` if there is none, or no driver.
pub fn device(index: usize) -> Option<CudaDevice> {
    let index = c_int::try_from(index).ok()?;
    let mut name: [c_char; NAME_BYTES] = [0; NAME_BYTES];
    let (mut major, mut minor) = (0, 0);
    let mut uuid = [0_u8; 16];
    // SAFETY: the pointers are to local variables; the length is that of the array, and a UUID has 16 bytes.
    let found = unsafe {
        retort_describe_cuda_device(
            index,
            name.as_mut_ptr(),
            name.len(),
            &mut major,
            &mut minor,
            uuid.as_mut_ptr(),
        )
    };
    if !found {
        return None;
    }
    // SAFETY: the driver ends the name with a zero byte within its capacity.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    Some(CudaDevice {
        name: name.to_string_lossy().into_owned(),
        capability: (major, minor),
        uuid,
    })
}

/// Makes equal computations on CUDA give equal bits in every run of this process, and f32 mean f32. By default,
/// libtorch also takes algorithms of cuDNN whose sums depend on timing, and rounds the factors of f32 convolutions to
/// TF32. Returns whether libtorch accepted it.
pub fn make_reproducible() -> bool {
    // SAFETY: the function takes nothing and lets no exception out.
    unsafe { retort_make_cuda_reproducible() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_not_exist_has_no_description() {
        assert_eq!(device(9_999), None);
        assert_eq!(device(usize::MAX), None);
    }

    #[test]
    fn libtorch_accepts_the_settings_without_a_gpu() {
        assert!(make_reproducible());
    }
}
