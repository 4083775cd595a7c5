//! The `[teacher]` table of a run's configuration, or one of `[teachers]`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use common::config::{Problems, is_default};
use serde::{Deserialize, Serialize};
use server::security::{
    client::{Credentials, TokenInPlainText, TokenSource},
    tls::ClientTls,
};
use soft_targets::Encoding;

/// One week.
const MAX_TIMEOUT_SECONDS: u64 = 604_800;

/// Which teachers a run uses, and how long it waits for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// `host:port` each. A name stands for all its addresses; the pool resolves it every few seconds.
    pub endpoints: Vec<String>,
    /// DNS server that resolves the names directly, instead of the system's resolver, so that no cache is in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_server: Option<SocketAddr>,
    /// Encoding of the logits on the wire.
    #[serde(default = "default_encoding")]
    pub encoding: Encoding,
    /// Whether the run may mix teachers with different numerics.
    #[serde(default)]
    pub numerics: NumericsPolicy,
    /// How long a run waits while no teacher is connected.
    #[serde(default = "default_wait_timeout_seconds")]
    pub wait_timeout_seconds: u64,
    /// How long a teacher that has batches may send no answer before the pool disconnects from it.
    #[serde(default = "default_answer_timeout_seconds")]
    pub answer_timeout_seconds: u64,
    /// What batches contain.
    #[serde(default, skip_serializing_if = "is_default")]
    pub batches: BatchContent,
    /// Batches that are submitted and not yet trained on, at most. More teachers than that are idle.
    #[serde(default = "default_prefetch")]
    pub prefetch: usize,
    /// File with the token for the teachers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Whether the token may be sent to another machine without TLS.
    #[serde(default, skip_serializing_if = "is_default")]
    pub token_in_plain_text: TokenInPlainText,
    /// The certificate authorities that the run trusts, and its own certificate; without it, connections use plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

/// Whether a run may mix teachers with different numerics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumericsPolicy {
    /// No: every teacher must compute bit-identical logits.
    #[default]
    Same,
    /// Yes; the run is not bit-reproducible, and its manifest says so.
    Any,
}

/// What the batches that go to teachers contain. It does not change the soft targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchContent {
    /// Positions in the run's data for each teacher that has the same data, and pixels for the others.
    #[default]
    Auto,
    /// Pixels, or the values of rows, for every teacher.
    Pixels,
}

fn default_encoding() -> Encoding {
    Encoding::F32
}

fn default_wait_timeout_seconds() -> u64 {
    30
}

fn default_answer_timeout_seconds() -> u64 {
    30
}

fn default_prefetch() -> usize {
    8
}

impl PoolConfig {
    /// Creates the configuration of teachers at `endpoints` with the default of every other key.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            name_server: None,
            encoding: default_encoding(),
            numerics: NumericsPolicy::default(),
            wait_timeout_seconds: default_wait_timeout_seconds(),
            answer_timeout_seconds: default_answer_timeout_seconds(),
            batches: BatchContent::default(),
            prefetch: default_prefetch(),
            token_file: None,
            token_in_plain_text: TokenInPlainText::default(),
            tls: None,
        }
    }

    /// Returns the credentials for the teachers.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            tls: self.tls.clone(),
            token: TokenSource::from_file(self.token_file.as_deref()),
            token_in_plain_text: self.token_in_plain_text,
        }
    }

    /// Returns how long a run waits while no teacher is connected.
    pub fn wait_timeout(&self) -> Duration {
        Duration::from_secs(self.wait_timeout_seconds)
    }

    /// Returns how long a teacher that has batches may send no answer.
    pub fn answer_timeout(&self) -> Duration {
        Duration::from_secs(self.answer_timeout_seconds)
    }

    /// Adds the problems to `problems`, under the keys of `table`: `teacher`, or `teachers.NAME`.
    pub fn validate(&self, table: &str, problems: &mut Problems) {
        let key = |name: &str| format!("{table}.{name}");
        let count = self.endpoints.len();
        problems.require(count > 0, &key("endpoints"), "[]", "needs at least one");
        let credentials = self.credentials();
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if let Err(error) = credentials.check_address(endpoint) {
                let key = key(&format!("endpoints[{index}]"));
                problems.add(key, endpoint, &error.to_string());
            }
        }
        for (name, seconds) in [
            ("wait_timeout_seconds", self.wait_timeout_seconds),
            ("answer_timeout_seconds", self.answer_timeout_seconds),
        ] {
            let fits = (1..=MAX_TIMEOUT_SECONDS).contains(&seconds);
            let allowed = "must be from 1 to 604800 (a week)";
            problems.require(fits, &key(name), seconds, allowed);
        }
        let prefetch = self.prefetch;
        let allowed = "must be from 1 to 1024";
        let fits = (1..=1024).contains(&prefetch);
        problems.require(fits, &key("prefetch"), prefetch, allowed);
    }
}
