//! A process without others.

use tch::Tensor;

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

    fn gather(&self, own: &Tensor, all: &mut Tensor) -> Result<(), LostWorker> {
        all.f_copy_(own).map_err(|error| LostWorker {
            rank: self.rank(),
            count: self.count(),
            problem: error.to_string(),
        })
    }

    fn gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, LostWorker> {
        Ok(vec![own.to_vec()])
    }

    fn broadcast(&self, own: Vec<u8>) -> Result<Vec<u8>, LostWorker> {
        Ok(own)
    }
}
