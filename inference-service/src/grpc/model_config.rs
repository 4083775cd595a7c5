//! The model configuration extension: a version's configuration in Triton's format.

use onnx_runtime::{INPUT_NAME, OUTPUT_NAME};
use proto::inference::{
    DataType, ModelConfig, ModelConfigResponse, ModelDynamicBatching, ModelInput,
    ModelInstanceGroup, ModelOutput, ModelParameter, ModelQueuePolicy, ModelTransactionPolicy,
    ModelVersionPolicy,
    model_config::SchedulingChoice,
    model_input::Format,
    model_instance_group::Kind,
    model_queue_policy::TimeoutAction,
    model_version_policy::{All, Latest, PolicyChoice, Specific},
};

use super::messages::PLATFORM;
use crate::{config::VersionPolicy, loaded_version::LoadedVersion, model_parameters};

const BACKEND: &str = "onnxruntime";
const MODEL_FILE: &str = "model.onnx";

/// The configuration that `version` was loaded with.
///
/// Its parameters include those of [`model_parameters`], because Triton's `ModelMetadata` has none.
pub(crate) fn to_message(
    version: &LoadedVersion,
    max_class_names_bytes: usize,
) -> ModelConfigResponse {
    let batching = &version.config.batching;
    let runtime = &version.config.runtime;
    let settings = [
        ("deterministic", runtime.deterministic.to_string()),
        ("intra_op_thread_count", runtime.threads.to_string()),
    ];
    let described = model_parameters::of(version, max_class_names_bytes)
        .into_iter()
        .map(|(name, value)| (name, value.to_string()));
    let parameters = settings
        .into_iter()
        .chain(described)
        .map(|(name, string_value)| (name.to_owned(), ModelParameter { string_value }));
    let queue_policy = ModelQueuePolicy {
        timeout_action: TimeoutAction::Reject.into(),
        default_timeout_microseconds: batching.default_timeout_microseconds,
        allow_timeout_override: true,
        max_queue_size: saturate(batching.max_queue_size),
    };
    let dynamic_batching = ModelDynamicBatching {
        max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
        default_queue_policy: Some(queue_policy),
        ..ModelDynamicBatching::default()
    };
    let config = ModelConfig {
        name: version.model.to_string(),
        platform: PLATFORM.to_owned(),
        backend: BACKEND.to_owned(),
        version_policy: Some(policy(&version.config.version_policy)),
        max_batch_size: saturate(batching.max_batch_size),
        input: vec![ModelInput {
            name: INPUT_NAME.to_owned(),
            data_type: DataType::TypeFp32.into(),
            format: match version.interface.sample[..] {
                [_, _, _] => Format::Nchw.into(),
                _ => Format::None.into(),
            },
            dims: version
                .interface
                .sample
                .iter()
                .copied()
                .map(saturate)
                .collect(),
        }],
        output: vec![ModelOutput {
            name: OUTPUT_NAME.to_owned(),
            data_type: DataType::TypeFp32.into(),
            dims: vec![saturate(version.interface.classes)],
        }],
        scheduling_choice: Some(SchedulingChoice::DynamicBatching(dynamic_batching)),
        instance_group: vec![ModelInstanceGroup {
            name: version.model.to_string(),
            kind: Kind::Cpu.into(),
            count: saturate(runtime.instances.count()),
        }],
        default_model_filename: MODEL_FILE.to_owned(),
        parameters: parameters.collect(),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
    };
    ModelConfigResponse {
        config: Some(config),
    }
}

fn policy(policy: &VersionPolicy) -> ModelVersionPolicy {
    let choice = match policy {
        VersionPolicy::Latest { num_versions } => PolicyChoice::Latest(Latest {
            num_versions: saturate(*num_versions),
        }),
        VersionPolicy::All {} => PolicyChoice::All(All {}),
        VersionPolicy::Specific { versions } => PolicyChoice::Specific(Specific {
            versions: versions.iter().map(|version| *version as i64).collect(),
        }),
    };
    ModelVersionPolicy {
        policy_choice: Some(choice),
    }
}

/// Converts a size; no valid configuration exceeds the field's range.
fn saturate<T: TryFrom<usize> + Bounded>(value: usize) -> T {
    T::try_from(value).unwrap_or(T::LARGEST)
}

trait Bounded {
    const LARGEST: Self;
}

impl Bounded for i32 {
    const LARGEST: Self = Self::MAX;
}

impl Bounded for u32 {
    const LARGEST: Self = Self::MAX;
}

impl Bounded for i64 {
    const LARGEST: Self = Self::MAX;
}
