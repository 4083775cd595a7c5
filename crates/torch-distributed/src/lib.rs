//! Processes that train together: they meet at an address and exchange numbers, as one [`Workers`].
//!
//! [`ProcessGroup`] is libtorch's c10d through the C interface of `shim/process_group.h`: a TCPStore, Gloo for the memory of the
//! CPU, and NCCL for that of GPUs, if libtorch has CUDA ([`has_nccl`]). [`Rendezvous::from_environment`] reads where the
//! processes meet from the variables of `torchrun` and of Kubeflow Trainer. [`Alone`] is a process without others.

mod alone;
mod process_group;
mod rendezvous;
mod workers;

pub use alone::Alone;
pub use process_group::{ENVIRONMENT, ProcessGroup, has_nccl};
pub use rendezvous::{Rendezvous, RendezvousError};
pub use workers::{LostWorker, Workers};
