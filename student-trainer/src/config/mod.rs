//! Configuration of runs and of the run service.

mod allowed_folders;
mod data_format;
mod int8;
mod phase;
mod publish_gate;
mod run;
mod soft_targets;
mod trainer;

pub use self::soft_targets::{
    ClassNames, Fallback, FixedViews, SoftTargetsConfig, SoftTargetsMode,
};
pub use allowed_folders::{AllowedFolders, NotAllowed};
pub use data_format::DataFormat;
pub use int8::{Int8Config, PublishedPrecision};
pub use phase::{LossConfig, OptimizerConfig, PhaseConfig, PhaseKind, ScheduleConfig};
pub use publish_gate::PublishGateConfig;
pub use run::{
    CheckpointConfig, DataConfig, ExportConfig, InitialWeightsConfig, PublishConfig, RunConfig,
};
pub use trainer::{GrpcConfig, QueueConfig, ShutdownConfig, TrainerConfig};

#[cfg(test)]
mod tests;
