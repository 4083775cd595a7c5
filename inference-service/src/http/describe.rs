//! Descriptions of the service and its models: converts gRPC messages to JSON in Triton's format.

use proto::inference::{
    DataType, InferBatchStatistics, InferStatistics, ModelConfig, ModelMetadataResponse,
    ModelStatisticsResponse, RepositoryIndexResponse, StatisticDuration,
    model_config::SchedulingChoice, model_metadata_response::TensorMetadata,
    model_version_policy::PolicyChoice,
};
use serde_json::{Value, json};

/// `GET /v2/models/{m}`
pub(super) fn metadata(
    message: &ModelMetadataResponse,
    parameters: Vec<(&'static str, Value)>,
) -> Value {
    let tensors = |tensors: &[TensorMetadata]| -> Value {
        let tensors = tensors.iter().map(|tensor| {
            let TensorMetadata {
                name,
                datatype,
                shape,
            } = tensor;
            json!({"name": name, "datatype": datatype, "shape": shape})
        });
        tensors.collect()
    };
    json!({
        "name": message.name,
        "versions": message.versions,
        "platform": message.platform,
        "inputs": tensors(&message.inputs),
        "outputs": tensors(&message.outputs),
        "parameters": parameters.into_iter().collect::<Value>(),
    })
}

/// `GET /v2/models/{m}/stats`
pub(super) fn statistics(message: &ModelStatisticsResponse) -> Value {
    let models = message.model_stats.iter().map(|model| {
        let stats = model.inference_stats.as_ref().map(inference_statistics);
        let batches = model.batch_stats.iter().map(batch_statistics);
        let memory = model.memory_usage.iter().map(
            |memory| json!({"type": memory.r#type, "id": memory.id, "byte_size": memory.byte_size}),
        );
        json!({
            "name": model.name,
            "version": model.version,
            "last_inference": model.last_inference,
            "inference_count": model.inference_count,
            "execution_count": model.execution_count,
            "inference_stats": stats,
            "batch_stats": batches.collect::<Value>(),
            "memory_usage": memory.collect::<Value>(),
            // For decoupled models; there are none.
            "response_stats": {},
        })
    });
    json!({"model_stats": models.collect::<Value>()})
}

fn inference_statistics(stats: &InferStatistics) -> Value {
    json!({
        "success": duration(stats.success),
        "fail": duration(stats.fail),
        "queue": duration(stats.queue),
        "compute_input": duration(stats.compute_input),
        "compute_infer": duration(stats.compute_infer),
        "compute_output": duration(stats.compute_output),
        "cache_hit": duration(stats.cache_hit),
        "cache_miss": duration(stats.cache_miss),
    })
}

fn batch_statistics(batch: &InferBatchStatistics) -> Value {
    json!({
        "batch_size": batch.batch_size,
        "compute_input": duration(batch.compute_input),
        "compute_infer": duration(batch.compute_infer),
        "compute_output": duration(batch.compute_output),
    })
}

fn duration(duration: Option<StatisticDuration>) -> Value {
    let StatisticDuration { count, ns } = duration.unwrap_or_default();
    json!({"count": count, "ns": ns})
}

/// `GET /v2/models/{m}/config`
pub(super) fn config(config: &ModelConfig) -> Value {
    let data_type = |number: i32| {
        let known = DataType::try_from(number).unwrap_or_default();
        known.as_str_name()
    };
    let inputs = config.input.iter().map(|input| {
        let format = input.format().as_str_name();
        json!({
            "name": input.name,
            "data_type": data_type(input.data_type),
            "format": format,
            "dims": input.dims,
        })
    });
    let outputs = config.output.iter().map(|output| {
        json!({
            "name": output.name,
            "data_type": data_type(output.data_type),
            "dims": output.dims,
        })
    });
    let groups = config.instance_group.iter().map(|group| {
        let kind = group.kind().as_str_name();
        json!({"name": group.name, "kind": kind, "count": group.count})
    });
    let parameters = config.parameters.iter().map(|(name, parameter)| {
        let value = json!({"string_value": parameter.string_value});
        (name.clone(), value)
    });
    let mut json = json!({
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "max_batch_size": config.max_batch_size,
        "input": inputs.collect::<Value>(),
        "output": outputs.collect::<Value>(),
        "instance_group": groups.collect::<Value>(),
        "default_model_filename": config.default_model_filename,
        "parameters": parameters.collect::<Value>(),
    });
    let policy = config.version_policy.as_ref();
    if let Some(choice) = policy.and_then(|policy| policy.policy_choice.as_ref()) {
        json["version_policy"] = match choice {
            PolicyChoice::Latest(latest) => {
                json!({"latest": {"num_versions": latest.num_versions}})
            }
            PolicyChoice::All(_) => json!({"all": {}}),
            PolicyChoice::Specific(specific) => {
                json!({"specific": {"versions": specific.versions}})
            }
        };
    }
    if let Some(SchedulingChoice::DynamicBatching(batching)) = &config.scheduling_choice {
        let policy = batching.default_queue_policy.as_ref().map(|policy| {
            json!({
                "timeout_action": policy.timeout_action().as_str_name(),
                "default_timeout_microseconds": policy.default_timeout_microseconds,
                "allow_timeout_override": policy.allow_timeout_override,
                "max_queue_size": policy.max_queue_size,
            })
        });
        json["dynamic_batching"] = json!({
            "preferred_batch_size": batching.preferred_batch_size,
            "max_queue_delay_microseconds": batching.max_queue_delay_microseconds,
            "default_queue_policy": policy,
        });
    }
    json
}

/// `POST /v2/repository/index`
pub(super) fn index(message: &RepositoryIndexResponse) -> Value {
    let models = message.models.iter().map(|model| {
        json!({
            "name": model.name,
            "version": model.version,
            "state": model.state,
            "reason": model.reason,
        })
    });
    models.collect()
}
