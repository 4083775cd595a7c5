//! What benchmarks train on: images, and networks for them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Error};
use clap::ValueEnum;
use common::atomic_file;
use datasets::{NpyElement, npy_file};
use networks::NetworkSpec;
use toml::{Table, Value};

use crate::recipe;

/// Side of [`Task::Color64`]'s images.
const SIDE: usize = 64;
/// Classes of both tasks.
const CLASSES: usize = 10;

/// The images of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Task {
    /// Fashion-MNIST: 28×28, gray.
    FashionMnist,
    /// Generated images of 64×64 pixels in color: 16 times the bytes of Fashion-MNIST's.
    #[value(name = "color-64")]
    Color64,
}

/// The network of a teacher.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Architecture {
    /// One linear layer from pixels to logits, with negligible cost.
    OneLinearLayer,
    /// The demo's ResNet-14.
    Demo,
}

impl Architecture {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneLinearLayer => "one-linear-layer",
            Self::Demo => "demo-teacher",
        }
    }
}

impl Task {
    /// The teacher's network for the images of this task.
    pub(crate) fn teacher(self, architecture: Architecture) -> anyhow::Result<NetworkSpec> {
        let mut network = match architecture {
            Architecture::OneLinearLayer => one_linear_layer(),
            Architecture::Demo => recipe::teacher_network()?,
        };
        network.insert("input".to_owned(), Value::from(self.input()));
        NetworkSpec::from_toml(&network.to_string()).map_err(Error::msg)
    }

    /// Mean and standard deviation of each channel.
    pub(crate) fn normalization(self) -> (Vec<f32>, Vec<f32>) {
        match self {
            Self::FashionMnist => (vec![0.2860], vec![0.3530]),
            Self::Color64 => (vec![0.5; 3], vec![0.25; 3]),
        }
    }

    /// Replaces the images of the demo's student by this task's.
    pub(crate) fn adapt(self, run: &mut Table) -> anyhow::Result<()> {
        if self == Self::FashionMnist {
            return Ok(());
        }
        let network = run.get_mut("network").and_then(Value::as_table_mut);
        let network = network.context("the run has no network")?;
        network.insert("input".to_owned(), Value::from(self.input()));
        let (mean, std) = self.normalization();
        let normalization = [("mean", mean), ("std", std)];
        let normalization =
            normalization.map(|(key, values)| (key.to_owned(), Value::from(values)));
        let data: [(String, Value); 2] = [
            ("format".to_owned(), "numpy".into()),
            (
                "normalization".to_owned(),
                Table::from_iter(normalization).into(),
            ),
        ];
        run.insert("data".to_owned(), Table::from_iter(data).into());
        Ok(())
    }

    /// The folder of the images: `fashion_mnist`, or one below `folder` with `samples` generated images.
    pub(crate) fn data(
        self,
        fashion_mnist: &Path,
        folder: &Path,
        samples: usize,
    ) -> anyhow::Result<PathBuf> {
        match self {
            Self::FashionMnist => Ok(fashion_mnist.to_owned()),
            Self::Color64 => {
                let data = folder.join("images");
                fs::create_dir(&data).with_context(|| data.display().to_string())?;
                // With all three splits, no training images are held out.
                for (split, samples) in [("train", samples), ("val", CLASSES), ("test", CLASSES)] {
                    let pixels = (0..samples * SIDE * SIDE * 3).map(|at| (at * 37 % 251) as u8);
                    let labels = (0..samples).map(|at| (at % CLASSES) as u8);
                    let array = |shape: &[usize], values: Vec<u8>| {
                        npy_file(NpyElement::Uint8, shape, &values)
                    };
                    let images = array(&[samples, SIDE, SIDE, 3], pixels.collect());
                    let labels = array(&[samples], labels.collect());
                    for (name, content) in [("x", images), ("y", labels)] {
                        let file = data.join(format!("{name}_{split}.npy"));
                        let written = atomic_file::write(&file, &content);
                        written.with_context(|| file.display().to_string())?;
                    }
                }
                Ok(data)
            }
        }
    }

    /// [channels, height, width]
    pub(crate) fn input(self) -> Vec<i64> {
        match self {
            Self::FashionMnist => vec![1, 28, 28],
            Self::Color64 => vec![3, SIDE as i64, SIDE as i64],
        }
    }
}

fn one_linear_layer() -> Table {
    toml::toml! {
        classes = 10
        layers = [{ type = "flatten" }, { type = "linear", features = 10 }]
    }
}

#[cfg(test)]
mod tests {
    use datasets::DataSpec;

    use super::*;

    #[test]
    fn generated_images_are_a_data_set() {
        let folder = tempfile::tempdir().unwrap();
        let data = Task::Color64
            .data(Path::new(""), folder.path(), 40)
            .unwrap();
        let opened = datasets::open(&DataSpec::new(data), &|_| ()).unwrap();
        let splits = [
            &opened.train,
            &opened.validation.unwrap(),
            &opened.test.unwrap(),
        ];
        assert_eq!(splits.map(|split| split.len()), [40, CLASSES, CLASSES]);
    }

    #[test]
    fn each_task_has_networks_and_a_run() {
        for (task, input) in [(Task::FashionMnist, 784_usize), (Task::Color64, 12_288)] {
            let tiny = task.teacher(Architecture::OneLinearLayer).unwrap();
            let parameters = networks::cost(&tiny).unwrap().parameters;
            assert_eq!(parameters, 10 * input as u64 + 10);
            task.teacher(Architecture::Demo).unwrap();
            let mut run = recipe::student().unwrap();
            task.adapt(&mut run).unwrap();
            let student: NetworkSpec = run["network"].clone().try_into().unwrap();
            assert_eq!(student.input.dimensions().iter().product::<usize>(), input);
        }
    }
}
