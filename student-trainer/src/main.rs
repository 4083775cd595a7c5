//! Trains teachers and distils students.

fn main() {}
