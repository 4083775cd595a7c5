//! The standard variables of OpenTelemetry that decide where spans are sent.
//!
//! The libraries of OpenTelemetry read the other variables: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
//! `OTEL_TRACES_SAMPLER`, and headers, compression and time-out of the exporter.

use std::{env, fs, time::Duration};

use common::config::{ConfigError, Problems};
use http::Uri;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};

/// Where a collector of the same machine listens, by default.
const LOCAL_COLLECTOR: &str = "http://localhost:4317";

/// The variable with the collector's address.
pub(crate) const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";

/// The largest limit of the queue.
const LARGEST_LIMIT: u32 = 1_000_000;

/// Samplers, and whether they have a probability as argument.
const SAMPLERS: [(&str, bool); 6] = [
    ("always_on", false),
    ("always_off", false),
    ("traceidratio", true),
    ("parentbased_always_on", false),
    ("parentbased_always_off", false),
    ("parentbased_traceidratio", true),
];

/// Where and how spans are sent.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// URL of the collector's gRPC port.
    pub(crate) endpoint: String,
    /// For a collector with https.
    pub(crate) tls: Option<ClientTlsConfig>,
    pub(crate) limits: Limits,
}

/// Limits of the queue of ended spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Spans that wait; further spans are dropped.
    pub(crate) waiting: usize,
    /// Spans of one message.
    pub(crate) batch: usize,
    /// Longest time for which spans wait for others.
    pub(crate) delay: Duration,
}

impl Settings {
    /// Reads the process's environment. `None`: traces are not exported.
    ///
    /// # Errors
    /// All variables with values that cannot be used.
    pub(crate) fn from_environment() -> Result<Option<Self>, ConfigError> {
        let variable = |name: &str| Some(env::var_os(name)?.to_string_lossy().into_owned());
        Self::read(variable).map_err(invalid)
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Problems> {
        let environment = Environment { variable };
        if environment.is_true("OTEL_SDK_DISABLED") {
            return Ok(None);
        }
        let mut problems = Problems::default();
        let exporter = environment.get("OTEL_TRACES_EXPORTER");
        let (_, endpoint) = environment.of_exporter("ENDPOINT").unzip();
        let endpoint = match (exporter.as_deref(), endpoint) {
            (Some("none"), _) | (None, None) => return Ok(None),
            (None | Some("otlp"), Some(endpoint)) => endpoint,
            (Some("otlp"), None) => LOCAL_COLLECTOR.to_owned(),
            (Some(other), endpoint) => {
                problems.add("OTEL_TRACES_EXPORTER", other, "must be otlp or none");
                endpoint.unwrap_or_else(|| LOCAL_COLLECTOR.to_owned())
            }
        };
        if let Some((name, protocol)) = environment.of_exporter("PROTOCOL") {
            let message = "must be grpc: traces are sent over gRPC only";
            problems.require(protocol == "grpc", &name, &protocol, message);
        }
        let limits = environment.limits(&mut problems);
        environment.check_sampler(&mut problems);
        let tls = environment.tls(&endpoint, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Some(Self {
            endpoint,
            tls,
            limits,
        }))
    }
}

/// The error for `problems` of variables.
pub(crate) fn invalid(problems: Problems) -> ConfigError {
    ConfigError::Invalid {
        file: None,
        problems,
    }
}

struct Environment<V> {
    variable: V,
}

impl<V: Fn(&str) -> Option<String>> Environment<V> {
    /// The value of a variable; an empty one counts as unset, as OpenTelemetry specifies.
    fn get(&self, name: &str) -> Option<String> {
        let value = (self.variable)(name)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// A variable of the exporter and its value: that for traces, or that for all signals.
    fn of_exporter(&self, name: &str) -> Option<(String, String)> {
        ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"]
            .into_iter()
            .map(|prefix| format!("{prefix}{name}"))
            .find_map(|name| Some((name.clone(), self.get(&name)?)))
    }

    fn limit(&self, name: &str, default: u32, problems: &mut Problems) -> u32 {
        let Some(text) = self.get(name) else {
            return default;
        };
        match text.parse() {
            Ok(limit) if (1..=LARGEST_LIMIT).contains(&limit) => limit,
            _ => {
                let message = format!("must be an integer from 1 to {LARGEST_LIMIT}");
                problems.add(name, text, &message);
                default
            }
        }
    }

    fn limits(&self, problems: &mut Problems) -> Limits {
        let delay = self.limit("OTEL_BSP_SCHEDULE_DELAY", 5000, problems);
        Limits {
            waiting: self.limit("OTEL_BSP_MAX_QUEUE_SIZE", 2048, problems) as usize,
            batch: self.limit("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, problems) as usize,
            delay: Duration::from_millis(delay.into()),
        }
    }

    /// The library would replace a wrong value by another one.
    fn check_sampler(&self, problems: &mut Problems) {
        let Some(sampler) = self.get(SAMPLER) else {
            return;
        };
        let known = SAMPLERS.iter().find(|(name, _)| *name == sampler);
        match known {
            None => {
                let names = SAMPLERS.map(|(name, _)| name).join(", ");
                problems.add(SAMPLER, sampler, &format!("must be one of {names}"));
            }
            Some((_, false)) => {}
            Some((_, true)) => {
                let argument = self.get(SAMPLER_ARGUMENT).unwrap_or_default();
                let probability = argument.parse::<f64>().unwrap_or(f64::NAN);
                let message = format!("must be from 0 to 1 for the sampler {sampler}");
                let fits = (0.0..=1.0).contains(&probability);
                problems.require(fits, SAMPLER_ARGUMENT, argument, &message);
            }
        }
    }

    fn tls(&self, endpoint: &str, problems: &mut Problems) -> Option<ClientTlsConfig> {
        let uri = endpoint.parse::<Uri>().ok();
        let scheme = uri.as_ref().filter(|uri| uri.host().is_some());
        match scheme.and_then(Uri::scheme_str) {
            Some("http") => return None,
            Some("https") => {}
            _ => {
                let message = "must be the URL of a collector's gRPC port, \
                               for example http://127.0.0.1:4317";
                problems.add(ENDPOINT, endpoint, message);
                return None;
            }
        }
        let mut tls = ClientTlsConfig::new();
        match self.pem("CERTIFICATE", problems) {
            Some(authorities) => tls = tls.ca_certificate(Certificate::from_pem(authorities)),
            None => {
                let message = "https needs the trusted authorities: set OTEL_EXPORTER_OTLP_CERTIFICATE \
                               to a PEM file, for example /etc/ssl/certs/ca-certificates.crt";
                problems.add(ENDPOINT, endpoint, message);
            }
        }
        let own = self.pem("CLIENT_CERTIFICATE", problems);
        let key = self.pem("CLIENT_KEY", problems);
        if let (Some(own), Some(key)) = (own, key) {
            tls = tls.identity(Identity::from_pem(own, key));
        }
        Some(tls)
    }

    /// The content of the file that a variable of the exporter names.
    fn pem(&self, name: &str, problems: &mut Problems) -> Option<Vec<u8>> {
        let (name, path) = self.of_exporter(name)?;
        match fs::read(&path) {
            Ok(pem) => Some(pem),
            Err(error) => {
                problems.add(name, path, &format!("cannot be read: {error}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, Vec<String>> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let keys = |problems: Problems| {
            let keys = problems.iter().map(|problem| problem.key.clone());
            keys.collect()
        };
        Settings::read(variable).map_err(keys)
    }

    /// Names and values.
    type Variables<'v> = &'v [(&'v str, &'v str)];

    const COLLECTOR: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

    #[test]
    fn traces_are_exported_only_to_a_named_collector() {
        let cases: [(Variables<'_>, Option<&str>); 9] = [
            (&[], None),
            (&[("OTEL_SERVICE_NAME", "mine")], None),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], None),
            (&[COLLECTOR], Some("http://collector:4317")),
            (
                &[
                    COLLECTOR,
                    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[::1]:1"),
                ],
                Some("http://[::1]:1"),
            ),
            (&[COLLECTOR, ("OTEL_SDK_DISABLED", "TRUE")], None),
            (&[COLLECTOR, ("OTEL_TRACES_EXPORTER", "none")], None),
            (
                &[("OTEL_TRACES_EXPORTER", "otlp")],
                Some("http://localhost:4317"),
            ),
            (
                &[
                    COLLECTOR,
                    ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                    ("OTEL_TRACES_SAMPLER_ARG", "0.01"),
                    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ],
                Some("http://collector:4317"),
            ),
        ];
        for (variables, expected) in cases {
            let settings = read(variables).unwrap();
            let endpoint = settings.map(|settings| settings.endpoint);
            assert_eq!(endpoint.as_deref(), expected, "{variables:?}");
        }
    }

    #[test]
    fn all_problems_are_reported_with_their_variables() {
        let problems = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ]);
        let problems = problems.unwrap_err();
        for name in [
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_TRACES_EXPORTER",
            "OTEL_TRACES_SAMPLER",
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "OTEL_BSP_SCHEDULE_DELAY",
        ] {
            assert!(
                problems.iter().any(|key| key == name),
                "{name}: {problems:?}"
            );
        }
        for argument in ["", "1.5", "-1", "half"] {
            let problems = read(&[
                COLLECTOR,
                ("OTEL_TRACES_SAMPLER", "traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", argument),
            ]);
            assert_eq!(problems.unwrap_err(), ["OTEL_TRACES_SAMPLER_ARG"]);
        }
    }

    #[test]
    fn https_needs_authorities_that_can_be_read() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317");
        let alone = read(&[endpoint]).unwrap_err();
        assert_eq!(alone, ["OTEL_EXPORTER_OTLP_ENDPOINT"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let path = file.to_str().unwrap();
        let certificate = ("OTEL_EXPORTER_OTLP_CERTIFICATE", path);
        let missing = read(&[endpoint, certificate]).unwrap_err();
        assert!(missing.contains(&"OTEL_EXPORTER_OTLP_CERTIFICATE".to_owned()));
        fs::write(&file, "a certificate").unwrap();
        let settings = read(&[endpoint, certificate]).unwrap().unwrap();
        assert!(settings.tls.is_some());
    }

    #[test]
    fn the_queue_has_the_limits_of_the_standard() {
        let settings = read(&[COLLECTOR, ("OTEL_BSP_SCHEDULE_DELAY", "50")]);
        let limits = Limits {
            waiting: 2048,
            batch: 512,
            delay: Duration::from_millis(50),
        };
        assert_eq!(settings.unwrap().unwrap().limits, limits);
    }
}
