//! The parts of a data set.

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// For training and, held out of it, for validation.
    Train,
    /// For the evaluation at the end.
    Test,
}
