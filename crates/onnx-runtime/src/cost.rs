//! The memory and operations of one run of a graph, computed from its shapes without running it.
//!
//! A file of a few kilobytes can require terabytes: a convolution with a padding of thousands, or a
//! column added to a row. ONNX Runtime would try to allocate them.

mod shapes;

use std::collections::BTreeMap;

use networks::onnx::schema::{GraphProto, NodeProto};

use crate::interface::{INPUT_NAME, ModelInterface, OUTPUT_NAME};
use shapes::{Constants, elements, infer};

/// The cost of one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Peak number of live values: tensors between nodes and the scratch memory of a node.
    pub(crate) values: u64,
    /// Multiply-adds, comparisons and similar operations of all nodes.
    pub(crate) operations: u64,
}

/// Why the cost cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// Index of the node; `None` for the graph as a whole.
    pub(crate) node: Option<usize>,
    pub(crate) problem: String,
}

/// Dimensions of a tensor, including the batch.
type Shape = Vec<u64>;

/// Computes the cost of a batch of `batch` samples. All arithmetic saturates.
///
/// # Errors
/// [`Unknown`] if a shape depends on values or does not match its operator, or if the graph's
/// output differs from that of `interface`.
pub(crate) fn measure(
    graph: &GraphProto,
    interface: &ModelInterface,
    batch: usize,
) -> Result<Cost, Unknown> {
    let whole = |problem: String| Unknown {
        node: None,
        problem,
    };
    let constants = Constants::of(graph).map_err(whole)?;
    let last_uses = last_uses(graph);
    let sample = interface.sample.iter().map(|size| *size as u64);
    let input: Shape = [batch as u64].into_iter().chain(sample).collect();
    let mut live: BTreeMap<&str, Shape> = BTreeMap::from([(INPUT_NAME, input)]);
    let mut held: u64 = live.values().map(elements).sum();
    let mut cost = Cost::default();
    for (index, node) in graph.node.iter().enumerate() {
        let unknown = |problem: String| Unknown {
            node: Some(index),
            problem,
        };
        let step = infer(node, &live, &constants).map_err(unknown)?;
        let made = elements(&step.output).saturating_mul(outputs(node).count() as u64);
        held = held.saturating_add(made);
        cost.values = cost.values.max(held.saturating_add(step.scratch));
        cost.operations = cost.operations.saturating_add(step.operations);
        for output in outputs(node) {
            live.insert(output, step.output.clone());
        }
        let over = |name: &&str| last_uses.get(name).is_none_or(|last| *last <= index);
        for name in node.input.iter().map(String::as_str).chain(outputs(node)) {
            if name != OUTPUT_NAME
                && over(&name)
                && let Some(shape) = live.remove(name)
            {
                held = held.saturating_sub(elements(&shape));
            }
        }
    }
    let expected = [batch as u64, interface.classes as u64];
    match live.get(OUTPUT_NAME) {
        Some(shape) if *shape == expected => Ok(cost),
        Some(shape) => Err(whole(format!(
            "for a batch of {batch}, `{OUTPUT_NAME}` has shape {shape:?}, expected {expected:?}"
        ))),
        None => Err(whole(format!("no node produces `{OUTPUT_NAME}`"))),
    }
}

fn outputs(node: &NodeProto) -> impl Iterator<Item = &str> {
    let named = |name: &&str| !name.is_empty();
    node.output.iter().map(String::as_str).filter(named)
}

/// The last node that reads each tensor.
fn last_uses(graph: &GraphProto) -> BTreeMap<&str, usize> {
    let nodes = graph.node.iter().enumerate();
    nodes
        .flat_map(|(index, node)| node.input.iter().map(move |name| (name.as_str(), index)))
        .collect()
}

#[cfg(test)]
mod tests;
