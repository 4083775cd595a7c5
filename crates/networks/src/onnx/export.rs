//! The ONNX writer. It derives the graph from the spec, without tracing.

use prost::Message;

use super::schema::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionValue, GraphProto, ModelProto,
    NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    TypeValue, ValueInfoProto,
};
use crate::{
    BATCH_NORM_EPSILON, Folded, Layer, NetworkSpec, Operation, Pool, Weights, WeightsError,
    fold_batch_norm,
};

/// Version of the written file format.
pub const IR_VERSION: i64 = 8;
/// Version of the written ONNX operators.
pub const OPSET_VERSION: i64 = 17;

/// Writes a trained network as an ONNX model with folded batch-norm. Equal networks give equal bytes.
///
/// Input `input`: f32 [batch, channels, height, width], normalized; output `logits`: f32 [batch, classes].
/// The batch dimension is dynamic.
///
/// # Errors
/// [`WeightsError`] if the spec is invalid or the weights belong to another network.
pub fn export(spec: &NetworkSpec, weights: &Weights) -> Result<Vec<u8>, WeightsError> {
    let Folded { layers, tensors } = fold_batch_norm(&spec.layers()?, weights)?;
    let mut graph = Graph::default();
    graph.sequence(&layers, "input".to_owned());
    if let Some(last) = graph.nodes.last_mut() {
        last.output = vec!["logits".to_owned()];
    }

    // In network order. `fold_batch_norm` keeps exactly the tensors that the folded layers name.
    let initializer = crate::tensors(&layers)
        .into_iter()
        .filter_map(|tensor| tensors.get(&tensor.name).map(|values| (tensor, values)))
        .map(|(tensor, values)| TensorProto {
            name: Some(tensor.name),
            dims: tensor.shape.iter().map(|&size| size as i64).collect(),
            data_type: Some(DataType::Float as i32),
            raw_data: Some(values.to_le_bytes()),
            ..Default::default()
        })
        .collect();

    let model = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("retort".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(OPSET_VERSION),
        }],
        graph: Some(GraphProto {
            name: Some("network".to_owned()),
            node: graph.nodes,
            initializer,
            input: vec![batch_of("input", &spec.input)],
            output: vec![batch_of("logits", &[spec.classes])],
            ..Default::default()
        }),
        ..Default::default()
    };
    Ok(model.encode_to_vec())
}

#[derive(Default)]
struct Graph {
    nodes: Vec<NodeProto>,
}

impl Graph {
    /// Appends these layers; returns the name of their output.
    fn sequence(&mut self, layers: &[Layer], input: String) -> String {
        layers
            .iter()
            .fold(input, |input, layer| self.layer(layer, input))
    }

    fn layer(&mut self, layer: &Layer, input: String) -> String {
        let name = &layer.name;
        let tensor = |tensor: &str| format!("{name}.{tensor}");
        let with_bias = |bias: bool| {
            let bias = bias.then(|| tensor("bias"));
            [input.clone(), tensor("weight")]
                .into_iter()
                .chain(bias)
                .collect::<Vec<_>>()
        };
        match &layer.operation {
            Operation::Conv(conv) => {
                let pool = Pool {
                    kernel: conv.kernel,
                    stride: conv.stride,
                    padding: conv.padding,
                };
                let mut attributes = window(pool);
                attributes.push(int("group", conv.groups as i64));
                self.node(name, "Conv", with_bias(conv.bias), attributes)
            }
            Operation::Linear(linear) => {
                self.node(name, "Gemm", with_bias(linear.bias), vec![int("transB", 1)])
            }
            Operation::BatchNorm { .. } => {
                let inputs = vec![
                    input,
                    tensor("weight"),
                    tensor("bias"),
                    tensor("running_mean"),
                    tensor("running_var"),
                ];
                self.node(
                    name,
                    "BatchNormalization",
                    inputs,
                    vec![float("epsilon", BATCH_NORM_EPSILON as f32)],
                )
            }
            Operation::Relu => self.node(name, "Relu", vec![input], vec![]),
            Operation::MaxPool(pool) => self.node(name, "MaxPool", vec![input], window(*pool)),
            Operation::AvgPool(pool) => {
                let mut attributes = window(*pool);
                attributes.push(int("count_include_pad", 1));
                self.node(name, "AveragePool", vec![input], attributes)
            }
            Operation::GlobalAvgPool => self.node(name, "GlobalAveragePool", vec![input], vec![]),
            Operation::Flatten => self.node(name, "Flatten", vec![input], vec![int("axis", 1)]),
            Operation::Residual { body, shortcut } => {
                let learned = self.sequence(body, input.clone());
                let carried = self.sequence(shortcut, input);
                let sum = self.node(
                    &format!("{name}.add"),
                    "Add",
                    vec![learned, carried],
                    vec![],
                );
                self.node(name, "Relu", vec![sum], vec![])
            }
            // Dropout is the identity outside training.
            Operation::Dropout { .. } => input,
        }
    }

    fn node(
        &mut self,
        name: &str,
        op_type: &str,
        input: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) -> String {
        let output = format!("{name}.output");
        self.nodes.push(NodeProto {
            name: Some(name.to_owned()),
            op_type: Some(op_type.to_owned()),
            input,
            output: vec![output.clone()],
            attribute,
            ..Default::default()
        });
        output
    }
}

fn window(
    Pool {
        kernel,
        stride,
        padding,
    }: Pool,
) -> Vec<AttributeProto> {
    let ints = |name: &str, value: usize, count| AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints as i32),
        ints: vec![value as i64; count],
        ..Default::default()
    };
    vec![
        ints("kernel_shape", kernel, 2),
        ints("strides", stride, 2),
        ints("pads", padding, 4),
    ]
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(value),
        ..Default::default()
    }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Float as i32),
        f: Some(value),
        ..Default::default()
    }
}

/// An f32 tensor of samples of this shape, with a dynamic batch dimension.
fn batch_of(name: &str, sample: &[usize]) -> ValueInfoProto {
    let batch = DimensionValue::Param("batch".to_owned());
    let sizes = sample
        .iter()
        .map(|&size| DimensionValue::Value(size as i64));
    let dim = std::iter::once(batch).chain(sizes).map(|value| Dimension {
        value: Some(value),
        denotation: None,
    });
    let tensor = TensorTypeProto {
        elem_type: Some(DataType::Float as i32),
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(TypeValue::Tensor(tensor)),
            denotation: None,
        }),
        ..Default::default()
    }
}
