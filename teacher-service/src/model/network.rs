//! The network of a file that holds weights only.

use common::config::Problems;
use networks::{Convention, NetworkSpec};
use serde::{Deserialize, Serialize};

/// `[model.network]`: a preset of docs/networks.md. Images and classes follow from the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Name of the preset.
    pub preset: String,
    /// Multiplier of the channels, if the preset has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<f64>,
    /// Multiplier of the blocks per stage, if the preset has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<f64>,
    /// Padding and epsilon, if the preset has both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convention: Option<Convention>,
}

impl NetworkConfig {
    /// The network for images of shape `input`: [channels, height, width].
    ///
    /// # Errors
    /// A text that names the key at fault.
    pub fn spec(&self, input: [usize; 3], classes: usize) -> Result<NetworkSpec, String> {
        let mut fields = serde_json::to_value(self).map_err(|error| error.to_string())?;
        fields["input"] = input.to_vec().into();
        fields["classes"] = classes.into();
        let spec: NetworkSpec =
            serde_json::from_value(fields).map_err(|error| error.to_string())?;
        spec.layers().map_err(|error| error.to_string())?;
        Ok(spec)
    }

    /// The network with ImageNet's images and classes, for what does not depend on them.
    ///
    /// # Errors
    /// As [`spec`](Self::spec).
    pub fn typical_spec(&self) -> Result<NetworkSpec, String> {
        self.spec([3, 224, 224], 1000)
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        if let Err(problem) = self.typical_spec() {
            problems.add("model.network", format!("\"{}\"", self.preset), &problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> NetworkConfig {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn a_preset_and_the_file_make_a_network() {
        let lite2 = config("preset = \"efficientnet_lite\"\nwidth = 1.1\ndepth = 1.2");
        let spec = lite2.spec([3, 64, 48], 7).unwrap();
        let expected = "input = [3, 64, 48]\nclasses = 7\npreset = \"efficientnet_lite\"\nwidth = 1.1\ndepth = 1.2";
        assert_eq!(spec, NetworkSpec::from_toml(expected).unwrap());
    }

    #[test]
    fn what_is_no_network_is_named() {
        for (toml, named) in [
            ("preset = \"resnet19\"", "resnet19"),
            (
                "preset = \"resnet18\"\nwidth = 0.5",
                "`width` has no meaning",
            ),
            ("preset = \"cnn\"", "`width`"),
        ] {
            let mut problems = Problems::default();
            config(toml).validate(&mut problems);
            let said = problems.to_string();
            assert!(
                said.contains("model.network") && said.contains(named),
                "{said}"
            );
        }
    }
}
