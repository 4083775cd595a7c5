//! Published weights as teachers: the networks and logits of `scripts/golden/public_weights.py`.

use std::{fs, path::Path};

use bytes::Bytes;
use common::compute::{DeviceChoice, PrecisionChoice};
use teacher_service::{
    backend::{self, Backend, LoadError},
    batch::{Batch, Input},
    config::ComputeConfig,
    libtorch_environment::CpuIsa,
    model::{ModelConfig, format::FormatChoice},
};
use test_support::published::{CLASSES, MEAN, Published, SAMPLES, STD};

fn card(side: usize) -> String {
    let names = test_support::class_names(CLASSES);
    format!(
        "size = [{side}, {side}]\nscale = \"unit\"\nmean = {MEAN:?}\nstd = {STD:?}\n\
         channel_order = \"rgb\"\noutput = \"logits\"\nclass_names = {names:?}"
    )
}

/// The file `name` in `folder` with the weights of `network`.
fn write(folder: &Path, network: &Published, keep: impl Fn(&str) -> bool) -> ModelConfig {
    let path = folder.join("model.safetensors");
    fs::write(&path, network.file(keep)).unwrap();
    let mut config = ModelConfig::at(path);
    config.network = Some(toml::from_str(&network.preset).unwrap());
    config.preprocessing = toml::from_str(&card(network.side)).unwrap();
    config
}

fn open(config: &ModelConfig) -> Result<Box<dyn Backend>, LoadError> {
    let compute = ComputeConfig {
        threads: 1,
        precision: PrecisionChoice::F32,
        cpu_isa: CpuIsa::Auto,
        device: DeviceChoice::Cpu,
    };
    backend::open(config, &compute)
}

fn refusal(config: &ModelConfig) -> String {
    match open(config) {
        Ok(_) => panic!("it is accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn logits_are_those_of_the_library_that_published_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "torchvision resnet18",
        "hugging face mobilenet_v2",
        "efficientnet-lite-pytorch",
        "timm efficientnet_lite0",
    ] {
        let network = Published::named(name);
        let mut teacher = open(&write(folder.path(), &network, |_| true)).unwrap();
        let side = network.side;
        assert_eq!(
            teacher.description().input.to_string(),
            format!("`pixels` UINT8 [batch, 3, {side}, {side}]")
        );
        // Batch norm's statistics are not trained.
        let is_trained = |name: &str| {
            !["running_mean", "running_var", "num_batches_tracked"]
                .iter()
                .any(|statistic| name.ends_with(statistic))
        };
        let trained = network.tensors.iter().filter(|(name, _)| is_trained(name));
        let parameters: usize = trained
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        assert_eq!(
            teacher.facts().parameters,
            Some(parameters as u64),
            "{name}"
        );
        let batch = Batch {
            samples: SAMPLES,
            input: Input::U8(Bytes::from(network.pixels())),
        };
        let found = teacher.logits(&batch).unwrap();
        let expected = network.pixel_logits.unwrap();
        assert_eq!(found.len(), expected.len());
        let largest = expected
            .iter()
            .fold(0_f32, |most, logit| most.max(logit.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            let difference = (found - expected).abs();
            assert!(
                difference <= 1e-4 * largest,
                "{name}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn other_weights_or_another_network_are_another_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let network = Published::named("timm efficientnet_lite0");
    let mut config = write(folder.path(), &network, |_| true);
    let identity = |config: &ModelConfig| open(config).unwrap().description().identity.clone();
    let first = identity(&config);
    assert_eq!(identity(&config), first);
    config.network = Some(toml::from_str("preset = \"efficientnet_lite0\"").unwrap());
    assert_ne!(identity(&config).model_id, first.model_id);
}

#[test]
fn refusals_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let network = Published::named("torchvision resnet18");
    let mut config = write(folder.path(), &network, |_| true);
    let preset = |preset: &str| Some(toml::from_str(preset).unwrap());

    config.network = None;
    let error = refusal(&config);
    assert!(error.contains("set model.network.preset"), "{error}");
    config.network = preset("preset = \"resnet34\"");
    let error = refusal(&config);
    assert!(
        error.contains("; missing: layer1.2.conv1.weight"),
        "{error}"
    );
    config.network = preset(&network.preset);
    config.preprocessing.size = None;
    let error = refusal(&config);
    assert!(error.contains("set model.preprocessing.size"), "{error}");
    config.preprocessing.size = Some([64, 64]);
    config.preprocessing.class_names = Some(test_support::class_names(9));
    let error = refusal(&config);
    assert!(error.contains("the model has 10 classes"), "{error}");

    let headless = write(folder.path(), &network, |name| !name.starts_with("fc."));
    let error = refusal(&headless);
    assert!(error.contains("; missing: fc.bias"), "{error}");
    let mut damaged = headless;
    fs::write(&damaged.path, [0_u8; 4]).unwrap();
    damaged.format = FormatChoice::Safetensors;
    let error = refusal(&damaged);
    assert!(error.contains("truncated or invalid"), "{error}");
}
