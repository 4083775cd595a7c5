//! The parts of a program's description in JSON that are checked.
//!
//! `torch/_export/serde/schema.py` of PyTorch 2.11 defines the format (schema version 8). PyTorch writes a union as an
//! object in which one field is set.

use std::collections::BTreeMap;

use common::text::shorten;
use serde::Deserialize;
use tch::Kind;

/// The major version of the schema that libtorch 2.11 reads.
pub const MAJOR_VERSION: u64 = 8;
/// Limit for names in messages, in characters.
pub const NAME_LIMIT: usize = 100;

#[derive(Debug, Deserialize)]
pub struct GraphModule {
    pub graph: Graph,
    pub signature: Signature,
}

#[derive(Debug, Deserialize)]
pub struct Graph {
    pub inputs: Vec<Argument>,
    pub outputs: Vec<Argument>,
    pub nodes: Vec<Node>,
    pub tensor_values: BTreeMap<String, TensorMeta>,
}

#[derive(Debug, Deserialize)]
pub struct Node {
    pub target: String,
    pub inputs: Vec<NamedArgument>,
}

#[derive(Debug, Deserialize)]
pub struct NamedArgument {
    pub name: String,
    pub arg: Argument,
}

#[derive(Debug, Deserialize)]
pub struct Signature {
    pub input_specs: Vec<InputSpec>,
    pub output_specs: Vec<OutputSpec>,
}

/// One of its fields is set; the others belong to kinds that need no check.
#[derive(Debug, Deserialize)]
pub struct InputSpec {
    pub user_input: Option<UserSpec>,
    pub parameter: Option<TensorInput>,
    pub buffer: Option<TensorInput>,
    pub tensor_constant: Option<TensorInput>,
    pub constant_input: Option<ConstantSpec>,
}

/// One of its fields is set.
#[derive(Debug, Deserialize)]
pub struct OutputSpec {
    pub user_output: Option<UserSpec>,
    pub buffer_mutation: Option<MutationSpec>,
}

#[derive(Debug, Deserialize)]
pub struct UserSpec {
    pub arg: Argument,
}

#[derive(Debug, Deserialize)]
pub struct TensorInput {
    pub arg: TensorArgument,
}

#[derive(Debug, Deserialize)]
pub struct ConstantSpec {
    pub name: String,
}

#[derive(Debug, Deserialize)]
pub struct MutationSpec {
    pub buffer_name: String,
}

/// One of its fields is set; the others belong to types that need no check.
#[derive(Debug, Deserialize)]
pub struct Argument {
    pub as_tensor: Option<TensorArgument>,
    pub as_bool: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub struct TensorArgument {
    pub name: String,
}

#[derive(Debug, Deserialize)]
pub struct TensorMeta {
    pub dtype: u64,
    pub sizes: Vec<Size>,
    pub strides: Vec<Size>,
    pub storage_offset: Size,
    pub device: DeviceMeta,
}

/// One of its fields is set.
#[derive(Debug, Deserialize)]
pub struct Size {
    pub as_int: Option<u64>,
    pub as_expr: Option<Expression>,
}

#[derive(Debug, Deserialize)]
pub struct Expression {
    pub expr_str: String,
}

#[derive(Debug, Deserialize)]
pub struct DeviceMeta {
    pub r#type: String,
    pub index: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub struct Range {
    pub min_val: Option<i64>,
    pub max_val: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub struct SchemaVersion {
    pub major: u64,
    pub minor: u64,
}

/// `data/weights/NAME_weights_config.json` and the same for constants.
#[derive(Debug, Deserialize)]
pub struct Payloads {
    pub config: BTreeMap<String, Payload>,
}

#[derive(Debug, Deserialize)]
pub struct Payload {
    pub path_name: String,
    pub use_pickle: bool,
    pub tensor_meta: Option<TensorMeta>,
}

impl InputSpec {
    /// The name of the tensor, if the input is one.
    pub fn tensor(&self) -> Option<&str> {
        let stored = [&self.parameter, &self.buffer, &self.tensor_constant]
            .into_iter()
            .flatten()
            .map(|input| &input.arg);
        let given = self
            .user_input
            .iter()
            .filter_map(|input| input.arg.as_tensor.as_ref());
        stored
            .chain(given)
            .map(|tensor| tensor.name.as_str())
            .next()
    }
}

impl TensorMeta {
    /// The bytes from the start of the storage to the last element; `None` if they overflow or are not fixed.
    pub fn bytes(&self) -> Option<u64> {
        if self.sizes.len() != self.strides.len() {
            return None;
        }
        let mut last = self.storage_offset.as_int?;
        for (size, stride) in self.sizes.iter().zip(&self.strides) {
            let Some(steps) = size.as_int?.checked_sub(1) else {
                return Some(0);
            };
            last = last.checked_add(steps.checked_mul(stride.as_int?)?)?;
        }
        // A type without a kind has at least one byte.
        let element = kind(self.dtype).map_or(1, |kind| kind.elt_size_in_bytes() as u64);
        last.checked_add(1)?.checked_mul(element)
    }
}

impl DeviceMeta {
    /// As PyTorch writes it: `cpu`, `cuda:0`.
    pub fn name(&self) -> String {
        let kind = shorten(&self.r#type, NAME_LIMIT);
        match self.index {
            _ if kind == "cpu" => kind,
            index => format!("{kind}:{}", index.unwrap_or(0)),
        }
    }
}

/// The name in `Symbol('s31', positive=True, integer=True)`; other expressions as they are.
pub fn symbol(expression: &str) -> &str {
    expression
        .strip_prefix("Symbol('")
        .and_then(|rest| rest.split_once('\''))
        .filter(|(_, rest)| rest.find(')') == Some(rest.len().wrapping_sub(1)))
        .map_or(expression, |(name, _)| name)
}

/// The kind of a `ScalarType` of the schema.
pub fn kind(dtype: u64) -> Option<Kind> {
    Some(match dtype {
        1 => Kind::Uint8,
        2 => Kind::Int8,
        3 => Kind::Int16,
        4 => Kind::Int,
        5 => Kind::Int64,
        6 => Kind::Half,
        7 => Kind::Float,
        8 => Kind::Double,
        9 => Kind::ComplexHalf,
        10 => Kind::ComplexFloat,
        11 => Kind::ComplexDouble,
        12 => Kind::Bool,
        13 => Kind::BFloat16,
        29 => Kind::Float8e4m3fn,
        30 => Kind::Float8e5m2,
        31 => Kind::Float8e4m3fnuz,
        32 => Kind::Float8e5m2fnuz,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_symbol_is_reduced_to_its_name() {
        for (expression, expected) in [
            ("Symbol('s31', positive=True, integer=True)", "s31"),
            ("Symbol('s0')", "s0"),
            ("s0", "s0"),
            (
                "Mul(Integer(2), Symbol('s0', integer=True))",
                "Mul(Integer(2), Symbol('s0', integer=True))",
            ),
            (
                "Symbol('a', integer=True) + Symbol('b')",
                "Symbol('a', integer=True) + Symbol('b')",
            ),
            ("Symbol('", "Symbol('"),
        ] {
            assert_eq!(symbol(expression), expected);
        }
    }

    #[test]
    fn a_tensor_ends_with_its_last_element() {
        let bytes = |meta: &str| {
            serde_json::from_str::<TensorMeta>(meta)
                .expect("a description")
                .bytes()
        };
        let meta = |dtype: u64, sizes: &str, strides: &str, offset: u64| {
            format!(
                r#"{{"dtype": {dtype}, "sizes": {sizes}, "strides": {strides}, "storage_offset": {{"as_int": {offset}}},
                    "device": {{"type": "cpu", "index": null}}}}"#
            )
        };
        let two_by_three = r#"[{"as_int": 2}, {"as_int": 3}]"#;
        for (description, expected) in [
            (
                meta(7, two_by_three, r#"[{"as_int": 3}, {"as_int": 1}]"#, 0),
                Some(24),
            ),
            (
                meta(7, two_by_three, r#"[{"as_int": 1}, {"as_int": 2}]"#, 5),
                Some(44),
            ),
            // Broadcast.
            (
                meta(5, two_by_three, r#"[{"as_int": 0}, {"as_int": 0}]"#, 0),
                Some(8),
            ),
            (meta(8, "[]", "[]", 0), Some(8)),
            (
                meta(7, r#"[{"as_int": 0}]"#, r#"[{"as_int": 1}]"#, 9),
                Some(0),
            ),
            (meta(7, two_by_three, "[]", 0), None),
            (
                meta(
                    7,
                    r#"[{"as_int": 18446744073709551615}]"#,
                    r#"[{"as_int": 2}]"#,
                    0,
                ),
                None,
            ),
            (
                meta(
                    7,
                    r#"[{"as_expr": {"expr_str": "s0"}}]"#,
                    r#"[{"as_int": 1}]"#,
                    0,
                ),
                None,
            ),
        ] {
            assert_eq!(bytes(&description), expected, "{description}");
        }
    }
}
