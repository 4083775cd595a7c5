//! retort: demo, runs, predictions, models.

fn main() {}
