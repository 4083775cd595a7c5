//! Configuration of runs and of the run service.

mod allowed_folders;
mod phase;
mod run;
mod soft_targets;
mod trainer;

pub use self::soft_targets::{
    ClassNames, Fallback, FixedViews, SoftTargetsConfig, SoftTargetsMode,
};
pub use allowed_folders::{AllowedFolders, NotAllowed};
pub use phase::{LossConfig, OptimizerConfig, PhaseConfig, PhaseKind, ScheduleConfig};
pub use run::{CheckpointConfig, DataConfig, DataFormat, ExportConfig, PublishConfig, RunConfig};
pub use trainer::{GrpcConfig, QueueConfig, ShutdownConfig, TrainerConfig};

#[cfg(test)]
mod tests;
