//! The training loop, losses, optimizers and schedules. Nothing else in this crate touches libtorch.
