//! Programs of PyTorch, compared with the logits that PyTorch computes, and files that are no programs.

mod edited_archive;
mod golden;
mod properties;
mod refusals;
