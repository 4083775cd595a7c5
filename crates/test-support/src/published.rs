//! Published networks with values that follow from the names of their tensors: see
//! `scripts/golden/public_weights.py`, which computes the logits with the networks' own libraries.

use std::collections::BTreeMap;

use networks::{NetworkSpec, WeightTensor};
use serde::Deserialize;

/// Classes of every network.
pub const CLASSES: usize = 10;
/// Images that the logits belong to.
pub const SAMPLES: usize = 2;
/// Of the pixels: `MEAN` and `STD` in the script.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// One published network.
#[derive(Debug, Deserialize)]
pub struct Published {
    pub name: String,
    /// Keys of `[network]`, one per line.
    pub preset: String,
    /// Height and width of the images.
    pub side: usize,
    /// Names and shapes.
    pub tensors: BTreeMap<String, Vec<usize>>,
    /// Of [`Published::images`]; `None` for networks that are too large for a test.
    pub logits: Option<Vec<f32>>,
    /// Of [`Published::pixels`], normalized with [`MEAN`] and [`STD`].
    pub pixel_logits: Option<Vec<f32>>,
}

impl Published {
    pub fn all() -> Vec<Self> {
        let json = include_str!("../../torch-networks/tests/golden/public.json");
        serde_json::from_str(json).expect("a good file")
    }

    pub fn named(name: &str) -> Self {
        let mut all = Self::all().into_iter();
        all.find(|network| network.name == name)
            .expect("a published network")
    }

    pub fn spec(&self, channels: usize, classes: usize) -> NetworkSpec {
        let Self { preset, side, .. } = self;
        let text = format!("input = [{channels}, {side}, {side}]\nclasses = {classes}\n{preset}");
        NetworkSpec::from_toml(&text).expect("a good spec")
    }

    /// A safetensors file with the published names. `keep` selects tensors.
    pub fn file(&self, keep: impl Fn(&str) -> bool) -> Vec<u8> {
        let tensors = self.tensors.iter().zip(1..);
        let tensors: BTreeMap<_, _> = tensors
            .filter(|((name, _), _)| keep(name))
            .map(|((name, shape), stream)| {
                let data = fill(name, shape, stream);
                let shape = shape.clone();
                (name.as_str(), WeightTensor { shape, data })
            })
            .collect();
        safetensors::serialize(&tensors, None).expect("a good file")
    }

    /// f32 [SAMPLES, 3, side, side].
    pub fn images(&self) -> Vec<f32> {
        let values = uniform(SAMPLES * 3 * self.side * self.side, 0);
        values.map(|value| 4.0 * value as f32).collect()
    }

    /// u8 [SAMPLES, 3, side, side].
    pub fn pixels(&self) -> Vec<u8> {
        let values = uniform(SAMPLES * 3 * self.side * self.side, 0);
        values
            .map(|value| (256.0 * (value + 0.5)).floor() as u8)
            .collect()
    }
}

/// Numbers in [-0.5, 0.5): see `uniform` in the script.
fn uniform(count: usize, stream: u64) -> impl Iterator<Item = f64> {
    const MASK: u64 = 0xFFFF_FFFF;
    (1..=count as u64).map(move |index| {
        let mut x = (index * 2_654_435_761) & MASK;
        x = (x + stream * 40_503) & MASK;
        x ^= x >> 16;
        x = (x * 0x85EB_CA6B) & MASK;
        x ^= x >> 13;
        x = (x * 0xC2B2_AE35) & MASK;
        x ^= x >> 16;
        x as f64 / 2f64.powi(32) - 0.5
    })
}

/// Values of one tensor: see `fill` in the script.
fn fill(name: &str, shape: &[usize], stream: u64) -> Vec<f32> {
    let count = shape.iter().product();
    let scaled = |shift: f64, scale: f64| {
        let noise = uniform(count, stream);
        noise.map(|noise| (shift + scale * noise) as f32).collect()
    };
    if name.ends_with("running_var") {
        scaled(1.0, 1.0)
    } else if shape.len() > 1 {
        scaled(0.0, (24.0 / (count / shape[0]) as f64).sqrt())
    } else if name.ends_with("weight") {
        scaled(1.0, 0.5)
    } else {
        scaled(0.0, 0.4)
    }
}
