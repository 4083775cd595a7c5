//! Batches in seeded order, made ahead of training.
