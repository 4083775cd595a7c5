//! Teachers of colors as ONNX files, and pictures for them.

use std::{fs, path::Path};

use image::{Rgb, RgbImage};
use networks::onnx::{
    IR_VERSION, OPSET_VERSION,
    schema::{
        AttributeProto, AttributeType, DataType, Dimension, DimensionValue, GraphProto, ModelProto,
        NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
        TypeValue, ValueInfoProto,
    },
};
use prost::Message;

/// Classes and their colors. Red and blue, and orange and azure, are the same colors with red and blue swapped.
pub const COLORS: [(&str, [u8; 3]); 6] = [
    ("azure", [40, 120, 210]),
    ("blue", [60, 60, 200]),
    ("green", [60, 170, 60]),
    ("orange", [210, 120, 40]),
    ("purple", [160, 60, 140]),
    ("red", [200, 60, 60]),
];

/// Names of the classes in the order of the outputs.
pub fn names() -> Vec<String> {
    COLORS.map(|(name, _)| name.to_owned()).to_vec()
}

/// The values that a teacher takes: `(x * scale - mean) / std` for bytes x.
#[derive(Debug, Clone, Copy)]
pub struct Takes {
    pub scale: f32,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

pub const UNIT: Takes = Takes {
    scale: 1.0 / 255.0,
    mean: [0.0; 3],
    std: [1.0; 3],
};
pub const BYTE: Takes = Takes { scale: 1.0, ..UNIT };
pub const IMAGENET: Takes = Takes {
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
    ..UNIT
};

/// A teacher that tells the mean color of an image of `dimensions` [batch, …], of which `axes` are height and width:
/// the logit of a class is minus the squared distance to its color, in units of 0.1.
pub fn teacher(takes: Takes, dimensions: &[Option<i64>], axes: [i64; 2]) -> ModelProto {
    let classes = COLORS.len();
    let (mut weights, mut biases) = (vec![0.0_f32; classes * 3], vec![0.0_f32; classes]);
    for (class, (_, color)) in COLORS.iter().enumerate() {
        for channel in 0..3 {
            let own = f32::from(color[channel]) / 255.0;
            // The color in units of 1 is gain * value + offset, where value is what the teacher takes.
            let gain = takes.std[channel] / (255.0 * takes.scale);
            let offset = takes.mean[channel] / (255.0 * takes.scale);
            weights[class * 3 + channel] = 100.0 * 2.0 * own * gain;
            biases[class] += 100.0 * (2.0 * own * offset - own * own);
        }
    }
    let nodes = vec![
        node(
            "ReduceMean",
            &["input"],
            "color",
            vec![
                attribute("axes", AttributeType::Ints, 0, &axes),
                attribute("keepdims", AttributeType::Int, 0, &[]),
            ],
        ),
        node(
            "Gemm",
            &["color", "weight", "bias"],
            "logits",
            vec![attribute("transB", AttributeType::Int, 1, &[])],
        ),
    ];
    let tensors = vec![
        tensor("weight", &[classes as i64, 3], &weights),
        tensor("bias", &[classes as i64], &biases),
    ];
    model(nodes, tensors, dimensions, &[None, Some(classes as i64)])
}

/// A teacher that tells columns of one pixel, light and dark, from plain gray. Its images may have any size.
pub fn stripes_teacher() -> ModelProto {
    let nodes = vec![
        node("Conv", &["input", "edges"], "differences", vec![]),
        node("Abs", &["differences"], "steps", vec![]),
        node(
            "ReduceMean",
            &["steps"],
            "step",
            vec![
                attribute("axes", AttributeType::Ints, 0, &[2, 3]),
                attribute("keepdims", AttributeType::Int, 0, &[]),
            ],
        ),
        node("Gemm", &["step", "weight", "bias"], "logits", vec![]),
    ];
    // Left minus right, of red.
    let edges = [1.0, -1.0, 0.0, 0.0, 0.0, 0.0];
    let tensors = vec![
        tensor("edges", &[1, 3, 1, 2], &edges),
        tensor("weight", &[1, 2], &[-20.0, 20.0]),
        tensor("bias", &[2], &[4.0, -4.0]),
    ];
    model(
        nodes,
        tensors,
        &[None, Some(3), None, None],
        &[None, Some(2)],
    )
}

/// Appends a Softmax.
pub fn with_softmax(mut teacher: ModelProto) -> ModelProto {
    let graph = teacher.graph.as_mut().unwrap();
    graph
        .node
        .push(node("Softmax", &["logits"], "probabilities", vec![]));
    graph.output[0].name = Some("probabilities".to_owned());
    teacher
}

/// A teacher for rows of whole numbers, as of the bytes of a file: probabilities of two classes.
pub fn bytes_teacher() -> ModelProto {
    let nodes = vec![
        node(
            "Cast",
            &["input"],
            "values",
            vec![attribute(
                "to",
                AttributeType::Int,
                DataType::Float as i64,
                &[],
            )],
        ),
        node("Gemm", &["values", "weight", "bias"], "logits", vec![]),
        node("Softmax", &["logits"], "probabilities", vec![]),
    ];
    let tensors = vec![
        tensor("weight", &[16, 2], &[0.001; 32]),
        tensor("bias", &[2], &[0.0, 1.0]),
    ];
    let mut model = model(nodes, tensors, &[None, Some(16)], &[None, Some(2)]);
    let graph = model.graph.as_mut().unwrap();
    graph.input[0].r#type = Some(tensor_type(DataType::Int32, &[None, Some(16)]));
    graph.output[0].name = Some("probabilities".to_owned());
    model
}

/// Replaces the operator of the first node.
pub fn with_operator(mut teacher: ModelProto, operator: &str, domain: &str) -> ModelProto {
    let graph = teacher.graph.as_mut().unwrap();
    graph.node[0].op_type = Some(operator.to_owned());
    graph.node[0].domain = Some(domain.to_owned());
    teacher.opset_import.push(OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(1),
    });
    teacher
}

pub fn write(path: &Path, teacher: &ModelProto) {
    fs::write(path, teacher.encode_to_vec()).unwrap();
}

/// Writes pictures of `size` pixels near the color of each class into `folder`, a folder per class or without.
pub fn write_pictures(folder: &Path, size: u32, per_class: usize, with_classes: bool) {
    let mut noise = Noise(1);
    for (name, color) in COLORS {
        let class = if with_classes {
            folder.join(name)
        } else {
            folder.to_owned()
        };
        fs::create_dir_all(&class).unwrap();
        for number in 0..per_class {
            // The colors of the classes overlap, so that no card is right on all.
            let own = color.map(|value| noise.near(value, 45));
            let picture = RgbImage::from_fn(size, size, |_, _| {
                Rgb(own.map(|value| noise.near(value, 10)))
            });
            picture
                .save(class.join(format!("{name}-{number}.png")))
                .unwrap();
        }
    }
}

/// Writes pictures of 16 pixels: `plain` gray, and `striped` with light and dark columns of one pixel. Both become lighter
/// from left to right, so that values from 0 to 255 make plain pictures look striped, too.
pub fn write_stripes(folder: &Path, per_class: usize) {
    let mut noise = Noise(2);
    for (name, step) in [("plain", 0), ("striped", 60)] {
        fs::create_dir_all(folder.join(name)).unwrap();
        for number in 0..per_class {
            let gray = noise.near(128, 30);
            let picture = RgbImage::from_fn(16, 16, |column, _| {
                let value = if column % 2 == 0 {
                    gray + step
                } else {
                    gray - step
                };
                Rgb([value + column as u8; 3])
            });
            picture
                .save(folder.join(name).join(format!("{number}.png")))
                .unwrap();
        }
    }
}

/// A linear congruential generator (Knuth, MMIX): the same pictures every time.
struct Noise(u64);

impl Noise {
    fn near(&mut self, value: u8, spread: i32) -> u8 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let draw = (self.0 >> 33) as i32 % (2 * spread + 1) - spread;
        (i32::from(value) + draw).clamp(0, 255) as u8
    }
}

fn model(
    node: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    input: &[Option<i64>],
    output: &[Option<i64>],
) -> ModelProto {
    let value = |name: &str, dimensions| ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(tensor_type(DataType::Float, dimensions)),
        ..ValueInfoProto::default()
    };
    ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("a test".to_owned()),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(OPSET_VERSION),
        }],
        graph: Some(GraphProto {
            name: Some("colors".to_owned()),
            node,
            initializer,
            input: vec![value("input", input)],
            output: vec![value("logits", output)],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

fn tensor_type(data_type: DataType, dimensions: &[Option<i64>]) -> TypeProto {
    let dim = dimensions.iter().map(|size| Dimension {
        value: size.map(DimensionValue::Value),
        ..Dimension::default()
    });
    TypeProto {
        value: Some(TypeValue::Tensor(TensorTypeProto {
            elem_type: Some(data_type.into()),
            shape: Some(TensorShapeProto { dim: dim.collect() }),
        })),
        ..TypeProto::default()
    }
}

fn node(
    operator: &str,
    inputs: &[&str],
    output: &str,
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        op_type: Some(operator.to_owned()),
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

fn attribute(name: &str, kind: AttributeType, value: i64, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind.into()),
        i: (kind == AttributeType::Int).then_some(value),
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float.into()),
        raw_data: Some(
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        ),
        ..TensorProto::default()
    }
}
