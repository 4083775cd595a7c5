//! A process without others.

use crate::{LostWorker, Workers};

/// The only worker of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Workers for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn count(&self) -> usize {
        1
    }

    fn gather(&self, own: &[f32]) -> Result<Vec<f32>, LostWorker> {
        Ok(own.to_vec())
    }

    fn gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, LostWorker> {
        Ok(vec![own.to_vec()])
    }

    fn broadcast(&self, own: Vec<u8>) -> Result<Vec<u8>, LostWorker> {
        Ok(own)
    }
}
