//! Configuration of runs and of the run service.

mod allowed_folders;
mod data;
mod data_format;
mod early_stopping;
mod ema;
mod ensemble;
mod int8;
mod loss;
mod optimizer;
mod phase;
mod publish_gate;
mod route;
mod run;
mod sample_route;
mod schedule;
mod soft_targets;
mod teachers;
mod trainer;

pub use self::soft_targets::{
    ClassNames, Fallback, FixedViews, SoftTargetsConfig, SoftTargetsMode,
};
pub use allowed_folders::{AllowedFolders, NotAllowed};
pub use data::DataConfig;
pub use data_format::DataFormat;
pub use early_stopping::EarlyStoppingConfig;
pub use ema::EmaConfig;
pub use ensemble::{EnsembleConfig, EnsembleMean};
pub use int8::{Int8Config, PublishedPrecision};
pub use loss::{
    DistConfig, DkdConfig, LossConfig, LossKind, LossTerm, NamedTerm, Needs, RldConfig,
    TargetClasses, UnmetNeed,
};
pub use optimizer::{DecayedParameters, OptimizerConfig};
pub use phase::{PhaseConfig, PhaseKind};
pub use publish_gate::PublishGateConfig;
pub use route::{LABELLED, PositionRange, PositionRangeError, RouteBy, RouteConfig, UNLABELLED};
pub use run::{CheckpointConfig, ExportConfig, InitialWeightsConfig, PublishConfig, RunConfig};
pub use sample_route::{RouteRule, RoutedSample, SampleRoute};
pub use schedule::ScheduleConfig;
pub use teachers::{ConfiguredTeacher, TeacherEnsemble, TermTeachers};
pub use trainer::{BucketConfig, GrpcConfig, QueueConfig, ShutdownConfig, TrainerConfig};

#[cfg(test)]
mod tests;
