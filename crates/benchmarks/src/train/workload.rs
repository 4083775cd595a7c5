//! The networks that benchmarks train.

use std::path::Path;

use clap::ValueEnum;
use networks::NetworkSpec;
use proto::runs::v1::SubmitRunRequest;
use toml::{Table, Value};

use crate::{network::Network, recipe, task::Task, trainer::text};

/// Samples per step.
pub(crate) const BATCH_SIZE: usize = 128;

/// A network and the images that it trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// The demo's student, a plain CNN of 39K parameters (configs/demo/student.toml).
    DemoStudent,
    /// The demo's teacher, a ResNet-14 of 0.7M parameters (configs/demo/teacher.toml).
    DemoTeacher,
    /// A ResNet-8 of 77K parameters (configs/bench/resnet8.toml).
    Resnet8,
    /// MobileNetV2 of 2.2M parameters, on generated color images of 64 pixels.
    #[value(name = "mobilenet-v2")]
    MobilenetV2,
}

/// How long and on how many threads a workload trains.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub threads: usize,
    /// Measured epochs. One more epoch comes first.
    pub epochs: usize,
}

impl Workload {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DemoStudent => "demo-student",
            Self::DemoTeacher => "demo-teacher",
            Self::Resnet8 => "resnet8",
            Self::MobilenetV2 => "mobilenet-v2",
        }
    }

    /// The images.
    pub(crate) fn task(self) -> Task {
        match self {
            Self::DemoStudent | Self::DemoTeacher | Self::Resnet8 => Task::FashionMnist,
            Self::MobilenetV2 => Task::Color64,
        }
    }

    /// Samples of an epoch, a multiple of [`BATCH_SIZE`]: an epoch takes a second or more, and its steps are enough that the
    /// trainer's checkpoint is a small part of it.
    pub(crate) fn samples(self) -> usize {
        match self {
            Self::DemoStudent => 8_192,
            Self::DemoTeacher => 2_048,
            Self::Resnet8 => 4_096,
            Self::MobilenetV2 => 512,
        }
    }

    /// The network.
    ///
    /// # Errors
    /// If a shipped configuration is invalid.
    pub(crate) fn network(self) -> anyhow::Result<NetworkSpec> {
        Ok(match self {
            Self::DemoStudent => Network::DemoStudent.spec(),
            Self::Resnet8 => Network::Resnet8.spec(),
            Self::DemoTeacher => recipe::teacher_network()?.try_into()?,
            Self::MobilenetV2 => {
                let mut network = toml::toml! {
                    classes = 10
                    preset = "mobilenet_v2"
                };
                network.insert("input".to_owned(), Value::from(self.task().input()));
                network.try_into()?
            }
        })
    }

    /// A run that trains on hard labels of the images in `data`, with one phase of `samples` samples.
    ///
    /// # Errors
    /// If a shipped configuration is invalid, or a path is not UTF-8.
    pub(crate) fn run(
        self,
        amount: Amount,
        samples: usize,
        data: &Path,
    ) -> anyhow::Result<SubmitRunRequest> {
        let mut run = Table::new();
        let threads = i64::try_from(amount.threads)?;
        run.insert("threads".to_owned(), threads.into());
        run.insert("network".to_owned(), Value::try_from(self.network()?)?);
        self.task().adapt(&mut run)?;
        let epochs = i64::try_from(amount.epochs + 1)?;
        let phase = Table::from_iter([
            ("epochs".to_owned(), epochs.into()),
            ("batch_size".to_owned(), Value::from(BATCH_SIZE as i64)),
            ("loss".to_owned(), recipe::hard_labels().into()),
            ("optimizer".to_owned(), optimizer().into()),
            ("schedule".to_owned(), schedule().into()),
        ]);
        run.insert("phases".to_owned(), Value::from(vec![phase]));
        Ok(SubmitRunRequest {
            name: self.name().to_owned(),
            config_toml: run.to_string(),
            overrides: vec![
                "export.onnx=false".to_owned(),
                format!("data.path={}", Value::from(text(data)?)),
                format!("data.train_samples={samples}"),
            ],
        })
    }
}

/// The optimizer of the demo's student.
pub(super) fn optimizer() -> Table {
    toml::toml! {
        kind = "sgd"
        momentum = 0.9
        nesterov = true
        weight_decay = 1e-4
    }
}

/// A learning rate with which no network diverges.
pub(super) fn schedule() -> Table {
    toml::toml! {
        kind = "constant"
        learning_rate = 0.01
    }
}

#[cfg(test)]
mod tests {
    use networks::cost;

    use super::*;

    #[test]
    fn the_networks_are_those_of_the_documentation() {
        for (workload, parameters) in [
            (Workload::DemoStudent, 39_154..39_155),
            (Workload::DemoTeacher, 696_042..696_043),
            (Workload::Resnet8, 77_000..79_000),
            (Workload::MobilenetV2, 2_230_000..2_240_000),
        ] {
            let found = cost(&workload.network().unwrap()).unwrap().parameters;
            assert!(parameters.contains(&found), "{workload:?}: {found}");
            assert_eq!(Workload::from_str(workload.name(), false), Ok(workload));
            assert!(workload.samples().is_multiple_of(BATCH_SIZE));
        }
    }

    #[test]
    fn every_run_names_its_images_and_one_phase() {
        let amount = Amount {
            threads: 2,
            epochs: 3,
        };
        for workload in Workload::value_variants() {
            let run = workload.run(amount, 256, Path::new("data")).unwrap();
            let config: Table = run.config_toml.parse().unwrap();
            assert_eq!(config["threads"].as_integer(), Some(2));
            assert_eq!(config["phases"][0]["epochs"].as_integer(), Some(4));
            assert!(run.overrides.contains(&"data.path=\"data\"".to_owned()));
        }
    }
}
