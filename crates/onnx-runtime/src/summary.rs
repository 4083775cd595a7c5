//! What an ONNX file says about itself, read without decoding its weights.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    operators,
    wire::{self, MAX_NESTING, Malformed, Message, Value, inner_message},
};

/// What an ONNX file says about itself, whatever framework wrote it.
///
/// Field numbers: `onnx/onnx.proto`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelSummary {
    /// Name and version of the program that wrote the file, for example `pytorch 2.9.0`.
    pub producer: String,
    /// Version of the operator set of each domain; the empty name is the standard domain.
    pub opsets: BTreeMap<String, u64>,
    /// How often each operator is used, subgraphs and functions included. Operators of other domains
    /// than the standard one have the domain in front: `ai.onnx.ml.TreeEnsembleClassifier`.
    pub operators: BTreeMap<String, usize>,
    /// Values of all initializers. Weights that a node has as attributes, as tree ensembles do, do not
    /// count.
    pub parameters: u64,
    /// Locations of external data, as in the file.
    pub data_files: BTreeSet<String>,
}

impl ModelSummary {
    /// Reads the encoded model `onnx`.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not an encoded model.
    pub fn read(onnx: &[u8]) -> Result<Self, Malformed> {
        let mut summary = Self::default();
        summary.visit(Message::Model, onnx, 0)?;
        Ok(summary)
    }

    /// The operators that a model published to the inference service may not have.
    pub fn unpublishable_operators(&self) -> impl Iterator<Item = &str> {
        let operators = self.operators.keys().map(String::as_str);
        operators.filter(|name| {
            let (domain, operator) = name.rsplit_once('.').unwrap_or(("", *name));
            !operators::is_allowed(domain, operator)
        })
    }

    fn visit(
        &mut self,
        message: Message,
        mut bytes: &[u8],
        nesting: usize,
    ) -> Result<(), Malformed> {
        if nesting > MAX_NESTING {
            return Err(Malformed);
        }
        if message == Message::Node {
            self.count_operator(bytes)?;
        }
        while !bytes.is_empty() {
            let (field, Value::Bytes(content)) = wire::next_field(&mut bytes)? else {
                continue;
            };
            match (message, field) {
                (Message::Model, 2 | 3) => self.add_producer(&text(content)),
                (Message::Model, 8) => self.add_opset(content)?,
                (Message::Graph, 5) => self.count_parameters(content)?,
                (Message::Tensor, 13) => self.add_data_file(content)?,
                _ => {}
            }
            if let Some(inner) = inner_message(message, field)
                && inner != Message::Flat
            {
                self.visit(inner, content, nesting + 1)?;
            }
        }
        Ok(())
    }

    fn add_producer(&mut self, part: &str) {
        if !self.producer.is_empty() && !part.is_empty() {
            self.producer.push(' ');
        }
        self.producer.push_str(part);
    }

    fn add_opset(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        let (mut domain, mut version) = (String::new(), 0);
        while !bytes.is_empty() {
            match wire::next_field(&mut bytes)? {
                (1, Value::Bytes(name)) => domain = text(name),
                (2, Value::Varint(number)) => version = number,
                _ => {}
            }
        }
        self.opsets.insert(standard_as_empty(domain), version);
        Ok(())
    }

    fn count_operator(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        let (mut operator, mut domain) = (String::new(), String::new());
        while !bytes.is_empty() {
            match wire::next_field(&mut bytes)? {
                (4, Value::Bytes(name)) => operator = text(name),
                (7, Value::Bytes(name)) => domain = text(name),
                _ => {}
            }
        }
        let domain = standard_as_empty(domain);
        let name = if domain.is_empty() {
            operator
        } else {
            format!("{domain}.{operator}")
        };
        *self.operators.entry(name).or_default() += 1;
        Ok(())
    }

    fn count_parameters(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        let mut values = 1_u64;
        while !bytes.is_empty() {
            match wire::next_field(&mut bytes)? {
                (1, Value::Varint(size)) => values = values.saturating_mul(size),
                (1, Value::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        values = values.saturating_mul(wire::varint(&mut packed)?);
                    }
                }
                _ => {}
            }
        }
        self.parameters = self.parameters.saturating_add(values);
        Ok(())
    }

    fn add_data_file(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        let (mut key, mut value) = (String::new(), String::new());
        while !bytes.is_empty() {
            match wire::next_field(&mut bytes)? {
                (1, Value::Bytes(name)) => key = text(name),
                (2, Value::Bytes(content)) => value = text(content),
                _ => {}
            }
        }
        if key == "location" {
            self.data_files.insert(value);
        }
        Ok(())
    }
}

/// Both names of the standard domain are in use.
fn standard_as_empty(domain: String) -> String {
    if domain == "ai.onnx" {
        String::new()
    } else {
        domain
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use networks::onnx::schema::{
        AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        StringStringEntryProto, TensorProto,
    };
    use proptest::prelude::*;
    use prost::Message as _;
    use test_support::damage::cases;

    use super::*;

    fn node(operator: &str, domain: &str) -> NodeProto {
        NodeProto {
            op_type: Some(operator.into()),
            domain: Some(domain.into()),
            ..NodeProto::default()
        }
    }

    fn tensor(dims: &[i64], location: Option<&str>) -> TensorProto {
        let entry = |location: &str| StringStringEntryProto {
            key: Some("location".into()),
            value: Some(location.into()),
        };
        TensorProto {
            dims: dims.to_vec(),
            external_data: location.map(entry).into_iter().collect(),
            ..TensorProto::default()
        }
    }

    fn model() -> ModelProto {
        let subgraph = GraphProto {
            node: vec![node("Relu", "ai.onnx")],
            initializer: vec![tensor(&[5], Some("b.bin"))],
            ..GraphProto::default()
        };
        let mut branch = node("If", "");
        branch.attribute = vec![AttributeProto {
            g: Some(subgraph),
            ..AttributeProto::default()
        }];
        let graph = GraphProto {
            node: vec![branch, node("Relu", ""), node("Scaler", "ai.onnx.ml")],
            initializer: vec![tensor(&[2, 3], Some("a.bin")), tensor(&[], None)],
            ..GraphProto::default()
        };
        let opset = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.into()),
            version: Some(version),
        };
        ModelProto {
            producer_name: Some("pytorch".into()),
            producer_version: Some("2.9.0".into()),
            opset_import: vec![opset("", 20), opset("ai.onnx.ml", 3)],
            graph: Some(graph),
            ..ModelProto::default()
        }
    }

    #[test]
    fn all_parts_of_a_model_are_read() {
        let summary = ModelSummary::read(&model().encode_to_vec()).unwrap();
        assert_eq!(summary.producer, "pytorch 2.9.0");
        let opsets = [(String::new(), 20), ("ai.onnx.ml".into(), 3)];
        assert_eq!(summary.opsets, BTreeMap::from(opsets));
        let operators = [("If", 1), ("Relu", 2), ("ai.onnx.ml.Scaler", 1)];
        let operators = operators.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(summary.operators, BTreeMap::from(operators));
        let unpublishable = summary.unpublishable_operators();
        assert!(unpublishable.eq(["If", "ai.onnx.ml.Scaler"]));
        // A tensor without dimensions is one value.
        assert_eq!(summary.parameters, 6 + 1 + 5);
        assert!(summary.data_files.iter().eq(["a.bin", "b.bin"]));
    }

    #[test]
    fn deep_nests_and_other_files_are_malformed() {
        let deep = test_support::damage::nested_messages(&[7, 1, 5], &[6, 1, 5], 100_000);
        assert_eq!(ModelSummary::read(&deep), Err(Malformed));
        assert_eq!(ModelSummary::read(b"PK\x03\x04 a zip"), Err(Malformed));
    }

    proptest! {
        #![proptest_config(cases(2000))]

        #[test]
        fn damaged_models_do_no_harm(position in any::<prop::sample::Index>(), byte: u8) {
            let mut bytes = model().encode_to_vec();
            let position = position.index(bytes.len());
            bytes[position] = byte;
            let _ = ModelSummary::read(&bytes);
            let _ = ModelSummary::read(&bytes[..position]);
        }
    }
}
