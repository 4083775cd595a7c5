//! The bounds that a student must meet to be published.

use std::path::PathBuf;

use clap::Args;
use toml::Value;

use crate::{CliError, text_path::text_path};

/// `[publish.gate]` of the run.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(super) struct GateArguments {
    /// Publishes only a student with at least this accuracy on the validation samples, 0 to 1.
    #[arg(long, value_name = "SHARE", requires = "publish")]
    min_accuracy: Option<f64>,
    /// Publishes only a student that gives at least this share of the validation samples the teacher's class, 0 to 1.
    #[arg(long, value_name = "SHARE", requires = "publish")]
    min_agreement: Option<f64>,
    /// Publishes only a student that takes at most this time for one sample, the median in ONNX Runtime on this
    /// machine.
    #[arg(long, value_name = "MICROSECONDS", requires = "publish")]
    max_latency_us: Option<f64>,
    /// Publishes only a student that is as accurate on the validation samples as the finished run in this folder, which
    /// has the same number of parameters and validation samples.
    #[arg(long, value_name = "RUN_FOLDER", requires = "publish")]
    baseline: Option<PathBuf>,
    /// Least gain of accuracy over --baseline, 0 to 1 [default: 0].
    #[arg(long, value_name = "SHARE", requires = "baseline")]
    min_gain: Option<f64>,
}

impl GateArguments {
    /// Whether a bound is measured on validation samples.
    pub(super) fn needs_validation(&self) -> bool {
        self.min_accuracy.is_some() || self.min_agreement.is_some() || self.baseline.is_some()
    }

    /// The absolute path of the baseline's folder.
    pub(super) fn baseline(&self) -> Result<Option<PathBuf>, CliError> {
        let absolute = |folder: &PathBuf| folder.canonicalize().map_err(CliError::file(folder));
        self.baseline.as_ref().map(absolute).transpose()
    }

    /// The keys of the run's configuration.
    pub(super) fn settings(&self) -> Result<Vec<(&'static str, Value)>, CliError> {
        let shares = [
            ("publish.gate.min_accuracy", self.min_accuracy),
            ("publish.gate.min_agreement", self.min_agreement),
            ("publish.gate.max_latency_us", self.max_latency_us),
            ("publish.gate.min_gain", self.min_gain),
        ];
        let shares = shares.into_iter();
        let mut settings: Vec<_> = shares
            .filter_map(|(key, value)| Some((key, value?.into())))
            .collect();
        if let Some(folder) = self.baseline()? {
            settings.push(("publish.gate.baseline", text_path(&folder)?.into()));
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Command {
        #[arg(long)]
        publish: Option<String>,
        #[command(flatten)]
        gate: GateArguments,
    }

    fn parse(arguments: &[&str]) -> Result<GateArguments, clap::Error> {
        Ok(Command::try_parse_from(arguments)?.gate)
    }

    #[test]
    fn bounds_become_keys_of_the_publish_gate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let path = path.to_str().unwrap();
        let gate = [
            "--publish=h:1",
            "--min-accuracy=0.9",
            "--max-latency-us=250",
        ];
        let baseline = ["--baseline", path, "--min-gain=0.01"];
        let gate = parse(&[&gate[..], &baseline].concat()).unwrap();
        let settings = gate.settings().unwrap();
        let expected: [(&str, Value); 4] = [
            ("publish.gate.min_accuracy", 0.9.into()),
            ("publish.gate.max_latency_us", 250.0.into()),
            ("publish.gate.min_gain", 0.01.into()),
            ("publish.gate.baseline", path.into()),
        ];
        assert_eq!(settings, expected);
        assert!(gate.needs_validation());
        let latency = parse(&["--publish=h:1", "--max-latency-us=250"]).unwrap();
        assert!(!latency.needs_validation());
        let missing = parse(&["--publish=h:1", "--baseline=no-such-run"]).unwrap();
        let error = missing.settings().unwrap_err().to_string();
        assert!(error.contains("no-such-run"), "{error}");
    }

    #[test]
    fn bounds_without_a_place_to_publish_to_are_errors() {
        for (arguments, missing) in [
            (&["--min-accuracy=0.9"][..], "--publish"),
            (&["--publish=h:1", "--min-gain=0.1"], "--baseline"),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(missing), "{error}");
        }
    }
}
