//! Checks untrusted models before they are loaded.
//!
//! ONNX Runtime accepts models that never finish loading (functions that call functions expand
//! exponentially), that loop at the first run, or that read files beside the model.
//! [`check_model`] rejects all of these. It reads the file without executing any of it.

use std::collections::BTreeSet;

use networks::onnx::schema::{
    AttributeProto, DataLocation, DataType, DimensionValue, GraphProto, ModelProto, NodeProto,
    TensorProto, TypeValue, ValueInfoProto,
};
use prost::Message;

use crate::{
    cost::{self, Cost},
    interface::{INPUT_NAME, ModelInterface, OUTPUT_NAME},
    names::shorten,
    operators,
    wire::{self, Census},
};

/// Limits on the size and cost of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of the file in bytes.
    pub bytes: usize,
    /// Operators in the graph.
    pub nodes: usize,
    /// Messages, strings and arrays in the file; decoding each of them allocates memory.
    pub fields: usize,
    /// Largest absolute value of an integer attribute, for example a padding or a kernel size.
    pub attribute: u64,
    /// Size of the largest batch that will run; the limits below apply to such a batch.
    pub batch: usize,
    /// Memory of the tensors between nodes that are live at the same time, in bytes.
    pub activation_bytes: u64,
    /// Multiply-adds, comparisons and similar operations.
    pub operations: u64,
}

impl Default for Limits {
    /// Limits that permit networks of a hundred layers.
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            nodes: 10_000,
            fields: 200_000,
            attribute: 4096,
            batch: 64,
            activation_bytes: 1 << 30,
            // One or two minutes on one core.
            operations: 1_000_000_000_000,
        }
    }
}

/// The properties of a model that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedModel {
    /// Inputs and outputs.
    pub interface: ModelInterface,
    /// Memory of the tensors between nodes that are live at the same time in a batch of [`Limits::batch`].
    pub activation_bytes: u64,
}

/// Why a model fails the checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The file has too many bytes.
    #[error("the model has {found} bytes; at most {allowed} are allowed")]
    TooLarge {
        /// Size of the file in bytes.
        found: usize,
        /// See [`Limits::bytes`].
        allowed: usize,
    },
    /// The model has too many nodes or fields.
    #[error("the model has too many parts; at most {nodes} nodes and {fields} fields are allowed")]
    TooComplex {
        /// See [`Limits::nodes`].
        nodes: usize,
        /// See [`Limits::fields`].
        fields: usize,
    },
    /// The bytes are not an ONNX file.
    #[error("the model cannot be read: {0}")]
    Malformed(String),
    /// The model uses an operator that is not on the allow-list.
    #[error("{node} uses the operator `{operator}` of domain `{domain}`, which is not allowed")]
    Operator {
        /// The node.
        node: String,
        /// The node's operator.
        operator: String,
        /// The operator's domain; empty for the standard ONNX domain.
        domain: String,
    },
    /// The model uses a feature of ONNX that is not allowed.
    #[error("{place}: {part} are not allowed")]
    Part {
        /// Where in the model the feature is used.
        place: String,
        /// The feature.
        part: &'static str,
    },
    /// An integer attribute is too large.
    #[error("{node}: attribute `{attribute}` is {value}; at most {allowed} is allowed")]
    Attribute {
        /// The node.
        node: String,
        /// The attribute's name.
        attribute: String,
        /// Its value.
        value: i64,
        /// See [`Limits::attribute`].
        allowed: u64,
    },
    /// The shapes of the graph do not fit together, or depend on values.
    #[error("{place}: {problem}")]
    Shape {
        /// The node, or the graph.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A run would need too much memory or computation.
    #[error(
        "a batch of {batch} would need {} {what}; at most {allowed} are allowed",
        at_least(*needed)
    )]
    TooCostly {
        /// See [`Limits::batch`].
        batch: usize,
        /// The resource.
        what: &'static str,
        /// The required amount; `u64::MAX` means at least that much.
        needed: u64,
        /// See [`Limits::activation_bytes`] and [`Limits::operations`].
        allowed: u64,
    },
    /// The inputs or outputs differ from those of Retort's models.
    #[error(
        "the model has inputs {inputs} and outputs {outputs}; expected one f32 `{INPUT_NAME}` \
         [batch, channels, height, width] or [batch, values] and one f32 `{OUTPUT_NAME}` [batch, classes]"
    )]
    Interface {
        /// Names, types and shapes of the inputs.
        inputs: String,
        /// Names, types and shapes of the outputs.
        outputs: String,
    },
}

/// Reads the model in `onnx` and returns its interface.
///
/// # Errors
/// [`ModelError`] for the first violation.
pub fn check_model(onnx: &[u8], limits: &Limits) -> Result<CheckedModel, ModelError> {
    let model = decode(onnx, limits)?;
    refuse_if(!model.functions.is_empty(), "the model", "functions")?;
    refuse_if(
        !model.training_info.is_empty(),
        "the model",
        "training graphs",
    )?;
    let Some(graph) = model.graph else {
        return Err(ModelError::Malformed("it has no graph".into()));
    };
    check_initializers(&graph)?;
    for (index, node) in graph.node.iter().enumerate() {
        check_node(index, node, limits)?;
    }
    let interface = read_interface(&graph)?;
    let activation_bytes = check_cost(&graph, &interface, limits)?;
    Ok(CheckedModel {
        interface,
        activation_bytes,
    })
}

fn decode(onnx: &[u8], limits: &Limits) -> Result<ModelProto, ModelError> {
    if onnx.len() > limits.bytes {
        return Err(ModelError::TooLarge {
            found: onnx.len(),
            allowed: limits.bytes,
        });
    }
    let limit = Census {
        nodes: limits.nodes,
        fields: limits.fields,
        // Decode one level of subgraphs, so that the error can name the node that contains one.
        depth: 2,
    };
    let malformed = |error: &dyn std::error::Error| ModelError::Malformed(error.to_string());
    let census = wire::measure(onnx, &limit).map_err(|error| malformed(&error))?;
    refuse_if(census.depth > limit.depth, "the model", "subgraphs")?;
    if census.exceeds(&limit) {
        return Err(ModelError::TooComplex {
            nodes: limits.nodes,
            fields: limits.fields,
        });
    }
    ModelProto::decode(onnx).map_err(|error| malformed(&error))
}

fn check_initializers(graph: &GraphProto) -> Result<(), ModelError> {
    let sparse = !graph.sparse_initializer.is_empty();
    refuse_if(sparse, "the graph", "sparse tensors")?;
    graph.initializer.iter().try_for_each(|tensor| {
        let name = shorten(tensor.name.as_deref().unwrap_or_default());
        check_tensor(&format!("initializer `{name}`"), tensor)
    })
}

/// Checks the limits on cost; returns [`CheckedModel::activation_bytes`].
fn check_cost(
    graph: &GraphProto,
    interface: &ModelInterface,
    limits: &Limits,
) -> Result<u64, ModelError> {
    let cost = cost::measure(graph, interface, limits.batch).map_err(|unknown| {
        let place = unknown.node.map(|index| place(index, &graph.node[index]));
        ModelError::Shape {
            place: place.unwrap_or_else(|| "the graph".to_owned()),
            problem: unknown.problem,
        }
    })?;
    let Cost { values, operations } = cost;
    let bytes = values.saturating_mul(size_of::<f32>() as u64);
    for (what, needed, allowed) in [
        ("bytes of memory", bytes, limits.activation_bytes),
        ("operations", operations, limits.operations),
    ] {
        if needed > allowed {
            return Err(ModelError::TooCostly {
                batch: limits.batch,
                what,
                needed,
                allowed,
            });
        }
    }
    Ok(bytes)
}

fn at_least(needed: u64) -> String {
    match needed {
        u64::MAX => format!("more than {needed}"),
        needed => needed.to_string(),
    }
}

fn place(index: usize, node: &NodeProto) -> String {
    let name = shorten(node.name.as_deref().unwrap_or_default());
    format!("node {index} (`{name}`)")
}

fn check_node(index: usize, node: &NodeProto, limits: &Limits) -> Result<(), ModelError> {
    let place = place(index, node);
    let operator = node.op_type.as_deref().unwrap_or_default();
    let domain = node.domain.as_deref().unwrap_or_default();
    if !operators::is_allowed(domain, operator) {
        return Err(ModelError::Operator {
            node: place,
            operator: shorten(operator),
            domain: shorten(domain),
        });
    }
    let mut attributes = node.attribute.iter();
    attributes.try_for_each(|attribute| check_attribute(&place, attribute, limits))
}

fn check_attribute(
    node: &str,
    attribute: &AttributeProto,
    limits: &Limits,
) -> Result<(), ModelError> {
    let subgraph = attribute.g.is_some() || !attribute.graphs.is_empty();
    let sparse = attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty();
    let typed = attribute.tp.is_some() || !attribute.type_protos.is_empty();
    refuse_if(subgraph, node, "subgraphs")?;
    refuse_if(sparse, node, "sparse tensors")?;
    refuse_if(typed, node, "type attributes")?;
    refuse_if(
        attribute.ref_attr_name.is_some(),
        node,
        "attributes of functions",
    )?;
    let mut tensors = attribute.t.iter().chain(&attribute.tensors);
    tensors.try_for_each(|tensor| check_tensor(node, tensor))?;
    let too_large = |value: &&i64| value.unsigned_abs() > limits.attribute;
    match attribute.i.iter().chain(&attribute.ints).find(too_large) {
        None => Ok(()),
        Some(value) => Err(ModelError::Attribute {
            node: node.to_owned(),
            attribute: shorten(attribute.name.as_deref().unwrap_or_default()),
            value: *value,
            allowed: limits.attribute,
        }),
    }
}

/// Rejects external data: it could make the server read any file.
fn check_tensor(place: &str, tensor: &TensorProto) -> Result<(), ModelError> {
    let elsewhere = tensor.data_location.unwrap_or_default() != DataLocation::Default as i32;
    let external = elsewhere || !tensor.external_data.is_empty();
    refuse_if(external, place, "external data")
}

fn refuse_if(found: bool, place: &str, part: &'static str) -> Result<(), ModelError> {
    if found {
        Err(ModelError::Part {
            place: place.to_owned(),
            part,
        })
    } else {
        Ok(())
    }
}

fn read_interface(graph: &GraphProto) -> Result<ModelInterface, ModelError> {
    // Before IR version 4, the inputs included the weights.
    let weights: BTreeSet<_> = graph.initializer.iter().map(TensorProto::name).collect();
    let inputs = graph.input.iter();
    let inputs: Vec<_> = inputs
        .filter(|input| !weights.contains(input.name()))
        .collect();
    let outputs: Vec<_> = graph.output.iter().collect();
    let interface = match (inputs.as_slice(), outputs.as_slice()) {
        ([input], [output]) if (input.name(), output.name()) == (INPUT_NAME, OUTPUT_NAME) => {
            f32_shape(input)
                .zip(f32_shape(output))
                .and_then(|(input, output)| ModelInterface::from_shapes(&input, &output))
        }
        _ => None,
    };
    interface.ok_or_else(|| ModelError::Interface {
        inputs: describe(&inputs),
        outputs: describe(&outputs),
    })
}

/// The shape of an f32 tensor; `None` stands for a dynamic dimension.
fn f32_shape(value: &ValueInfoProto) -> Option<Vec<Option<usize>>> {
    let Some(TypeValue::Tensor(tensor)) = value.r#type.as_ref()?.value.as_ref() else {
        return None;
    };
    if tensor.elem_type != Some(DataType::Float as i32) {
        return None;
    }
    let dimensions = tensor.shape.as_ref()?.dim.iter();
    Some(
        dimensions
            .map(|dimension| match dimension.value {
                Some(DimensionValue::Value(size)) => usize::try_from(size).ok(),
                Some(DimensionValue::Param(_)) | None => None,
            })
            .collect(),
    )
}

fn describe(values: &[&ValueInfoProto]) -> String {
    let described: Vec<_> = values
        .iter()
        .take(4)
        .map(|value| {
            let name = shorten(value.name());
            match f32_shape(value) {
                None => format!("`{name}` (not an f32 tensor with a shape)"),
                Some(shape) => format!("`{name}` f32 {}", show_shape(&shape)),
            }
        })
        .collect();
    if described.is_empty() {
        "none".to_owned()
    } else {
        described.join(", ")
    }
}

fn show_shape(shape: &[Option<usize>]) -> String {
    let sizes: Vec<_> = shape
        .iter()
        .map(|size| size.map_or("?".to_owned(), |size| size.to_string()))
        .collect();
    format!("[{}]", sizes.join(", "))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
