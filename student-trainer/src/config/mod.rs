//! Configuration of runs and of the run service.

mod allowed_folders;
mod data_format;
mod early_stopping;
mod ema;
mod optimizer;
mod phase;
mod run;
mod schedule;
mod soft_targets;
mod trainer;

pub use self::soft_targets::{
    ClassNames, Fallback, FixedViews, SoftTargetsConfig, SoftTargetsMode,
};
pub use allowed_folders::{AllowedFolders, NotAllowed};
pub use data_format::DataFormat;
pub use early_stopping::EarlyStoppingConfig;
pub use ema::EmaConfig;
pub use optimizer::{DecayedParameters, OptimizerConfig};
pub use phase::{LossConfig, PhaseConfig, PhaseKind};
pub use run::{
    CheckpointConfig, DataConfig, ExportConfig, InitialWeightsConfig, PublishConfig, RunConfig,
};
pub use schedule::ScheduleConfig;
pub use trainer::{GrpcConfig, QueueConfig, ShutdownConfig, TrainerConfig};

#[cfg(test)]
mod tests;
