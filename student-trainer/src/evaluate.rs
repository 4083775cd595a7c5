//! The one look at the test split.
