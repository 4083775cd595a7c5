//! The networks that `retort-bench serve` serves. Their weights are random: weights do not change what
//! a network costs.

use clap::ValueEnum;
use networks::NetworkSpec;
use serde::Deserialize;

/// A network with random weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// A ResNet-8 of 77K parameters (configs/bench/resnet8.toml).
    Resnet8,
    /// The demo's student, a plain CNN of 39K parameters (configs/demo/student.toml).
    DemoStudent,
}

impl Network {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Resnet8 => "resnet8",
            Self::DemoStudent => "demo-student",
        }
    }

    pub(crate) fn spec(self) -> NetworkSpec {
        #[derive(Deserialize)]
        struct HasNetwork {
            network: NetworkSpec,
        }
        let config = match self {
            Self::Resnet8 => include_str!("../../../configs/bench/resnet8.toml"),
            Self::DemoStudent => include_str!("../../../configs/demo/student.toml"),
        };
        // Cannot fail: both files are compiled in, and a test reads them.
        let config: HasNetwork = toml::from_str(config).expect("a shipped network is valid");
        config.network
    }
}

#[cfg(test)]
mod tests {
    use networks::cost;

    use super::*;

    #[test]
    fn the_networks_are_those_of_the_documentation() {
        for (network, parameters) in [
            (Network::Resnet8, 77_000..79_000),
            (Network::DemoStudent, 39_154..39_155),
        ] {
            let found = cost(&network.spec()).unwrap().parameters;
            assert!(parameters.contains(&found), "{network:?}: {found}");
            assert_eq!(Network::from_str(network.name(), false), Ok(network));
        }
    }
}
