//! Published weights of well-known networks.
//!
//! [`read`] takes a safetensors file under the names of torchvision, timm, Hugging Face's transformers
//! or `efficientnet-pytorch`, and renames its tensors for a network with one of the presets `resnet18`,
//! `resnet34`, `resnet50`, `mobilenet_v2`, `efficientnet_lite`, `efficientnet_lite0` and `vgg16_bn`. It also
//! takes the `weights.safetensors` of an artifact, for any network.

mod error;
mod file;
mod names;
mod naming;

use std::collections::BTreeMap;

use crate::{NetworkSpec, TensorSpec, WeightTensor, Weights, initialization, tensors};
pub use error::{Misfit, MisshapedTensor, PublicWeightsError};
use file::PublicFile;
use names::NamedModules;
pub use naming::Naming;

/// Weights that were read from a published file.
#[derive(Clone, Debug, PartialEq)]
pub struct PublicWeights {
    /// The weights under Retort's names.
    pub weights: Weights,
    /// The names in the file.
    pub naming: Naming,
    /// Tensors of the network that the file does not have in the right shape, and that were initialized
    /// randomly instead: under Retort's names, in network order.
    pub initialized: Vec<String>,
}

/// What to do if the first or the last layer does not have the shape of the published one, because the
/// images have another number of channels or because there are other classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherEnds {
    /// Refuse the file.
    Refuse,
    /// Initialize this layer randomly. The same holds if the file has no last layer.
    Initialize {
        /// The seed of [`Weights::initial`].
        seed: u64,
    },
}

/// What a published file says about its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedEnds {
    /// Channels of the images, or features of a sample.
    pub channels: usize,
    /// Classes of the last layer.
    pub classes: usize,
}

/// Reads the weights of a published network, or of an artifact; f16, bf16 and f64 values are converted to f32.
///
/// The file does not say how its network pads images and which epsilon its batch-norms have. Presets
/// with a `convention` need the one that the file was trained with: `tensorflow` for files from
/// `efficientnet-pytorch` and transformers and for timm's `tf_` models, otherwise `torch`.
///
/// # Errors
/// [`PublicWeightsError`] names all missing, unexpected and misshaped tensors. Pickles (`.pth`, `.bin`)
/// are refused with the command that converts them.
pub fn read(
    bytes: &[u8],
    spec: &NetworkSpec,
    other_ends: OtherEnds,
) -> Result<PublicWeights, PublicWeightsError> {
    let NamedFile {
        file,
        wanted,
        naming,
        names,
    } = NamedFile::open(bytes, spec)?;
    let ends = Ends::of(&wanted);
    let mut misfit = Misfit::new(naming);
    misfit.unexpected = file.names_except(&names);
    let mut given = BTreeMap::new();
    let mut initialized = Vec::new();
    for (tensor, name) in wanted.iter().zip(&names) {
        let found = file.tensor(name)?;
        let fits = found.as_ref().is_some_and(|found| has_shape(found, tensor));
        let data = match (found, other_ends) {
            (Some(found), _) if fits => found.data,
            (found, OtherEnds::Initialize { seed }) if ends.may_differ(tensor, found.as_ref()) => {
                initialized.push(tensor.name.clone());
                initialization::values(tensor, seed)
            }
            (Some(found), _) => {
                misfit.misshaped.push(MisshapedTensor {
                    name: name.clone(),
                    found: found.shape,
                    expected: tensor.shape.clone(),
                });
                continue;
            }
            (None, _) => {
                misfit.missing.push(name.clone());
                continue;
            }
        };
        let shape = tensor.shape.clone();
        given.insert(tensor.name.clone(), WeightTensor { shape, data });
    }
    misfit.none()?;
    let weights = Weights::from_tensors(given, spec)?;
    Ok(PublicWeights {
        weights,
        naming,
        initialized,
    })
}

/// The channels and classes of a published file for a network like `spec`, whose own input and classes do
/// not matter.
///
/// # Errors
/// As [`read`]; also if the file has no first or no last layer.
pub fn ends(bytes: &[u8], spec: &NetworkSpec) -> Result<PublishedEnds, PublicWeightsError> {
    let file = NamedFile::open(bytes, spec)?;
    let mut misfit = Misfit::new(file.naming);
    let mut size = |name: Option<&String>, dimension: usize| {
        let name = name.map_or("", String::as_str);
        let found = file.file.tensor(name)?;
        let size = found.and_then(|tensor| tensor.shape.get(dimension).copied());
        if size.is_none() {
            misfit.missing.push(name.to_owned());
        }
        Ok::<_, PublicWeightsError>(size.unwrap_or_default())
    };
    let ends = PublishedEnds {
        // A convolution's weight is [outputs, inputs, height, width], a linear layer's [outputs, inputs].
        channels: size(file.names.first(), 1)?,
        // The bias of the last layer.
        classes: size(file.names.last(), 0)?,
    };
    misfit.none()?;
    Ok(ends)
}

/// A file and the names that it gives to a network's tensors.
struct NamedFile<'b> {
    file: PublicFile<'b>,
    /// The network's tensors, in network order.
    wanted: Vec<TensorSpec>,
    naming: Naming,
    /// The names in the file of `wanted`.
    names: Vec<String>,
}

impl<'b> NamedFile<'b> {
    fn open(bytes: &'b [u8], spec: &NetworkSpec) -> Result<Self, PublicWeightsError> {
        let wanted = tensors(&spec.layers()?);
        let file = PublicFile::parse(bytes)?;
        let mut candidates = names::of(spec)?;
        let is_published = !candidates.is_empty();
        candidates.push(NamedModules::own(&wanted));
        let found = |names: &[String]| names.iter().filter(|name| file.has(name)).count();
        // `max_by_key` takes the last of equals: the first names here.
        let (modules, names) = candidates
            .into_iter()
            .rev()
            .map(|modules| {
                let names = public_names(&wanted, &modules.modules);
                (modules, names)
            })
            .max_by_key(|(_, names)| found(names))
            .ok_or(PublicWeightsError::UnknownNetwork)?;
        if !is_published && found(&names) == 0 {
            return Err(PublicWeightsError::UnknownNetwork);
        }
        modules.check_convention(spec)?;
        Ok(NamedFile {
            file,
            wanted,
            naming: modules.naming,
            names,
        })
    }
}

/// The public name of each tensor. `modules` are the public names of the layers with tensors, in network
/// order; the tensors of a layer have PyTorch's names.
fn public_names(wanted: &[TensorSpec], modules: &[String]) -> Vec<String> {
    let mut modules = modules.iter();
    let (mut layer, mut module) = ("", "");
    let mut names = Vec::with_capacity(wanted.len());
    for tensor in wanted {
        let (prefix, own) = tensor.name.rsplit_once('.').unwrap_or_default();
        if prefix != layer {
            layer = prefix;
            module = modules.next().map_or("", String::as_str);
        }
        names.push(format!("{module}.{own}"));
    }
    names
}

/// Whether the tensors have the same shape. A linear layer may be published as a convolution over its
/// whole input, whose values have the same order (timm's VGG).
fn has_shape(found: &WeightTensor, tensor: &TensorSpec) -> bool {
    let is_conv_over_all = || {
        found.shape.len() == 4
            && tensor.shape.len() == 2
            && found.shape[0] == tensor.shape[0]
            && found.data.len() == tensor.elements()
    };
    found.shape == tensor.shape || is_conv_over_all()
}

/// The layers whose shapes depend on the images and on the classes.
struct Ends<'t> {
    first: &'t str,
    last: &'t str,
}

impl<'t> Ends<'t> {
    fn of(wanted: &'t [TensorSpec]) -> Self {
        let layer = |tensor: Option<&'t TensorSpec>| tensor.map_or("", TensorSpec::layer);
        Ends {
            first: layer(wanted.first()),
            last: layer(wanted.last()),
        }
    }

    /// Whether the network may have this tensor although the file has `found` instead: the first layer may
    /// take other channels, the last one may have other classes.
    fn may_differ(&self, tensor: &TensorSpec, found: Option<&WeightTensor>) -> bool {
        let is_last = tensor.layer() == self.last;
        let Some(found) = found else {
            return is_last;
        };
        let (here, there) = (&tensor.shape[..], &found.shape[..]);
        // The dimensions are [outputs, inputs, ...].
        let other_classes = || here.get(1..) == there.get(1..);
        let other_channels = || here.first() == there.first() && here.get(2..) == there.get(2..);
        (is_last && other_classes()) || (tensor.layer() == self.first && other_channels())
    }
}
