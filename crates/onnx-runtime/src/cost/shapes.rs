//! The output shape and the cost of each allowed operator.
//!
//! Rules: <https://onnx.ai/onnx/operators/>.

use std::collections::BTreeMap;

use networks::onnx::schema::{AttributeProto, DataType, GraphProto, NodeProto, TensorProto};

use super::Shape;
use crate::names::shorten;

/// Maximum length of a shape and of a list of axes.
const MAX_RANK: usize = 16;

/// The output and cost of one node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) output: Shape,
    pub(super) operations: u64,
    /// Values that exist only while the node runs.
    pub(super) scratch: u64,
}

/// Constants in the file: the shapes of all, and the values of integer constants, such as the target
/// of a `Reshape`.
pub(super) struct Constants<'g> {
    shapes: BTreeMap<&'g str, Shape>,
    integers: BTreeMap<&'g str, Vec<i64>>,
}

impl<'g> Constants<'g> {
    pub(super) fn of(graph: &'g GraphProto) -> Result<Self, String> {
        let mut constants = Self {
            shapes: BTreeMap::new(),
            integers: BTreeMap::new(),
        };
        for tensor in &graph.initializer {
            constants.add(tensor.name(), tensor)?;
        }
        for node in graph
            .node
            .iter()
            .filter(|node| node.op_type() == "Constant")
        {
            let output = node.output.first().map(String::as_str).unwrap_or_default();
            if let Some(tensor) = attribute(node, "value").and_then(|value| value.t.as_ref()) {
                constants.add(output, tensor)?;
            } else if let Some(value) = attribute(node, "value_ints") {
                constants
                    .shapes
                    .insert(output, vec![value.ints.len() as u64]);
                constants.integers.insert(output, value.ints.clone());
            } else if let Some(value) = attribute(node, "value_floats") {
                constants
                    .shapes
                    .insert(output, vec![value.floats.len() as u64]);
            } else {
                constants.shapes.insert(output, Vec::new());
            }
        }
        Ok(constants)
    }

    fn add(&mut self, name: &'g str, tensor: &TensorProto) -> Result<(), String> {
        let shown = shorten(name);
        let sizes = tensor.dims.iter().map(|size| u64::try_from(*size));
        let Ok(shape) = sizes.collect::<Result<Shape, _>>() else {
            return Err(format!("constant `{shown}` has a negative dimension"));
        };
        if shape.len() > MAX_RANK {
            return Err(format!("constant `{shown}` has a rank above {MAX_RANK}"));
        }
        // The smallest type packs two values into a byte.
        if elements(&shape) > bytes(tensor).saturating_mul(2) {
            return Err(format!(
                "constant `{shown}` holds fewer values than its shape {shape:?}"
            ));
        }
        if tensor.data_type == Some(DataType::Int64 as i32) {
            let raw = tensor.raw_data.as_deref().unwrap_or_default();
            let (raw, _) = raw.as_chunks();
            let raw = raw.iter().map(|value| i64::from_le_bytes(*value));
            let values = raw.chain(tensor.int64_data.iter().copied()).collect();
            self.integers.insert(name, values);
        }
        self.shapes.insert(name, shape);
        Ok(())
    }
}

fn bytes(tensor: &TensorProto) -> u64 {
    let raw = tensor.raw_data.as_ref().map_or(0, Vec::len);
    let narrow = tensor.float_data.len() + tensor.int32_data.len();
    let wide = tensor.int64_data.len() + tensor.double_data.len() + tensor.uint64_data.len();
    (raw + 4 * narrow + 8 * wide) as u64
}

/// Values in a tensor.
pub(super) fn elements(shape: &Shape) -> u64 {
    product(shape)
}

fn product(sizes: &[u64]) -> u64 {
    sizes.iter().fold(1, |all, size| all.saturating_mul(*size))
}

/// Infers the output and cost of `node`, whose inputs are among `live` and `constants`.
///
/// # Errors
/// A message if the shape is unknown or invalid.
pub(super) fn infer(
    node: &NodeProto,
    live: &BTreeMap<&str, Shape>,
    constants: &Constants<'_>,
) -> Result<Step, String> {
    let shape = |index: usize| -> Result<&Shape, String> {
        let name = node
            .input
            .get(index)
            .map(String::as_str)
            .unwrap_or_default();
        let found = live.get(name).or_else(|| constants.shapes.get(name));
        let shown = shorten(name);
        found.ok_or_else(|| format!("no earlier node produces input {index} (`{shown}`)"))
    };
    let integers = |index: usize| -> Option<&Vec<i64>> {
        constants.integers.get(node.input.get(index)?.as_str())
    };
    let has_input = |index: usize| node.input.get(index).is_some_and(|name| !name.is_empty());
    let output = match node.op_type() {
        "Constant" => {
            let name = node.output.first().map(String::as_str).unwrap_or_default();
            constants.shapes.get(name).cloned().unwrap_or_default()
        }
        "Add" | "Sub" | "Mul" | "Div" | "PRelu" => broadcast(shape(0)?, shape(1)?)?,
        "Conv" => return convolve(node, shape(0)?, shape(1)?),
        "MaxPool" | "AveragePool" => return pool(node, shape(0)?),
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let input = shape(0)?;
            let (kept, spatial) = input
                .split_at_checked(2)
                .ok_or("its input has no channels")?;
            let output = kept.iter().copied().chain(spatial.iter().map(|_| 1));
            return Ok(Step::new(output.collect(), elements(input)));
        }
        "Gemm" => return gemm(node, shape(0)?, shape(1)?),
        "MatMul" => return multiply(shape(0)?, shape(1)?),
        "Flatten" => {
            let input = shape(0)?;
            let index = integer(node, "axis").unwrap_or(1);
            // Unlike other axes, this one may equal the rank.
            let axis = if index == input.len() as i64 {
                input.len()
            } else {
                axis(index, input.len())?
            };
            let (outer, inner) = input.split_at(axis);
            vec![product(outer), product(inner)]
        }
        "Reshape" => {
            let target = integers(1).ok_or("its shape is not a constant")?;
            let zero_copies = integer(node, "allowzero").unwrap_or(0) == 0;
            reshape(shape(0)?, target, zero_copies)?
        }
        "Transpose" => transpose(shape(0)?, attribute(node, "perm"))?,
        "Squeeze" | "Unsqueeze" | "ReduceMean" => {
            let given = attribute(node, "axes").map(|axes| &axes.ints);
            let axes = given.or_else(|| integers(1));
            if axes.is_none() && has_input(1) {
                return Err("its axes are not a constant".into());
            }
            let input = shape(0)?;
            let output = match node.op_type() {
                "Squeeze" => squeeze(input, axes)?,
                "Unsqueeze" => unsqueeze(input, axes.ok_or("it has no axes")?)?,
                _ => reduce(node, input, axes)?,
            };
            return Ok(Step::new(output, elements(input)));
        }
        // The other operators are elementwise or work along an axis, and keep the shape.
        _ => shape(0)?.clone(),
    };
    let operations = elements(&output);
    Ok(Step::new(output, operations))
}

impl Step {
    fn new(output: Shape, operations: u64) -> Self {
        Self {
            output,
            operations,
            scratch: 0,
        }
    }
}

fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|found| found.name() == name)
}

fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name)?.i
}

/// Resolves an axis below `rank`; a negative `index` counts from the end.
fn axis(index: i64, rank: usize) -> Result<usize, String> {
    let counted = if index < 0 {
        index + rank as i64
    } else {
        index
    };
    let valid = usize::try_from(counted).ok().filter(|axis| *axis < rank);
    valid.ok_or_else(|| format!("axis {index} is out of range for a tensor of rank {rank}"))
}

fn broadcast(a: &Shape, b: &Shape) -> Result<Shape, String> {
    let rank = a.len().max(b.len());
    let size = |shape: &Shape, position: usize| {
        let missing = rank - shape.len();
        position
            .checked_sub(missing)
            .map_or(1, |index| shape[index])
    };
    let pairs = (0..rank).map(|position| (size(a, position), size(b, position)));
    pairs
        .map(|pair| match pair {
            (a, b) if a == b => Ok(a),
            (1, size) | (size, 1) => Ok(size),
            _ => Err(format!(
                "dimensions {} and {} cannot be broadcast",
                pair.0, pair.1
            )),
        })
        .collect()
}

/// The sliding windows of a convolution or pooling.
struct Windows {
    kernel: Vec<u64>,
    /// Number of window positions per dimension.
    output: Shape,
}

impl Windows {
    fn new(node: &NodeProto, kernel: Vec<u64>, spatial: &[u64]) -> Result<Self, String> {
        let rank = spatial.len();
        if kernel.len() != rank {
            return Err(format!(
                "its kernel has {} dimensions, its input has {rank} spatial dimensions",
                kernel.len()
            ));
        }
        let list = |name: &str, length: usize, default: i64| {
            let given = attribute(node, name).map(|list| list.ints.clone());
            let list = given.unwrap_or_else(|| vec![default; length]);
            let fits = list.len() == length;
            fits.then_some(list)
                .ok_or_else(|| format!("`{name}` must have {length} values"))
        };
        let strides = list("strides", rank, 1)?;
        let dilations = list("dilations", rank, 1)?;
        let pads = list("pads", 2 * rank, 0)?;
        let auto_pad = attribute(node, "auto_pad").and_then(|value| value.s.as_deref());
        let same = matches!(auto_pad, Some(b"SAME_UPPER" | b"SAME_LOWER"));
        let round_up = i128::from(integer(node, "ceil_mode").unwrap_or(0) != 0);
        let size = |d: usize| {
            // 128 bits hold any sum and product of values within the limits.
            let [input, kernel] = [spatial[d], kernel[d]].map(i128::from);
            let [stride, dilation] = [strides[d], dilations[d]].map(i128::from);
            if stride < 1 || dilation < 1 || kernel < 1 {
                return Err("strides, dilations and kernels must be 1 or more".to_owned());
            }
            if same {
                return Ok(((input + stride - 1) / stride) as u64);
            }
            let pads = i128::from(pads[d]) + i128::from(pads[d + rank]);
            let span = input + pads - dilation * (kernel - 1) - 1;
            if span < 0 {
                return Err("its windows are larger than its input".to_owned());
            }
            Ok(((span + round_up * (stride - 1)) / stride + 1) as u64)
        };
        let output = (0..rank).map(size).collect::<Result<_, _>>()?;
        Ok(Self { kernel, output })
    }
}

fn convolve(node: &NodeProto, input: &Shape, weight: &Shape) -> Result<Step, String> {
    let ([batch, channels, spatial @ ..], [filters, depth, kernel @ ..]) =
        (input.as_slice(), weight.as_slice())
    else {
        return Err("its input or its weight has no channels".into());
    };
    let group = integer(node, "group").and_then(|group| u64::try_from(group).ok());
    if depth.saturating_mul(group.unwrap_or(1)) != *channels {
        return Err(format!("weight {weight:?} does not match input {input:?}"));
    }
    let windows = Windows::new(node, kernel.to_vec(), spatial)?;
    let a_position = depth.saturating_mul(product(&windows.kernel));
    let output: Shape = [*batch, *filters]
        .into_iter()
        .chain(windows.output.iter().copied())
        .collect();
    Ok(Step {
        operations: elements(&output).saturating_mul(a_position),
        // ONNX Runtime may copy one image's windows into a matrix (im2col).
        scratch: product(&windows.output).saturating_mul(a_position),
        output,
    })
}

fn pool(node: &NodeProto, input: &Shape) -> Result<Step, String> {
    let [batch, channels, spatial @ ..] = input.as_slice() else {
        return Err("its input has no channels".into());
    };
    let kernel = attribute(node, "kernel_shape").ok_or("it has no kernel_shape")?;
    let sizes = kernel
        .ints
        .iter()
        .map(|size| u64::try_from(*size).unwrap_or(0));
    let windows = Windows::new(node, sizes.collect(), spatial)?;
    let output: Shape = [*batch, *channels]
        .into_iter()
        .chain(windows.output)
        .collect();
    let operations = elements(&output).saturating_mul(product(&windows.kernel));
    Ok(Step::new(output, operations))
}

fn gemm(node: &NodeProto, a: &Shape, b: &Shape) -> Result<Step, String> {
    let (&[rows, inner], &[depth, columns]) = (a.as_slice(), b.as_slice()) else {
        return Err(format!("cannot multiply {a:?} by {b:?}"));
    };
    let transposed = |name: &str| integer(node, name).unwrap_or(0) != 0;
    let (rows, inner) = if transposed("transA") {
        (inner, rows)
    } else {
        (rows, inner)
    };
    let (depth, columns) = if transposed("transB") {
        (columns, depth)
    } else {
        (depth, columns)
    };
    multiply(&vec![rows, inner], &vec![depth, columns])
}

fn multiply(a: &Shape, b: &Shape) -> Result<Step, String> {
    let ([a_outer @ .., rows, inner], [b_outer @ .., depth, columns]) =
        (a.as_slice(), b.as_slice())
    else {
        return Err("its factors must have 2 or more dimensions".into());
    };
    if inner != depth {
        return Err(format!("cannot multiply {a:?} by {b:?}"));
    }
    let mut output = broadcast(&a_outer.to_vec(), &b_outer.to_vec())?;
    output.extend([*rows, *columns]);
    let operations = elements(&output).saturating_mul(*inner);
    Ok(Step::new(output, operations))
}

fn reshape(input: &Shape, target: &[i64], zero_copies: bool) -> Result<Shape, String> {
    if target.len() > MAX_RANK {
        return Err(format!("its shape has a rank above {MAX_RANK}"));
    }
    let wrong = || format!("cannot reshape {input:?} to {target:?}");
    let mut output = Shape::new();
    let mut open = None;
    for (index, size) in target.iter().enumerate() {
        output.push(match size {
            -1 if open.replace(index).is_none() => 1,
            0 if zero_copies => *input.get(index).ok_or_else(wrong)?,
            size => u64::try_from(*size).map_err(|_| wrong())?,
        });
    }
    if let Some(index) = open {
        output[index] = elements(input)
            .checked_div(product(&output))
            .ok_or_else(wrong)?;
    }
    let fits = product(&output) == elements(input);
    fits.then_some(output).ok_or_else(wrong)
}

fn transpose(input: &Shape, order: Option<&AttributeProto>) -> Result<Shape, String> {
    let Some(order) = order else {
        return Ok(input.iter().rev().copied().collect());
    };
    if order.ints.len() != input.len() {
        return Err(format!(
            "`perm` has {} axes, its input {input:?} has {}",
            order.ints.len(),
            input.len()
        ));
    }
    let mut seen = order.ints.clone();
    seen.sort_unstable();
    let all = (0..input.len() as i64).eq(seen);
    let output = order
        .ints
        .iter()
        .map(|from| axis(*from, input.len()).map(|from| input[from]));
    if all {
        output.collect()
    } else {
        Err(format!(
            "`perm` {:?} is not a permutation of the axes of {input:?}",
            order.ints
        ))
    }
}

/// Resolves several axes, each like [`axis`].
fn axes(indices: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    if rank > MAX_RANK || indices.len() > MAX_RANK {
        return Err(format!(
            "its rank or its number of axes is above {MAX_RANK}"
        ));
    }
    indices.iter().map(|index| axis(*index, rank)).collect()
}

fn squeeze(input: &Shape, given: Option<&Vec<i64>>) -> Result<Shape, String> {
    let removed = match given {
        Some(given) => axes(given, input.len())?,
        None => (0..input.len())
            .filter(|index| input[*index] == 1)
            .collect(),
    };
    if removed.iter().any(|index| input[*index] != 1) {
        return Err(format!("axes {removed:?} of {input:?} do not have size 1"));
    }
    Ok(without(input, &removed))
}

fn without(input: &Shape, removed: &[usize]) -> Shape {
    let kept = (0..input.len()).filter(|index| !removed.contains(index));
    kept.map(|index| input[index]).collect()
}

fn unsqueeze(input: &Shape, given: &[i64]) -> Result<Shape, String> {
    let rank = input.len() + given.len();
    let added = axes(given, rank)?;
    let repeat = || format!("axes {given:?} contain duplicates");
    let mut sizes_left = input.iter();
    let sizes = (0..rank).map(|index| {
        if added.contains(&index) {
            Ok(1)
        } else {
            sizes_left.next().copied().ok_or_else(repeat)
        }
    });
    let output = sizes.collect::<Result<Shape, _>>()?;
    match sizes_left.next() {
        None => Ok(output),
        Some(_) => Err(repeat()),
    }
}

fn reduce(node: &NodeProto, input: &Shape, given: Option<&Vec<i64>>) -> Result<Shape, String> {
    let reduced = match given {
        Some(given) => axes(given, input.len())?,
        None => (0..input.len()).collect(),
    };
    if integer(node, "keepdims").unwrap_or(1) == 0 {
        return Ok(without(input, &reduced));
    }
    let mut output = input.clone();
    for index in reduced {
        output[index] = 1;
    }
    Ok(output)
}
