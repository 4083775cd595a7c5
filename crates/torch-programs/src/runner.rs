//! The C interface of `shim/model_runner.h`: the only unsafe code of this crate.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_void},
    path::Path,
    ptr,
};

use tch::Tensor;

use crate::error::concise;

/// A `torch::nativert::ModelRunnerHandle`.
#[derive(Debug)]
pub(crate) struct Runner(*mut c_void);

// SAFETY: a handle owns its program and is bound to no thread. It is not `Sync`: calls use its buffers.
unsafe impl Send for Runner {}

unsafe extern "C" {
    fn retort_open_runner(
        path: *const c_char,
        model: *const c_char,
        runner: *mut *mut c_void,
        message: *mut *mut c_char,
    ) -> bool;
    fn retort_close_runner(runner: *mut c_void);
    fn retort_run(
        runner: *mut c_void,
        inputs: *const *const c_void,
        input_count: usize,
        outputs: *mut *mut c_void,
        output_count: usize,
        message: *mut *mut c_char,
    ) -> bool;
    fn retort_release_message(message: *mut c_char);
}

impl Runner {
    /// Loads the program `model` of an archive; an error is libtorch's message.
    pub(crate) fn open(path: &Path, model: &str) -> Result<Self, String> {
        let with_zero = |_| "the path or the program's name contains a zero byte".to_owned();
        let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(with_zero)?;
        let model = CString::new(model).map_err(with_zero)?;
        let mut runner = ptr::null_mut();
        let mut message = ptr::null_mut();
        // SAFETY: both texts end with a zero byte and outlive the call; the other pointers are to local variables.
        let opened =
            unsafe { retort_open_runner(path.as_ptr(), model.as_ptr(), &mut runner, &mut message) };
        if opened {
            Ok(Runner(runner))
        } else {
            Err(take(message))
        }
    }

    /// Runs the program, which must return `outputs` tensors; an error is libtorch's message.
    pub(crate) fn run(&self, inputs: &[Tensor], outputs: usize) -> Result<Vec<Tensor>, String> {
        let inputs: Vec<*const c_void> = inputs.iter().map(|input| input.as_ptr().cast()).collect();
        let mut found = vec![ptr::null_mut(); outputs];
        let mut message = ptr::null_mut();
        // SAFETY: the runner is open. The inputs are pointers to `at::Tensor`, which the borrowed tensors keep alive.
        // The arrays have the given lengths.
        let ran = unsafe {
            retort_run(
                self.0,
                inputs.as_ptr(),
                inputs.len(),
                found.as_mut_ptr(),
                found.len(),
                &mut message,
            )
        };
        if !ran {
            return Err(take(message));
        }
        // SAFETY: after success every element is a new `at::Tensor`, which the new `Tensor` owns and releases.
        Ok(found
            .into_iter()
            .map(|tensor| unsafe { Tensor::from_ptr(tensor.cast()) })
            .collect())
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // SAFETY: the runner is open, and no other code uses it after this call.
        unsafe { retort_close_runner(self.0) }
    }
}

/// Takes a message of the shim.
fn take(message: *mut c_char) -> String {
    if message.is_null() {
        return "out of memory".to_owned();
    }
    // SAFETY: a message that is not null ends with a zero byte.
    let text = concise(&unsafe { CStr::from_ptr(message) }.to_string_lossy());
    // SAFETY: the message is released once, here.
    unsafe { retort_release_message(message) };
    text
}
