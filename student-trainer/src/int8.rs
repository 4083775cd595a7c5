//! The exported model in int8: its calibration, and its comparison with the model in f32.

use artifacts::manifest::GoldenBatch;
use datasets::{Normalization, SampleError, Source, Subset, Values, read_plain};
use networks::{
    NetworkSpec,
    onnx::{self, Ranges},
};
use onnx_runtime::{Calibration, CalibrationError, Session, SessionError, SessionOptions};

use crate::{
    classification::largest,
    config::Int8Config,
    engine::{self, FakeQuantizedNetwork},
    export::{ExportError, ExportedModel, outside_the_model},
};

/// Samples per call: calibration keeps all activations in memory.
const BATCH: usize = 32;

/// Largest difference of a logit between two processors, relative to the largest logit of the sample. Their
/// instructions may round an activation differently, by a step of 1/255 of its range.
const RELATIVE_TOLERANCE: f32 = 0.05;

/// What the model is calibrated on and compared on.
#[derive(Clone, Copy)]
pub(crate) struct Int8Source<'r> {
    pub(crate) spec: &'r NetworkSpec,
    pub(crate) normalization: &'r Normalization,
    /// The training samples.
    pub(crate) train: &'r Subset,
    /// The samples on which it is compared, those of the export.
    pub(crate) source: &'r dyn Source,
}

/// An ONNX model in int8.
#[derive(Debug)]
pub(crate) struct Int8Model {
    /// The file's bytes: the same for the same model in f32 and the same samples.
    pub(crate) onnx: Vec<u8>,
    /// The samples of the model in f32, with the logits of this one.
    pub(crate) golden_batch: GoldenBatch,
    /// Share of the compared samples that get the same class in f32 and in int8, 0 to 1.
    pub(crate) agreement: f64,
    /// Largest difference of a logit from the network in quantization-aware training, as a share of the largest logit of
    /// the sample; absent without such training.
    pub(crate) difference_from_training: Option<f32>,
}

/// The ranges of the activations of an exported model on training samples.
///
/// # Errors
/// If ONNX Runtime fails or a sample cannot be read.
pub(crate) fn calibrate(
    source: Int8Source<'_>,
    onnx: &[u8],
    config: Int8Config,
) -> Result<Ranges, ExportError> {
    let reader = Reader::new(source);
    let mut calibration = Calibration::load(onnx)?;
    let wanted = config.calibration_samples.min(source.train.len());
    // With every class in proportion: data may be sorted by class.
    let typical = source.train.sample(wanted)?;
    for batch in batches(typical.len()) {
        let input = reader.normalize(&reader.read(&typical, &batch)?);
        calibration
            .observe(&input, batch.len())
            .map_err(CalibrationError::from)?;
    }
    Ok(calibration.into_ranges())
}

/// Quantizes `model`, whose activations have these ranges, and compares it with its own logits in f32 and, if it was
/// trained in this form, with those of the `trained` network.
///
/// # Errors
/// If ONNX Runtime or libtorch fails, a sample cannot be read, or an activation is not finite.
pub(crate) fn quantize(
    source: Int8Source<'_>,
    model: &ExportedModel,
    ranges: &Ranges,
    trained: Option<&FakeQuantizedNetwork>,
) -> Result<Int8Model, ExportError> {
    let reader = Reader::new(source);
    let onnx = onnx::quantize(&model.onnx, |name| ranges.get(name).copied())
        .map_err(CalibrationError::from)?;

    let classes = source.spec.classes;
    let mut sessions = [&model.onnx, &onnx]
        .into_iter()
        .map(|onnx| Session::load(onnx, SessionOptions::default()))
        .collect::<Result<Vec<_>, SessionError>>()?;
    let golden = model.golden_batch.logits.len();
    let mut golden_logits = Vec::new();
    let mut equal = 0;
    let mut difference = trained.map(|_| 0.0f32);
    for batch in batches(model.compared) {
        let values = reader.read(source.source, &batch)?;
        let input = reader.normalize(&values);
        let mut predictions = Vec::new();
        let mut logits = Vec::new();
        for session in &mut sessions {
            logits = session.run(&input, batch.len())?;
            predictions.push(
                logits
                    .chunks_exact(classes)
                    .map(largest)
                    .collect::<Vec<_>>(),
            );
        }
        let pairs = predictions[0].iter().zip(&predictions[1]);
        equal += pairs.filter(|(float, int8)| float == int8).count();
        // The logits are those of the last session.
        if let Some((trained, difference)) = trained.zip(difference.as_mut()) {
            let expected =
                engine::int8_logits(trained, &values, source.spec.input, source.normalization)?;
            let rows = expected
                .chunks_exact(classes)
                .zip(logits.chunks_exact(classes));
            let differences = rows.map(|(expected, found)| relative_difference(expected, found));
            *difference = differences.fold(*difference, f32::max);
        }
        let missing = golden - golden_logits.len();
        let rows = logits.chunks_exact(classes).take(missing);
        golden_logits.extend(rows.map(<[f32]>::to_vec));
    }
    Ok(Int8Model {
        onnx,
        golden_batch: GoldenBatch {
            logits: golden_logits,
            relative_tolerance: RELATIVE_TOLERANCE,
            ..model.golden_batch.clone()
        },
        agreement: equal as f64 / model.compared.max(1) as f64,
        difference_from_training: difference,
    })
}

/// The largest difference of a logit of one sample, as a share of its largest expected logit.
fn relative_difference(expected: &[f32], found: &[f32]) -> f32 {
    let pairs = expected.iter().zip(found);
    let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let logit = expected.iter().map(|logit| logit.abs()).fold(0.0, f32::max);
    difference / logit.max(f32::MIN_POSITIVE)
}

/// Reads samples as the models take them.
struct Reader {
    shape: Vec<usize>,
    normalization: Normalization,
}

impl Reader {
    fn new(source: Int8Source<'_>) -> Self {
        Self {
            shape: source.spec.input.dimensions(),
            normalization: outside_the_model(source.spec, source.normalization),
        }
    }

    fn read(&self, source: &dyn Source, samples: &[u32]) -> Result<Values, SampleError> {
        read_plain(source, samples, &self.shape)
    }

    fn normalize(&self, values: &Values) -> Vec<f32> {
        let mut input = Vec::new();
        self.normalization.apply_to(values, &self.shape, &mut input);
        input
    }
}

/// The positions of the first `samples` samples, in batches.
fn batches(samples: usize) -> impl Iterator<Item = Vec<u32>> {
    let firsts = (0..samples).step_by(BATCH);
    firsts.map(move |first| (first as u32..samples.min(first + BATCH) as u32).collect())
}
