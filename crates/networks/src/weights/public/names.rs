//! The names that published files give to the layers of a network.

use super::{Naming, PublicWeightsError};
use crate::{
    Architecture, Convention, DeepResnet, DeepResnetPreset, EfficientnetLitePreset, NetworkSpec,
    SpecError, TensorSpec, Vgg16BnPreset, spec::InvertedResidual,
};

/// The names of all layers with tensors, in network order.
pub(super) struct NamedModules {
    pub(super) naming: Naming,
    pub(super) modules: Vec<String>,
}

impl NamedModules {
    /// Retort's own names, as in the `weights.safetensors` of an artifact.
    pub(super) fn own(wanted: &[TensorSpec]) -> Self {
        let mut modules: Vec<_> = wanted
            .iter()
            .map(|tensor| tensor.layer().to_owned())
            .collect();
        modules.dedup();
        NamedModules {
            naming: Naming::Retort,
            modules,
        }
    }

    /// Refuses a network that pads and normalizes otherwise than every network with these names.
    pub(super) fn check_convention(&self, spec: &NetworkSpec) -> Result<(), PublicWeightsError> {
        let convention = match &spec.architecture {
            Architecture::MobilenetV2(preset) => preset.convention,
            Architecture::EfficientnetLite(preset) => preset.convention,
            _ => return Ok(()),
        };
        match (self.naming, convention) {
            (Naming::HuggingFace | Naming::EfficientnetPytorch, Convention::Torch) => {
                Err(PublicWeightsError::Convention(self.naming))
            }
            _ => Ok(()),
        }
    }
}

/// The names under which the network's weights are published; none for other networks.
pub(super) fn of(spec: &NetworkSpec) -> Result<Vec<NamedModules>, SpecError> {
    let named = |naming, modules| NamedModules { naming, modules };
    Ok(match &spec.architecture {
        Architecture::DeepResnet(preset) => vec![
            named(Naming::Torchvision, resnet(preset)),
            named(Naming::HuggingFace, hugging_face_resnet(preset)),
        ],
        Architecture::MobilenetV2(preset) => {
            let network = preset.network(spec.input)?;
            vec![
                named(Naming::Torchvision, torchvision_mobilenet(&network)),
                named(Naming::Timm, timm_efficientnet(&network)),
                named(Naming::HuggingFace, hugging_face_mobilenet(&network)),
            ]
        }
        Architecture::EfficientnetLite(preset) => efficientnet(preset, spec)?,
        Architecture::Vgg16Bn(_) => vec![
            named(
                Naming::Torchvision,
                vgg(["classifier.0", "classifier.3", "classifier.6"]),
            ),
            named(
                Naming::Timm,
                vgg(["pre_logits.fc1", "pre_logits.fc2", "head.fc"]),
            ),
        ],
        Architecture::Layers(_)
        | Architecture::Resnet(_)
        | Architecture::SizedResnet(_)
        | Architecture::Cnn(_)
        | Architecture::SizedCnn(_)
        | Architecture::Mlp(_)
        | Architecture::SizedMlp(_) => Vec::new(),
    })
}

fn resnet(preset: &DeepResnetPreset) -> Vec<String> {
    let mut names = owned(["conv1", "bn1"]);
    for block in resnet_blocks(preset) {
        let prefix = format!("layer{}.{}", block.stage + 1, block.index);
        for conv in 1..=block.convolutions {
            names.push(format!("{prefix}.conv{conv}"));
            names.push(format!("{prefix}.bn{conv}"));
        }
        if block.projects {
            names.push(format!("{prefix}.downsample.0"));
            names.push(format!("{prefix}.downsample.1"));
        }
    }
    names.push("fc".to_owned());
    names
}

fn hugging_face_resnet(preset: &DeepResnetPreset) -> Vec<String> {
    let mut names = hugging_face_pair("resnet.embedder.embedder").to_vec();
    for block in resnet_blocks(preset) {
        let prefix = format!(
            "resnet.encoder.stages.{}.layers.{}",
            block.stage, block.index
        );
        for conv in 0..block.convolutions {
            names.extend(hugging_face_pair(&format!("{prefix}.layer.{conv}")));
        }
        if block.projects {
            names.extend(hugging_face_pair(&format!("{prefix}.shortcut")));
        }
    }
    names.push("classifier.1".to_owned());
    names
}

struct ResnetBlock {
    stage: usize,
    index: usize,
    convolutions: usize,
    projects: bool,
}

fn resnet_blocks(preset: &DeepResnetPreset) -> impl Iterator<Item = ResnetBlock> {
    let bottleneck = preset.network == DeepResnet::Resnet50;
    let depths = preset.network.depths().into_iter().enumerate();
    depths.flat_map(move |(stage, depth)| {
        (0..depth).map(move |index| ResnetBlock {
            stage,
            index,
            convolutions: if bottleneck { 3 } else { 2 },
            // A bottleneck's output has other channels than the stem.
            projects: index == 0 && (stage > 0 || bottleneck),
        })
    })
}

fn torchvision_mobilenet(network: &InvertedResidual) -> Vec<String> {
    let mut names = owned(["features.0.0", "features.0.1"]);
    let mut index = 1;
    for (_, _, expands) in network.blocks() {
        let layers: &[&str] = match expands {
            true => &["0.0", "0.1", "1.0", "1.1", "2", "3"],
            false => &["0.0", "0.1", "1", "2"],
        };
        names.extend(
            layers
                .iter()
                .map(|layer| format!("features.{index}.conv.{layer}")),
        );
        index += 1;
    }
    names.extend([format!("features.{index}.0"), format!("features.{index}.1")]);
    names.push("classifier.1".to_owned());
    names
}

fn hugging_face_mobilenet(network: &InvertedResidual) -> Vec<String> {
    let stem = "mobilenet_v2.conv_stem";
    let mut names = Vec::new();
    for conv in ["first_conv", "conv_3x3", "reduce_1x1"] {
        names.extend(hugging_face_pair(&format!("{stem}.{conv}")));
    }
    // The first block belongs to the stem.
    for (index, _) in network.blocks().skip(1).enumerate() {
        for conv in ["expand_1x1", "conv_3x3", "reduce_1x1"] {
            names.extend(hugging_face_pair(&format!(
                "mobilenet_v2.layer.{index}.{conv}"
            )));
        }
    }
    names.extend(hugging_face_pair("mobilenet_v2.conv_1x1"));
    names.push("classifier".to_owned());
    names
}

fn efficientnet(
    preset: &EfficientnetLitePreset,
    spec: &NetworkSpec,
) -> Result<Vec<NamedModules>, SpecError> {
    let network = preset.network(spec.input)?;
    Ok(vec![
        NamedModules {
            naming: Naming::Timm,
            modules: timm_efficientnet(&network),
        },
        NamedModules {
            naming: Naming::EfficientnetPytorch,
            modules: efficientnet_pytorch(&network),
        },
    ])
}

/// timm's names of MobileNetV2 and EfficientNet.
fn timm_efficientnet(network: &InvertedResidual) -> Vec<String> {
    let mut names = owned(["conv_stem", "bn1"]);
    for (stage, index, expands) in network.blocks() {
        let layers: &[&str] = match expands {
            true => &["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"],
            false => &["conv_dw", "bn1", "conv_pw", "bn2"],
        };
        names.extend(
            layers
                .iter()
                .map(|layer| format!("blocks.{stage}.{index}.{layer}")),
        );
    }
    names.extend(owned(["conv_head", "bn2", "classifier"]));
    names
}

fn efficientnet_pytorch(network: &InvertedResidual) -> Vec<String> {
    let mut names = owned(["_conv_stem", "_bn0"]);
    for (block, (_, _, expands)) in network.blocks().enumerate() {
        let expansion = ["_expand_conv", "_bn0"].into_iter().filter(|_| expands);
        let others = ["_depthwise_conv", "_bn1", "_project_conv", "_bn2"];
        names.extend(
            expansion
                .chain(others)
                .map(|layer| format!("_blocks.{block}.{layer}")),
        );
    }
    names.extend(owned(["_conv_head", "_bn1", "_fc"]));
    names
}

fn vgg(linear: [&str; 3]) -> Vec<String> {
    let mut names = Vec::new();
    // Convolution, batch-norm and ReLU count, and the pooling after each stage.
    let mut index = 0;
    for stage in Vgg16BnPreset::STAGES {
        for _ in stage {
            names.push(format!("features.{index}"));
            names.push(format!("features.{}", index + 1));
            index += 3;
        }
        index += 1;
    }
    names.extend(owned(linear));
    names
}

fn hugging_face_pair(prefix: &str) -> [String; 2] {
    ["convolution", "normalization"].map(|layer| format!("{prefix}.{layer}"))
}

fn owned<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).into()
}
