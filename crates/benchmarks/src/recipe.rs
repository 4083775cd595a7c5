//! What benchmarks take from the demo's configurations.

use anyhow::Context;
use toml::{Table, Value};

const DEFAULTS: &str = include_str!("../../../configs/run.toml");
const TEACHER: &str = include_str!("../../../configs/demo/teacher.toml");
const STUDENT: &str = include_str!("../../../configs/demo/student.toml");

/// The class names of Fashion-MNIST, in label order.
pub(crate) fn class_names() -> anyhow::Result<Vec<String>> {
    let names = table(DEFAULTS)?["data"]["class_names"].clone();
    Ok(names.try_into()?)
}

/// The network of the demo's teacher.
pub(crate) fn teacher_network() -> anyhow::Result<Table> {
    let network = table(TEACHER)?["network"].clone();
    Ok(network.try_into()?)
}

/// The augmentation of runs that configure none.
pub(crate) fn augmentation() -> anyhow::Result<Table> {
    let augmentation = table(DEFAULTS)?["data"]["augmentation"].clone();
    Ok(augmentation.try_into()?)
}

/// The run of the demo's student.
pub(crate) fn student() -> anyhow::Result<Table> {
    table(STUDENT)
}

/// The first phase of `run`.
pub(crate) fn first_phase(run: &Table) -> anyhow::Result<Table> {
    let phase = run.get("phases").and_then(|phases| phases.get(0));
    let phase = phase.and_then(Value::as_table);
    phase.cloned().context("the run has no phase")
}

/// A loss on hard labels.
pub(crate) fn hard_labels() -> Table {
    Table::from_iter([("kind".to_owned(), "cross_entropy".into())])
}

fn table(text: &str) -> anyhow::Result<Table> {
    text.parse().context("a shipped configuration is not TOML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configurations_have_what_the_benchmark_takes() {
        assert_eq!(class_names().unwrap()[9], "Ankle boot");
        assert_eq!(augmentation().unwrap()["pad"].as_integer(), Some(2));
        assert_eq!(teacher_network().unwrap()["classes"].as_integer(), Some(10));
        let phase = first_phase(&student().unwrap()).unwrap();
        assert_eq!(phase["loss"]["kind"].as_str(), Some("soft_cross_entropy"));
    }
}
