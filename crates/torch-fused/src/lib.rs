//! Operations of training on a CPU that libtorch runs one by one, fused behind the C interface of `shim/batch_norm.h`: they
//! are limited by the memory's speed, and each pass over the activations that is saved counts.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_char, c_void},
    ptr,
};

use tch::{TchError, Tensor};

/// Enough for a message of libtorch; a longer one is cut.
const ERROR_BYTES: usize = 1024;

/// Batch normalization in training (Ioffe and Szegedy 2015), then a sum and limits.
#[derive(Debug)]
pub struct BatchNorm<'t> {
    /// f32 [channels].
    pub scale: &'t Tensor,
    /// f32 [channels].
    pub shift: &'t Tensor,
    /// f32 [channels], updated in place.
    pub running_mean: &'t Tensor,
    /// f32 [channels], updated in place: the unbiased variance.
    pub running_variance: &'t Tensor,
    /// Added to the normalized input; it has the input's shape.
    pub residual: Option<&'t Tensor>,
    /// Share of the running statistics that a batch replaces.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
    /// Limits of the result.
    pub limits: Limits,
}

/// The activations that are limits of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// No activation.
    None,
    /// From 0.
    Relu,
    /// From 0 to 6.
    Relu6,
}

/// Whether [`BatchNorm::forward`] takes `input`: f32 or bf16 on the CPU, [n, channels, height, width] in channels-last layout.
pub fn is_fused(input: &Tensor) -> bool {
    // SAFETY: the pointer is to the `at::Tensor` of a borrowed tensor.
    unsafe { retort_fuses_batch_norm(input.as_ptr().cast()) }
}

impl BatchNorm<'_> {
    /// The result for an input for which [`is_fused`] holds, in the input's type and layout, with gradients for input, residual,
    /// scale and shift; a backward pass computes only those that it needs. Two values per channel or more are necessary.
    ///
    /// All arithmetic is f32, and only the result is rounded. Bits are a function of the number of threads; the instruction
    /// set does not affect them.
    ///
    /// # Errors
    /// If the shapes do not fit; errors of libtorch. A backward pass that asks for second derivatives fails.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.check(input)?;
        let [lower, upper] = match self.limits {
            Limits::None => [f32::NEG_INFINITY, f32::INFINITY],
            Limits::Relu => [0.0, f32::INFINITY],
            Limits::Relu6 => [0.0, 6.0],
        };
        let pointer = |tensor: &Tensor| tensor.as_ptr().cast::<c_void>();
        let norm = RawBatchNorm {
            scale: pointer(self.scale),
            shift: pointer(self.shift),
            running_mean: pointer(self.running_mean),
            running_variance: pointer(self.running_variance),
            residual: self.residual.map_or(ptr::null(), pointer),
            momentum: self.momentum,
            epsilon: self.epsilon,
            lower,
            upper,
        };
        let mut output = ptr::null_mut();
        let mut error: [c_char; ERROR_BYTES] = [0; ERROR_BYTES];
        // SAFETY: the pointers are to the `at::Tensor`s of borrowed tensors, whose types and sizes were checked; the others
        // are to local variables, and the length is that of the array.
        let succeeded = unsafe {
            retort_batch_norm(
                pointer(input),
                &norm,
                &mut output,
                error.as_mut_ptr(),
                ERROR_BYTES,
            )
        };
        if !succeeded {
            // SAFETY: the array began as zeros, and the C interface ends its text with a zero byte within the capacity.
            let text = unsafe { CStr::from_ptr(error.as_ptr()) };
            return Err(TchError::Torch(text.to_string_lossy().into_owned()));
        }
        // SAFETY: after success it is a new `at::Tensor`, which the new `Tensor` owns and releases.
        Ok(unsafe { Tensor::from_ptr(output.cast()) })
    }

    /// The kernels trust types and sizes.
    fn check(&self, input: &Tensor) -> Result<(), TchError> {
        let wrong = |what: &str| Err(TchError::Shape(what.to_owned()));
        if !is_fused(input) {
            return wrong("the input of a fused batch-norm must be channels-last on the CPU");
        }
        let size = input.size();
        if size[0] * size[2] * size[3] < 2 {
            return wrong("batch-norm cannot train on a single value per channel");
        }
        let of_channels = [
            self.scale,
            self.shift,
            self.running_mean,
            self.running_variance,
        ];
        let fits = of_channels.iter().all(|tensor| {
            tensor.size() == [size[1]]
                && tensor.kind() == tch::Kind::Float
                && tensor.device() == tch::Device::Cpu
                && tensor.is_contiguous()
        });
        if !fits {
            return wrong("the parameters of a fused batch-norm must be f32 [channels] on the CPU");
        }
        Ok(())
    }
}

/// As in `shim/batch_norm.h`.
#[repr(C)]
struct RawBatchNorm {
    scale: *const c_void,
    shift: *const c_void,
    running_mean: *const c_void,
    running_variance: *const c_void,
    residual: *const c_void,
    momentum: f64,
    epsilon: f64,
    lower: f32,
    upper: f32,
}

unsafe extern "C" {
    fn retort_fuses_batch_norm(input: *const c_void) -> bool;
    fn retort_batch_norm(
        input: *const c_void,
        norm: *const RawBatchNorm,
        output: *mut *mut c_void,
        error: *mut c_char,
        capacity: usize,
    ) -> bool;
}

#[cfg(test)]
mod tests;
