//! The ONNX writer. It derives the graph from the spec, without tracing.

use prost::Message;

use super::schema::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionValue, GraphProto, ModelProto,
    NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    TypeValue, ValueInfoProto,
};
use crate::{
    Activation, Folded, Layer, NetworkSpec, Operation, Pool, Weights, WeightsError, fold_batch_norm,
};

/// Version of the written file format.
pub const IR_VERSION: i64 = 8;
/// Version of the written ONNX operators.
pub const OPSET_VERSION: i64 = 17;
/// Name of the model's input.
pub const INPUT: &str = "input";
/// Name of the tensor that the first layer takes in a model of [`export_standardized`].
pub const STANDARDIZED_INPUT: &str = "standardize.output";

/// Name of the tensor that a node gives. The last node of a layer has the layer's name; the sum of a residual layer with
/// an activation comes from the node `NAME.add`, and the factors of SiLU from `NAME.sigmoid`.
pub fn output_tensor(node: &str) -> String {
    format!("{node}.output")
}

/// Writes a trained network as an ONNX model with folded batch-norm. Equal networks give equal bytes.
///
/// Input `input`: f32 [batch, channels, height, width] or [batch, features], normalized; output
/// `logits`: f32 [batch, classes].
/// The batch dimension is dynamic.
///
/// # Errors
/// [`WeightsError`] if the spec is invalid or the weights belong to another network.
pub fn export(spec: &NetworkSpec, weights: &Weights) -> Result<Vec<u8>, WeightsError> {
    write(spec, weights, None)
}

/// As [`export`], for a network of rows: the model takes rows as they are and standardizes them itself.
///
/// # Errors
/// Those of [`export`].
///
/// # Panics
/// If the network does not take rows of as many values as `standardization` has.
pub fn export_standardized(
    spec: &NetworkSpec,
    weights: &Weights,
    standardization: Standardization<'_>,
) -> Result<Vec<u8>, WeightsError> {
    let Standardization { mean, std } = standardization;
    let lengths = [mean.len(), std.len()];
    let features = spec.input.dimensions();
    assert!(lengths.iter().all(|length| features == [*length]));
    write(spec, weights, Some(standardization))
}

/// What makes each value of a row a number around 0: `(x - mean) / std`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standardization<'s> {
    /// One per value.
    pub mean: &'s [f32],
    /// One per value, above 0.
    pub std: &'s [f32],
}

fn write(
    spec: &NetworkSpec,
    weights: &Weights,
    standardization: Option<Standardization<'_>>,
) -> Result<Vec<u8>, WeightsError> {
    let Folded { layers, tensors } = fold_batch_norm(&spec.layers()?, weights)?;
    let mut graph = Graph::default();
    let mut input = INPUT.to_owned();
    if standardization.is_some() {
        input = graph.standardize(input);
    }
    graph.sequence(&layers, input);
    if let Some(last) = graph.nodes.last_mut() {
        last.output = vec!["logits".to_owned()];
    }

    // In network order. `fold_batch_norm` keeps exactly the tensors that the folded layers name.
    let weights = crate::tensors(&layers)
        .into_iter()
        .filter_map(|tensor| tensors.get(&tensor.name).map(|values| (tensor, values)))
        .map(|(tensor, values)| constant(&tensor.name, &tensor.shape, values.to_le_bytes()));
    let bounds = graph.clips.then(|| {
        [(RELU6_MIN, 0f32), (RELU6_MAX, 6f32)]
            .map(|(name, value)| constant(name, &[], value.to_le_bytes().to_vec()))
    });
    let standardization = standardization.map(|Standardization { mean, std }| {
        [(ROW_MEAN, mean), (ROW_STD, std)].map(|(name, values)| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            constant(name, &[values.len()], bytes.collect())
        })
    });
    let initializer = weights
        .chain(bounds.into_iter().flatten())
        .chain(standardization.into_iter().flatten())
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
            input: vec![batch_of(INPUT, &spec.input.dimensions())],
            output: vec![batch_of("logits", &[spec.classes])],
            ..Default::default()
        }),
        ..Default::default()
    };
    Ok(model.encode_to_vec())
}

/// Names of the constants that bound ReLU6.
const RELU6_MIN: &str = "relu6.min";
const RELU6_MAX: &str = "relu6.max";
/// Names of the constants that standardize rows.
const ROW_MEAN: &str = "standardize.mean";
const ROW_STD: &str = "standardize.std";

#[derive(Default)]
struct Graph {
    nodes: Vec<NodeProto>,
    /// Whether a node uses the bounds of ReLU6.
    clips: bool,
}

impl Graph {
    /// Appends `(input - mean) / std`; returns the name of the output.
    fn standardize(&mut self, input: String) -> String {
        let inputs = vec![input, ROW_MEAN.to_owned()];
        let centered = self.node("standardize.center", "Sub", inputs, vec![]);
        let inputs = vec![centered, ROW_STD.to_owned()];
        self.node("standardize", "Div", inputs, vec![])
    }

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
                let mut attributes = window(conv.kernel, conv.stride, conv.padding);
                attributes.push(int("group", conv.groups as i64));
                self.node(name, "Conv", with_bias(conv.bias), attributes)
            }
            Operation::Linear(linear) => {
                self.node(name, "Gemm", with_bias(linear.bias), vec![int("transB", 1)])
            }
            Operation::BatchNorm { epsilon, .. } => {
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
                    vec![float("epsilon", *epsilon as f32)],
                )
            }
            Operation::Activation(activation) => self.activation(name, *activation, input),
            Operation::MaxPool(pool) => self.node(name, "MaxPool", vec![input], pool_window(*pool)),
            Operation::AvgPool(pool) => {
                let mut attributes = pool_window(*pool);
                attributes.push(int("count_include_pad", 1));
                self.node(name, "AveragePool", vec![input], attributes)
            }
            Operation::GlobalAvgPool => self.node(name, "GlobalAveragePool", vec![input], vec![]),
            Operation::Flatten => self.node(name, "Flatten", vec![input], vec![int("axis", 1)]),
            Operation::Residual {
                body,
                shortcut,
                activation,
            } => {
                let learned = self.sequence(body, input.clone());
                let carried = self.sequence(shortcut, input);
                let add = |name: &str| self.node(name, "Add", vec![learned, carried], vec![]);
                match activation {
                    None => add(name),
                    Some(activation) => {
                        let sum = add(&format!("{name}.add"));
                        self.activation(name, *activation, sum)
                    }
                }
            }
            Operation::Gate { gate } => {
                let factors = self.sequence(gate, input.clone());
                self.node(name, "Mul", vec![input, factors], vec![])
            }
            // Dropout is the identity outside training.
            Operation::Dropout { .. } => input,
        }
    }

    fn activation(&mut self, name: &str, activation: Activation, input: String) -> String {
        match activation {
            Activation::Relu => self.node(name, "Relu", vec![input], vec![]),
            Activation::Relu6 => {
                self.clips = true;
                let inputs = vec![input, RELU6_MIN.to_owned(), RELU6_MAX.to_owned()];
                self.node(name, "Clip", inputs, vec![])
            }
            Activation::Silu => {
                let gate = format!("{name}.sigmoid");
                let factor = self.node(&gate, "Sigmoid", vec![input.clone()], vec![]);
                self.node(name, "Mul", vec![input, factor], vec![])
            }
            Activation::HardSwish => self.node(name, "HardSwish", vec![input], vec![]),
            Activation::Sigmoid => self.node(name, "Sigmoid", vec![input], vec![]),
        }
    }

    fn node(
        &mut self,
        name: &str,
        op_type: &str,
        input: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) -> String {
        let output = output_tensor(name);
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

/// An f32 tensor that belongs to the model.
fn constant(name: &str, shape: &[usize], little_endian: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: shape.iter().map(|&size| size as i64).collect(),
        data_type: Some(DataType::Float as i32),
        raw_data: Some(little_endian),
        ..Default::default()
    }
}

fn pool_window(pool: Pool) -> Vec<AttributeProto> {
    window(pool.kernel, pool.stride, [pool.padding; 4])
}

fn window(kernel: usize, stride: usize, padding: [usize; 4]) -> Vec<AttributeProto> {
    let ints = |name: &str, values: &[usize]| AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints as i32),
        ints: values.iter().map(|&value| value as i64).collect(),
        ..Default::default()
    };
    vec![
        ints("kernel_shape", &[kernel; 2]),
        ints("strides", &[stride; 2]),
        ints("pads", &padding),
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
