//! The demo's run configurations: the shipped files, overridden with this demo's values.

use std::net::SocketAddr;

use serde::Deserialize;
use toml::Value;

use crate::run_config::RunConfigText;

/// Name of the model that the demo publishes.
pub(super) const MODEL: &str = "fashion-mnist";

/// The trainer's defaults, which every configuration overrides.
const TRAINER_DEFAULTS: &str = include_str!("../../../configs/run.toml");

/// The run of the demo's teacher.
const TEACHER_RECIPE: &str = include_str!("../../../configs/demo/teacher.toml");

/// The run of the demo's student.
const STUDENT_RECIPE: &str = include_str!("../../../configs/demo/student.toml");

/// Number of test images in the quick demo.
const QUICK_TEST_SAMPLES: usize = 1_000;

/// Configurations of the three runs (TOML).
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipe {
    teacher: &'static str,
    baseline: &'static str,
    student: &'static str,
    /// Number of test images, a sample of the split; `None`: all.
    pub test_samples: Option<usize>,
}

/// Values that all runs of one demo share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<'a> {
    pub seed: u64,
    pub data: &'a str,
}

impl Recipe {
    /// The full demo, with the results of docs/results.md.
    pub(super) const FULL: Self = Self {
        teacher: TEACHER_RECIPE,
        baseline: include_str!("../../../configs/demo/baseline.toml"),
        student: STUDENT_RECIPE,
        test_samples: None,
    };

    /// A recipe with the same steps that is small enough for tests.
    pub(super) const QUICK: Self = Self {
        teacher: include_str!("../../../configs/demo-quick/teacher.toml"),
        baseline: include_str!("../../../configs/demo-quick/baseline.toml"),
        student: include_str!("../../../configs/demo-quick/student.toml"),
        test_samples: Some(QUICK_TEST_SAMPLES),
    };

    /// The teacher's run.
    pub(super) fn teacher(&self, shared: Shared<'_>) -> RunConfigText {
        configure(self.teacher, shared, [])
    }

    /// The run of the student without a teacher.
    pub(super) fn baseline(&self, shared: Shared<'_>) -> RunConfigText {
        configure(self.baseline, shared, [])
    }

    /// The student's run: distils from `teachers` and publishes at `admin`.
    pub(super) fn student(
        &self,
        shared: Shared<'_>,
        teachers: &[SocketAddr],
        admin: SocketAddr,
    ) -> RunConfigText {
        let teachers: Vec<String> = teachers.iter().map(SocketAddr::to_string).collect();
        let values = [
            ("teacher.endpoints", Value::from(teachers)),
            ("publish.endpoint", Value::from(admin.to_string())),
            ("publish.model", Value::from(MODEL)),
        ];
        configure(self.student, shared, values)
    }
}

/// The class names of Fashion-MNIST, in label order.
pub(super) fn class_names() -> Vec<String> {
    #[derive(Deserialize)]
    struct Defaults {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        class_names: Vec<String>,
    }
    // Cannot fail: the file is compiled in, and a test reads the names.
    let defaults: Defaults = toml::from_str(TRAINER_DEFAULTS).expect("data.class_names is there");
    defaults.data.class_names
}

fn configure<const N: usize>(
    shipped: &str,
    shared: Shared<'_>,
    values: [(&str, Value); N],
) -> RunConfigText {
    // Cannot fail: tests parse every shipped configuration and set all of these keys.
    let mut config = RunConfigText::parse(shipped).expect("shipped configurations are TOML");
    let seed = i64::try_from(shared.seed).unwrap_or(i64::MAX);
    let shared = [
        ("seed", Value::from(seed)),
        ("data.path", Value::from(shared.data)),
    ];
    for (key, value) in shared.into_iter().chain(values) {
        config.set(key, value).expect("the keys name no table");
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared<'static> {
        Shared {
            seed: 7,
            data: "/a folder/\"data\"",
        }
    }

    #[test]
    fn all_shipped_configurations_accept_the_demos_values() {
        let address = "127.0.0.1:9".parse().unwrap();
        for recipe in [Recipe::FULL, Recipe::QUICK] {
            let student = recipe.student(shared(), &[address, address], address);
            for config in [recipe.teacher(shared()), recipe.baseline(shared()), student] {
                let table: toml::Table = config.to_toml().parse().unwrap();
                assert_eq!(table["seed"].as_integer(), Some(7));
                assert_eq!(table["data"]["path"].as_str(), Some("/a folder/\"data\""));
            }
        }
    }

    #[test]
    fn the_class_names_are_those_of_fashion_mnist() {
        let names = class_names();
        assert_eq!((names.len(), names[9].as_str()), (10, "Ankle boot"));
    }

    /// The comparison is fair: student, data, epochs and schedules are the same.
    #[test]
    fn baseline_and_student_differ_in_loss_and_teacher_only() {
        for recipe in [Recipe::FULL, Recipe::QUICK] {
            let [baseline, mut student] =
                [recipe.baseline, recipe.student].map(|text| text.parse::<toml::Table>().unwrap());
            student.remove("teacher").unwrap();
            let mut losses = 0;
            let phases = student["phases"].as_array_mut().unwrap();
            for (phase, base) in phases
                .iter_mut()
                .zip(baseline["phases"].as_array().unwrap())
            {
                losses += usize::from(phase["loss"] != base["loss"]);
                phase["loss"] = base["loss"].clone();
            }
            assert_eq!(losses, 1);
            assert_eq!(student, baseline);
        }
    }
}
