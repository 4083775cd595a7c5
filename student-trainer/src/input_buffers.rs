//! The memory of batches' inputs, used again and again.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::mpsc::{Receiver, Sender, channel},
};

/// Makes buffers, and has back those that were dropped, on whatever thread.
#[derive(Debug)]
pub struct InputBuffers {
    home: Sender<Vec<f32>>,
    free: Receiver<Vec<f32>>,
}

/// A buffer that goes back when it is dropped.
#[derive(Debug)]
pub struct InputBuffer {
    values: Vec<f32>,
    home: Sender<Vec<f32>>,
}

impl Default for InputBuffers {
    fn default() -> Self {
        let (home, free) = channel();
        Self { home, free }
    }
}

impl InputBuffers {
    /// An empty buffer, with the memory of one that is back where there is one.
    pub fn take(&self) -> InputBuffer {
        let mut values = self.free.try_recv().unwrap_or_default();
        values.clear();
        InputBuffer {
            values,
            home: self.home.clone(),
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
        // Without anybody to take it again, the memory goes.
        let _ = self.home.send(mem::take(&mut self.values));
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
