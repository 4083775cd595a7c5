//! Writes configurations of runs as TOML.

use std::fmt;

/// A loss on the labels of the data set.
pub const CROSS_ENTROPY: &str = r#"{ kind = "cross_entropy" }"#;
/// A loss on soft targets.
pub const SOFT_CROSS_ENTROPY: &str = r#"{ kind = "soft_cross_entropy", temperature = 2.0 }"#;
/// An optimizer with state.
pub const MOMENTUM: &str =
    r#"{ kind = "sgd", momentum = 0.9, nesterov = true, weight_decay = 1e-4 }"#;

/// The configuration of a run. Missing keys have the defaults of `configs/run.toml`.
#[derive(Debug, Clone, Copy)]
pub struct RunToml<'t> {
    /// Top-level keys, one per line.
    pub keys: &'t str,
    /// Keys of `[network]`, one per line.
    pub network: &'t str,
    pub phases: &'t [PhaseToml<'t>],
    /// Further tables.
    pub tables: &'t str,
}

/// One `[[phases]]` table.
#[derive(Debug, Clone, Copy)]
pub struct PhaseToml<'t> {
    pub name: Option<&'t str>,
    pub epochs: usize,
    pub batch_size: usize,
    pub loss: &'t str,
    pub optimizer: &'t str,
    pub schedule: &'t str,
}

impl Default for RunToml<'_> {
    /// One epoch of a small network.
    fn default() -> Self {
        Self {
            keys: "",
            network: "input = [1, 28, 28]\nclasses = 10\npreset = \"mlp\"\nwidths = [8]",
            phases: &[PhaseToml::SHORT],
            tables: "",
        }
    }
}

impl PhaseToml<'_> {
    const SHORT: Self = Self {
        name: None,
        epochs: 1,
        batch_size: 32,
        loss: CROSS_ENTROPY,
        optimizer: r#"{ kind = "sgd" }"#,
        schedule: r#"{ kind = "constant", learning_rate = 0.1 }"#,
    };
}

impl Default for PhaseToml<'_> {
    /// One epoch on the labels of the data set.
    fn default() -> Self {
        Self::SHORT
    }
}

impl fmt::Display for RunToml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n[network]\n{}", self.keys, self.network)?;
        for phase in self.phases {
            write!(f, "{phase}")?;
        }
        writeln!(f, "{}", self.tables)
    }
}

impl fmt::Display for PhaseToml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[phases]]")?;
        if let Some(name) = self.name {
            writeln!(f, "name = \"{name}\"")?;
        }
        writeln!(f, "epochs = {}", self.epochs)?;
        writeln!(f, "batch_size = {}", self.batch_size)?;
        writeln!(f, "loss = {}", self.loss)?;
        writeln!(f, "optimizer = {}", self.optimizer)?;
        writeln!(f, "schedule = {}", self.schedule)
    }
}
