//! Static quantization of an exported model: convolutions and linear layers compute in int8.

mod rounding;

use std::collections::{BTreeMap, BTreeSet};

use prost::{DecodeError, Message};

use super::{
    INPUT,
    schema::{
        AttributeProto, AttributeType, DataType, GraphProto, ModelProto, NodeProto, TensorProto,
        TensorTypeProto, TypeProto, TypeValue, ValueInfoProto,
    },
};
use rounding::Kernel;
pub use rounding::{ActivationScale, LARGEST_BIAS, LARGEST_WEIGHT};

/// The ranges of tensors, by their names in the model that [`export`](super::export) wrote.
pub type Ranges = BTreeMap<String, Range>;

/// The smallest and the largest value of a tensor on typical samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The smallest value.
    pub min: f32,
    /// The largest value.
    pub max: f32,
}

/// Why a model cannot be quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The bytes are no ONNX model.
    #[error("not an ONNX model: {0}")]
    Malformed(#[from] DecodeError),
    /// The range of a tensor is not known.
    #[error("the range of the tensor `{0}` is not known")]
    NoRange(String),
    /// A range has no finite bounds.
    #[error("the tensor `{name}` reaches from {} to {}, which int8 cannot represent", range.min, range.max)]
    NotFinite {
        /// The tensor.
        name: String,
        /// Its range.
        range: Range,
    },
}

/// Quantizes a model that [`export`](super::export) wrote, in the QDQ form of ONNX Runtime's static quantizer: pairs
/// of QuantizeLinear and DequantizeLinear around the operators say where ONNX Runtime may compute in integers.
/// `range` gives the range of a tensor by its name, for those that [`with_all_outputs`] lists and the input.
///
/// Activations become u8 with one scale for each tensor. Weights become symmetric int8 with one scale for each output
/// channel, and biases int32. Weights use 7 of the 8 bits, from -64 to 64: processors without VNNI add two products of
/// u8 and int8 in 16 bits, which 8 bits would overflow, so the model computes the same on every processor. The
/// convolution of an image with few channels stays in f32 ([`computes_in_f32`]).
///
/// # Errors
/// See [`QuantizeError`].
pub fn quantize(
    onnx: &[u8],
    range: impl Fn(&str) -> Option<Range>,
) -> Result<Vec<u8>, QuantizeError> {
    let mut model = ModelProto::decode(onnx)?;
    if let Some(graph) = &mut model.graph {
        let mut rewriter = Rewriter::new(std::mem::take(&mut graph.initializer), range);
        for node in std::mem::take(&mut graph.node) {
            rewriter.node(node)?;
        }
        rewriter.finish(graph);
    }
    Ok(model.encode_to_vec())
}

/// The scale and zero point of the tensor `name`, whose values reach over `range`.
///
/// # Errors
/// [`QuantizeError::NoRange`] or [`QuantizeError::NotFinite`].
pub fn activation_scale(
    name: &str,
    range: Option<Range>,
) -> Result<ActivationScale, QuantizeError> {
    let name = || name.to_owned();
    let range = range.ok_or_else(|| QuantizeError::NoRange(name()))?;
    ActivationScale::of(range).ok_or_else(|| QuantizeError::NotFinite {
        name: name(),
        range,
    })
}

/// Whether a convolution of the tensor `input` stays in f32: if that is the model's input and each group has few channels, as
/// of a grayscale or color image. Its few products for each value do not pay for the conversion, and ONNX Runtime computes it
/// faster in f32. What MaxPool selects from the input counts as the input.
pub fn computes_in_f32(input: &str, channels_per_group: usize) -> bool {
    input == INPUT && channels_per_group <= 3
}

/// The same model with every tensor between two operators as a further output, to learn their ranges.
///
/// # Errors
/// [`QuantizeError::Malformed`].
pub fn with_all_outputs(onnx: &[u8]) -> Result<Vec<u8>, QuantizeError> {
    let mut model = ModelProto::decode(onnx)?;
    if let Some(GraphProto { node, output, .. }) = &mut model.graph {
        let known: BTreeSet<_> = output.iter().map(|value| value.name().to_owned()).collect();
        let made = node.iter().flat_map(|node| &node.output);
        let inner = made.filter(|name| !known.contains(*name));
        let inner: Vec<_> = inner.map(|name| float_tensor(name)).collect();
        output.extend(inner);
    }
    Ok(model.encode_to_vec())
}

/// An f32 tensor of any shape.
fn float_tensor(name: &str) -> ValueInfoProto {
    let tensor = TensorTypeProto {
        elem_type: Some(DataType::Float as i32),
        shape: None,
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

/// Builds the quantized graph, node by node.
struct Rewriter<R> {
    range: R,
    /// Constants of the model by name; [`Self::finish`] keeps those that are still used.
    constants: BTreeMap<String, TensorProto>,
    nodes: Vec<NodeProto>,
    /// New constants.
    added: Vec<TensorProto>,
    /// The scale and zero point of each quantized tensor. Some tensors share those of the tensor that they are a part
    /// of.
    scales: BTreeMap<String, ActivationScale>,
    same_scale: BTreeMap<String, String>,
    /// Tensors that have a dequantized twin.
    dequantized: BTreeSet<String>,
}

impl<R: Fn(&str) -> Option<Range>> Rewriter<R> {
    fn new(constants: Vec<TensorProto>, range: R) -> Self {
        let named = constants.into_iter();
        Self {
            range,
            constants: named
                .map(|tensor| (tensor.name().to_owned(), tensor))
                .collect(),
            nodes: Vec::new(),
            added: Vec::new(),
            scales: BTreeMap::new(),
            same_scale: BTreeMap::new(),
            dequantized: BTreeSet::new(),
        }
    }

    fn node(&mut self, mut node: NodeProto) -> Result<(), QuantizeError> {
        match node.op_type() {
            // ONNX Runtime merges these into the QuantizeLinear after them.
            "Relu" | "Clip" => {}
            // They standardize rows, whose values have ranges of their own.
            "Sub" | "Div" => {}
            "Conv" if self.stays_in_f32(&node) => {}
            "Conv" | "Gemm" => {
                let scale = self.activation(&node.input[0])?.scale;
                node.input[0] = self.quantized(&node.input[0])?;
                self.kernel(&mut node, scale);
            }
            operator => {
                // Their output has values of their input alone.
                if matches!(operator, "MaxPool" | "Flatten") {
                    let source = self.scale_source(&node.input[0]).to_owned();
                    self.same_scale.insert(node.output[0].clone(), source);
                }
                for input in &mut node.input {
                    if !self.constants.contains_key(input) {
                        *input = self.quantized(input)?;
                    }
                }
            }
        }
        self.nodes.push(node);
        Ok(())
    }

    fn stays_in_f32(&self, conv: &NodeProto) -> bool {
        let weight = conv.input.get(1).and_then(|name| self.constants.get(name));
        let channels = weight.and_then(|weight| weight.dims.get(1));
        let channels = channels.and_then(|channels| usize::try_from(*channels).ok());
        channels
            .is_some_and(|channels| computes_in_f32(self.scale_source(&conv.input[0]), channels))
    }

    fn scale_source<'n>(&'n self, tensor: &'n str) -> &'n str {
        self.same_scale.get(tensor).map_or(tensor, String::as_str)
    }

    /// The scale and zero point of a tensor.
    fn activation(&mut self, tensor: &str) -> Result<ActivationScale, QuantizeError> {
        let source = self.scale_source(tensor).to_owned();
        if let Some(known) = self.scales.get(&source) {
            return Ok(*known);
        }
        let activation = activation_scale(&source, (self.range)(&source))?;
        let scale = activation.scale.to_le_bytes().to_vec();
        self.add(&format!("{source}.scale"), DataType::Float, &[], scale);
        let zero_point = vec![activation.zero_point];
        self.add(
            &format!("{source}.zero_point"),
            DataType::Uint8,
            &[],
            zero_point,
        );
        self.scales.insert(source, activation);
        Ok(activation)
    }

    /// The name of the tensor after it went through u8; adds that on the first use.
    fn quantized(&mut self, tensor: &str) -> Result<String, QuantizeError> {
        self.activation(tensor)?;
        let dequantized = format!("{tensor}.dequantized");
        if self.dequantized.insert(tensor.to_owned()) {
            let source = self.scale_source(tensor);
            let [scale, zero_point] =
                ["scale", "zero_point"].map(|part| format!("{source}.{part}"));
            let quantized = format!("{tensor}.quantized");
            let inputs = [tensor.to_owned(), scale.clone(), zero_point.clone()];
            self.linear("QuantizeLinear", inputs, &quantized, None);
            let inputs = [quantized, scale, zero_point];
            self.linear("DequantizeLinear", inputs, &dequantized, None);
        }
        Ok(dequantized)
    }

    /// Replaces weight and bias of a convolution or linear layer, whose input has the scale `input_scale`.
    fn kernel(&mut self, node: &mut NodeProto, input_scale: f32) {
        let constant = |input: Option<&String>| input.and_then(|name| self.constants.get(name));
        let Some(weight) = constant(node.input.get(1)) else {
            // A weight that is computed stays in f32; the writer makes none.
            return;
        };
        let bias = constant(node.input.get(2)).map(floats);
        let channels = usize::try_from(weight.dims[0]).unwrap_or(1);
        let kernel = Kernel::of(&floats(weight), channels, bias.as_deref(), input_scale);
        let sizes = weight.dims.clone();
        let per_channel = [channels as i64];

        let name = node.input[1].clone();
        let bytes = kernel.weights.iter().map(|weight| weight.to_le_bytes()[0]);
        let weights = self.add(
            &format!("{name}.quantized"),
            DataType::Int8,
            &sizes,
            bytes.collect(),
        );
        let scales = le_bytes(&kernel.scales, |scale| scale.to_le_bytes());
        let scales = self.add(
            &format!("{name}.scale"),
            DataType::Float,
            &per_channel,
            scales,
        );
        let zero_points = vec![0; channels];
        let zero_points = self.add(
            &format!("{name}.zero_point"),
            DataType::Int8,
            &per_channel,
            zero_points,
        );
        node.input[1] = format!("{name}.dequantized");
        let output = node.input[1].clone();
        self.linear(
            "DequantizeLinear",
            [weights, scales, zero_points],
            &output,
            Some(0),
        );

        if let Some(biases) = kernel.biases {
            let name = node.input[2].clone();
            let bytes = le_bytes(&biases, |bias| bias.to_le_bytes());
            let biases = self.add(
                &format!("{name}.quantized"),
                DataType::Int32,
                &per_channel,
                bytes,
            );
            let scales = kernel.scales.iter().map(|scale| scale * input_scale);
            let scales = le_bytes(&scales.collect::<Vec<_>>(), |scale| scale.to_le_bytes());
            let scales = self.add(
                &format!("{name}.scale"),
                DataType::Float,
                &per_channel,
                scales,
            );
            let zero_points = vec![0; 4 * channels];
            let zero_points = self.add(
                &format!("{name}.zero_point"),
                DataType::Int32,
                &per_channel,
                zero_points,
            );
            node.input[2] = format!("{name}.dequantized");
            let output = node.input[2].clone();
            self.linear(
                "DequantizeLinear",
                [biases, scales, zero_points],
                &output,
                Some(0),
            );
        }
    }

    /// Adds QuantizeLinear or DequantizeLinear; with an axis, each of its positions has a scale of its own.
    fn linear(&mut self, operator: &str, inputs: [String; 3], output: &str, axis: Option<i64>) {
        let axis = axis.map(|axis| AttributeProto {
            name: Some("axis".to_owned()),
            r#type: Some(AttributeType::Int as i32),
            i: Some(axis),
            ..Default::default()
        });
        self.nodes.push(NodeProto {
            name: Some(output.to_owned()),
            op_type: Some(operator.to_owned()),
            input: inputs.to_vec(),
            output: vec![output.to_owned()],
            attribute: axis.into_iter().collect(),
            ..Default::default()
        });
    }

    /// Adds a constant; returns its name.
    fn add(&mut self, name: &str, data_type: DataType, sizes: &[i64], bytes: Vec<u8>) -> String {
        self.added.push(TensorProto {
            name: Some(name.to_owned()),
            dims: sizes.to_vec(),
            data_type: Some(data_type as i32),
            raw_data: Some(bytes),
            ..Default::default()
        });
        name.to_owned()
    }

    fn finish(self, graph: &mut GraphProto) {
        let used: BTreeSet<_> = self.nodes.iter().flat_map(|node| &node.input).collect();
        let kept = self
            .constants
            .into_iter()
            .filter(|(name, _)| used.contains(name));
        graph.initializer = kept.map(|(_, tensor)| tensor).chain(self.added).collect();
        graph.node = self.nodes;
    }
}

/// The values of a constant of the writer, which are raw f32.
fn floats(tensor: &TensorProto) -> Vec<f32> {
    let bytes = tensor.raw_data.as_deref().unwrap_or_default();
    let (values, _) = bytes.as_chunks();
    values
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect()
}

fn le_bytes<T: Copy>(values: &[T], bytes: impl Fn(T) -> [u8; 4]) -> Vec<u8> {
    values.iter().flat_map(|value| bytes(*value)).collect()
}
