//! Reuses the memory of batches' inputs.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::mpsc::{Receiver, Sender, channel},
};

/// Creates buffers and reuses those that were dropped, on any thread.
#[derive(Debug)]
pub struct InputBuffers {
    returned: Sender<Vec<f32>>,
    free: Receiver<Vec<f32>>,
}

/// A buffer that returns its memory when it is dropped.
#[derive(Debug)]
pub struct InputBuffer {
    values: Vec<f32>,
    returned: Sender<Vec<f32>>,
}

impl Default for InputBuffers {
    fn default() -> Self {
        let (returned, free) = channel();
        Self { returned, free }
    }
}

impl InputBuffers {
    /// An empty buffer, with the memory of a dropped one if there is one.
    pub fn take(&self) -> InputBuffer {
        let mut values = self.free.try_recv().unwrap_or_default();
        values.clear();
        InputBuffer {
            values,
            returned: self.returned.clone(),
        }
    }
}

impl Deref for InputBuffer {
    type Target = Vec<f32>;

    fn deref(&self) -> &Vec<f32> {
        &self.values
    }
}

impl DerefMut for InputBuffer {
    fn deref_mut(&mut self) -> &mut Vec<f32> {
        &mut self.values
    }
}

impl Drop for InputBuffer {
    fn drop(&mut self) {
        // Sending fails if the pool is gone; then the memory is freed.
        let _ = self.returned.send(mem::take(&mut self.values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again_and_comes_empty() {
        let buffers = InputBuffers::default();
        let mut first = buffers.take();
        first.extend([1.0; 100]);
        let memory = first.as_ptr();
        let second = buffers.take();
        assert_eq!(second.capacity(), 0, "the first one is still in use");
        drop(first);
        let again = buffers.take();
        assert_eq!(again.as_ptr(), memory);
        assert!(again.is_empty() && again.capacity() >= 100);
        drop(buffers);
        drop(again);
    }
}
