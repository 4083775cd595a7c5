//! Measures an encoded ONNX file, so that a small file that would decode into gigabytes is rejected
//! before decoding: two bytes can encode a message of a thousand bytes.
//!
//! Encoding: <https://protobuf.dev/programming-guides/encoding/>; field numbers: `onnx/onnx.proto`.

/// Counts of the contents of an encoded model.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Census {
    /// Nodes in all graphs and functions.
    pub(crate) nodes: usize,
    /// Fields for which decoding allocates memory: messages, strings and arrays.
    pub(crate) fields: usize,
    /// Nesting depth of graphs; 1 for a model without subgraphs.
    pub(crate) depth: usize,
}

/// The bytes are not protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ONNX file: truncated or damaged")]
pub struct Malformed;

/// The message types that can contain other messages of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Model,
    TrainingInfo,
    Function,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
    Annotation,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// A message of values and strings only.
    Flat,
}

/// Counts the contents of `onnx` and stops at the first count above `limit`.
///
/// # Errors
/// [`Malformed`] if the bytes are not protobuf.
pub(crate) fn measure(onnx: &[u8], limit: &Census) -> Result<Census, Malformed> {
    let mut census = Census::default();
    visit(Message::Model, onnx, 0, 0, limit, &mut census)?;
    Ok(census)
}

impl Census {
    pub(crate) fn exceeds(&self, limit: &Self) -> bool {
        self.nodes > limit.nodes || self.fields > limit.fields || self.depth > limit.depth
    }
}

/// The deepest nesting of messages. prost rejects deeper messages too.
pub(crate) const MAX_NESTING: usize = 100;

/// The value of a field, as far as its encoding tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'b> {
    /// An integer.
    Varint(u64),
    /// 4 or 8 bytes.
    Fixed,
    /// A message, a string, bytes or a packed array.
    Bytes(&'b [u8]),
}

/// Takes the next field from the front of a message: its number and its value.
///
/// # Errors
/// [`Malformed`] if the bytes are not protobuf.
pub(crate) fn next_field<'b>(bytes: &mut &'b [u8]) -> Result<(u64, Value<'b>), Malformed> {
    let key = varint(bytes)?;
    let value = match key & 7 {
        0 => Value::Varint(varint(bytes)?),
        1 => take(bytes, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = varint(bytes)?;
            Value::Bytes(take(
                bytes,
                usize::try_from(length).map_err(|_| Malformed)?,
            )?)
        }
        5 => take(bytes, 4).map(|_| Value::Fixed)?,
        _ => return Err(Malformed),
    };
    Ok((key >> 3, value))
}

/// Visits a message recursively. `nesting` counts all messages around this one, `depth` only the graphs
/// among them. Types nest as well: a sequence has the type of its elements.
fn visit(
    message: Message,
    mut bytes: &[u8],
    nesting: usize,
    depth: usize,
    limit: &Census,
    census: &mut Census,
) -> Result<(), Malformed> {
    if nesting > MAX_NESTING {
        return Err(Malformed);
    }
    let depth = depth + usize::from(message == Message::Graph);
    census.depth = census.depth.max(depth);
    census.nodes += usize::from(message == Message::Node);
    while !bytes.is_empty() && !census.exceeds(limit) {
        if let (field, Value::Bytes(content)) = next_field(&mut bytes)? {
            census.fields += 1;
            if let Some(inner) = inner_message(message, field) {
                visit(inner, content, nesting + 1, depth, limit, census)?;
            }
        }
    }
    Ok(())
}

/// The message type of a field; `None` for strings, bytes, arrays and unknown fields.
pub(crate) fn inner_message(message: Message, field: u64) -> Option<Message> {
    use Message::{
        Annotation, Attribute, Flat, Function, Graph, Model, Node, Shape, SparseTensor, Tensor,
        TensorType, TrainingInfo, Type, ValueInfo,
    };
    let inner = match (message, field) {
        (Model, 7) | (TrainingInfo, 1 | 2) | (Attribute, 6 | 11) => Graph,
        (Model, 20) => TrainingInfo,
        (Model, 25) => Function,
        (Graph, 1) | (Function, 7) => Node,
        (Graph, 5) | (Attribute, 5 | 10) | (SparseTensor, 1 | 2) => Tensor,
        (Graph, 11..=13) | (Function, 12) => ValueInfo,
        (Graph, 14) => Annotation,
        (Graph, 15) | (Attribute, 22 | 23) => SparseTensor,
        (Node, 5) | (Function, 11) => Attribute,
        (ValueInfo, 2) | (Attribute, 14 | 15) => Type,
        // Sequence, map and optional types contain another type; tensor types do not.
        (Type, 4 | 5 | 9) => Type,
        (Type, 1 | 8) => TensorType,
        (TensorType, 2) => Shape,
        (Model, 8 | 14) | (TrainingInfo, 3 | 4) | (Function, 9 | 14) | (Graph, 16) => Flat,
        (Node, 9) | (Tensor, 3 | 13 | 16) | (Annotation, 2) | (ValueInfo, 4) => Flat,
        (Shape, 1) | (Type, 7) => Flat,
        _ => return None,
    };
    Some(inner)
}

pub(crate) fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Result<&'b [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use networks::onnx::schema::{AttributeProto, GraphProto, ModelProto, NodeProto};
    use prost::Message as _;

    use super::*;

    const LIMIT: Census = Census {
        nodes: 100,
        fields: 1000,
        depth: 4,
    };

    fn graph(nodes: Vec<NodeProto>) -> GraphProto {
        GraphProto {
            node: nodes,
            ..GraphProto::default()
        }
    }

    fn model(graph: GraphProto) -> Vec<u8> {
        let model = ModelProto {
            ir_version: Some(8),
            graph: Some(graph),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }

    fn node_with(subgraph: GraphProto) -> NodeProto {
        let attribute = AttributeProto {
            g: Some(subgraph),
            ..AttributeProto::default()
        };
        NodeProto {
            input: vec!["x".into()],
            attribute: vec![attribute],
            ..NodeProto::default()
        }
    }

    #[test]
    fn counts_nodes_fields_and_depth() {
        let onnx = model(graph(vec![node_with(graph(vec![NodeProto::default()]))]));
        let expected = Census {
            nodes: 2,
            // graph, node, its input, its attribute, the subgraph, the inner node
            fields: 6,
            depth: 2,
        };
        assert_eq!(measure(&onnx, &LIMIT), Ok(expected));
    }

    #[test]
    fn stops_at_the_first_count_above_the_limit() {
        let many = model(graph(vec![NodeProto::default(); 5000]));
        let nodes = measure(&many, &LIMIT).unwrap();
        assert!(nodes.exceeds(&LIMIT) && nodes.nodes == 101, "{nodes:?}");

        let deep = (0..50).fold(graph(vec![]), |inner, _| graph(vec![node_with(inner)]));
        let depth = measure(&model(deep), &LIMIT).unwrap();
        assert!(depth.exceeds(&LIMIT) && depth.depth == 5, "{depth:?}");
    }

    #[test]
    fn deeply_nested_types_are_malformed() {
        // The input of a graph, its type, then 100,000 sequence types.
        let onnx = test_support::damage::nested_messages(&[7, 11, 2], &[4], 100_000);
        let limit = Census {
            fields: usize::MAX,
            ..LIMIT
        };
        assert_eq!(measure(&onnx, &limit), Err(Malformed));
    }

    #[test]
    fn bytes_that_are_not_protobuf_are_malformed() {
        let whole = model(graph(vec![node_with(graph(vec![]))]));
        assert!(measure(&whole[..whole.len() - 1], &LIMIT).is_err());
        let cases: [&[u8]; 4] = [
            b"PK\x03\x04 a zip archive",
            &[0xff; 11], // a varint without an end
            &[
                0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ], // longer than 2^63
            &[0x0b],     // a group
        ];
        for bytes in cases {
            assert_eq!(measure(bytes, &LIMIT), Err(Malformed), "{bytes:?}");
        }
    }
}
