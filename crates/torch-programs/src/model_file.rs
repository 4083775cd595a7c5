//! `models/NAME.json` of an archive: the graph of an exported program, and what its weights must be.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use common::text::shorten;
use serde::{Deserialize, de::DeserializeOwned};
use tch::Device;

use crate::{
    Dimension, ProgramError, TensorSpec,
    archive::{Archive, damaged},
    schema::{
        Expression, GraphModule, MAJOR_VERSION, NAME_LIMIT, Node, Payload, Payloads, Range,
        SchemaVersion, Size, TensorArgument, TensorMeta, UserSpec, kind, symbol,
    },
};

/// Limit for a description in JSON, in bytes.
const JSON_LIMIT: u64 = 256 << 20;

/// A program's graph.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelFile {
    graph_module: GraphModule,
    range_constraints: BTreeMap<String, Range>,
    schema_version: SchemaVersion,
    #[serde(default)]
    torch_version: String,
}

impl ModelFile {
    /// Reads the graph of `model`, and checks that the archive's weights have the sizes that libtorch expects.
    pub(crate) fn read(
        path: &Path,
        archive: &mut Archive,
        model: &str,
    ) -> Result<Self, ProgramError> {
        let file: Self = json(path, archive, &format!("models/{model}.json"))?;
        let SchemaVersion { major, minor } = file.schema_version;
        if major != MAJOR_VERSION {
            return Err(ProgramError::Unsupported {
                path: path.to_owned(),
                reason: format!(
                    "has schema version {major}.{minor} (written by {}), but libtorch 2.11 reads version {MAJOR_VERSION}; \
                     save it again with PyTorch 2.11",
                    file.written_by()
                ),
            });
        }
        file.check_interface()
            .map_err(|reason| damaged(path, reason))?;
        for folder in ["weights", "constants"] {
            let record = format!("data/{folder}/{model}_{folder}_config.json");
            let payloads: Payloads = json(path, archive, &record)?;
            for (name, payload) in payloads.config {
                payload.check(archive, folder).map_err(|reason| {
                    damaged(
                        path,
                        format!("the tensor {} {reason}", shorten(&name, NAME_LIMIT)),
                    )
                })?;
            }
        }
        Ok(file)
    }

    /// Checks that the signature describes the graph's inputs and outputs: libtorch assumes so without a check.
    fn check_interface(&self) -> Result<(), String> {
        let GraphModule { graph, signature } = &self.graph_module;
        let counts = (signature.input_specs.len(), signature.output_specs.len());
        let same_inputs = signature
            .input_specs
            .iter()
            .zip(&graph.inputs)
            .all(|(spec, input)| {
                spec.tensor().is_none_or(|name| {
                    input
                        .as_tensor
                        .as_ref()
                        .is_some_and(|tensor| tensor.name == name)
                })
            });
        if counts != (graph.inputs.len(), graph.outputs.len()) || !same_inputs {
            return Err(
                "its signature does not match the inputs and outputs of its graph".to_owned(),
            );
        }
        for TensorArgument { name } in graph
            .inputs
            .iter()
            .chain(&graph.outputs)
            .filter_map(|value| value.as_tensor.as_ref())
        {
            self.tensor(name)?;
        }
        Ok(())
    }

    /// The program that wrote the file, for messages.
    pub(crate) fn written_by(&self) -> String {
        format!("PyTorch {}", shorten(&self.torch_version, NAME_LIMIT))
    }

    /// Rejects programs that compute as in training: their results depend on the rest of the batch, or on chance.
    pub(crate) fn check_mode(&self) -> Result<(), String> {
        const ADVICE: &str = "call model.eval() before torch.export.export";
        let signature = &self.graph_module.signature;
        let mut mutations = signature
            .output_specs
            .iter()
            .filter_map(|spec| spec.buffer_mutation.as_ref());
        if let Some(mutation) = mutations.next() {
            let buffer = shorten(&mutation.buffer_name, NAME_LIMIT);
            return Err(format!(
                "changes its buffer {buffer} in every call; {ADVICE}"
            ));
        }
        let trains = |node: &&Node| {
            node.inputs.iter().any(|input| {
                ["train", "training"].contains(&input.name.as_str())
                    && input.arg.as_bool == Some(true)
            })
        };
        match self.graph_module.graph.nodes.iter().find(trains) {
            None => Ok(()),
            Some(node) => {
                let target = shorten(&node.target, NAME_LIMIT);
                Err(format!(
                    "was exported in training mode ({target}); {ADVICE}"
                ))
            }
        }
    }

    /// Checks that all tensors of the graph are on `device`: the graph names the device in its operators.
    pub(crate) fn check_device(&self, device: Device) -> Result<(), String> {
        let wanted = match device {
            Device::Cuda(index) => format!("cuda:{index}"),
            _ => "cpu".to_owned(),
        };
        let found: BTreeSet<_> = self
            .graph_module
            .graph
            .tensor_values
            .values()
            .map(|tensor| tensor.device.name())
            .collect();
        match found.into_iter().find(|found| *found != wanted) {
            None => Ok(()),
            Some(found) => Err(format!(
                "was exported for the device {found}, but is to run on {wanted}; choose that device, or move the program: \
                 torch.export.passes.move_to_device_pass(program, \"{wanted}\")"
            )),
        }
    }

    /// The inputs of the program's call.
    pub(crate) fn inputs(&self) -> Result<Vec<TensorSpec>, String> {
        let specs = &self.graph_module.signature.input_specs;
        if let Some(constant) = specs.iter().find_map(|spec| spec.constant_input.as_ref()) {
            let name = shorten(&constant.name, NAME_LIMIT);
            return Err(format!(
                "has the input {name}, which is not a tensor; export a model whose inputs are tensors"
            ));
        }
        self.user_tensors(
            specs.iter().filter_map(|spec| spec.user_input.as_ref()),
            "input",
        )
    }

    /// The outputs of the program's call.
    pub(crate) fn outputs(&self) -> Result<Vec<TensorSpec>, String> {
        let specs = &self.graph_module.signature.output_specs;
        self.user_tensors(
            specs.iter().filter_map(|spec| spec.user_output.as_ref()),
            "output",
        )
    }

    /// Number of values in parameters.
    pub(crate) fn parameters(&self) -> u64 {
        let specs = &self.graph_module.signature.input_specs;
        let counts = specs.iter().filter_map(|spec| {
            let tensor = self.tensor(&spec.parameter.as_ref()?.arg.name).ok()?;
            let sizes = tensor.sizes.iter().map(|size| size.as_int.unwrap_or(0));
            Some(sizes.fold(1_u64, u64::saturating_mul))
        });
        counts.fold(0, u64::saturating_add)
    }

    fn user_tensors<'a>(
        &self,
        specs: impl Iterator<Item = &'a UserSpec>,
        what: &str,
    ) -> Result<Vec<TensorSpec>, String> {
        let specs = specs.enumerate().map(|(index, spec)| {
            let Some(TensorArgument { name }) = &spec.arg.as_tensor else {
                return Err(format!(
                    "{what} {index} is not a tensor; export a model whose {what}s are tensors"
                ));
            };
            let tensor = self.tensor(name)?;
            let kind = kind(tensor.dtype).ok_or_else(|| {
                format!(
                    "{what} {} has the unknown data type {}",
                    shorten(name, NAME_LIMIT),
                    tensor.dtype
                )
            })?;
            let dimensions = tensor
                .sizes
                .iter()
                .map(|size| self.dimension(size))
                .collect::<Result<_, _>>()?;
            Ok(TensorSpec {
                name: name.clone(),
                kind,
                dimensions,
            })
        });
        specs.collect()
    }

    fn tensor(&self, name: &str) -> Result<&TensorMeta, String> {
        let tensors = &self.graph_module.graph.tensor_values;
        tensors.get(name).ok_or_else(|| {
            format!(
                "its graph does not describe the tensor {}",
                shorten(name, NAME_LIMIT)
            )
        })
    }

    fn dimension(&self, size: &Size) -> Result<Dimension, String> {
        match size {
            Size {
                as_int: Some(size), ..
            } => Ok(Dimension::Fixed(*size)),
            Size {
                as_expr: Some(Expression { expr_str }),
                ..
            } => {
                let symbol = symbol(expr_str);
                let range = self.range_constraints.get(symbol);
                // As torch.export does, because it assumes 2 or more for every dimension that may vary: a minimum of 2
                // does not exclude 0 and 1 (_check_input_constraints_for_graph in torch/_export/utils.py).
                let minimum = range
                    .and_then(|range| range.min_val)
                    .filter(|&minimum| minimum > 2);
                let maximum = range.and_then(|range| range.max_val);
                Ok(Dimension::Open {
                    symbol: shorten(symbol, NAME_LIMIT),
                    minimum: minimum
                        .and_then(|minimum| u64::try_from(minimum).ok())
                        .unwrap_or(1),
                    maximum: maximum.and_then(|maximum| u64::try_from(maximum).ok()),
                })
            }
            _ => Err("its graph has a dimension without a size".to_owned()),
        }
    }
}

impl Payload {
    /// Checks that the record is long enough for the tensor: libtorch reads the tensor without a check.
    fn check(&self, archive: &Archive, folder: &str) -> Result<(), String> {
        let record = format!("data/{folder}/{}", self.path_name);
        let Some(size) = archive.size(&record) else {
            return Err(format!("has no record {}", shorten(&record, NAME_LIMIT)));
        };
        // libtorch checks pickled values itself.
        let Some(tensor) = self.tensor_meta.as_ref().filter(|_| !self.use_pickle) else {
            return Ok(());
        };
        match tensor.bytes() {
            Some(needed) if needed <= size => Ok(()),
            Some(needed) => Err(format!("needs {needed} bytes, but its record has {size}")),
            None => Err("has a shape without fixed sizes, or with too large ones".to_owned()),
        }
    }
}

fn json<T: DeserializeOwned>(
    path: &Path,
    archive: &mut Archive,
    record: &str,
) -> Result<T, ProgramError> {
    let bytes = archive.read(record, JSON_LIMIT)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        damaged(
            path,
            format!(
                "{}: {}",
                shorten(record, NAME_LIMIT),
                shorten(&error.to_string(), 200)
            ),
        )
    })
}
