//! The exported model in int8, compared with the one in f32.

use artifacts::manifest::GoldenBatch;
use datasets::{Normalization, SampleError, Source, Subset, read_plain};
use networks::NetworkSpec;
use onnx_runtime::{Calibration, CalibrationError, Session, SessionError, SessionOptions};

use crate::{
    classification::largest,
    config::Int8Config,
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
    /// Number of samples whose activations gave the scales.
    pub(crate) calibration_samples: usize,
    /// Share of the compared samples that get the same class in f32 and in int8, 0 to 1.
    pub(crate) agreement: f64,
}

/// Quantizes `model` and compares it with its own logits in f32.
///
/// # Errors
/// If ONNX Runtime fails, a sample cannot be read, or an activation is not finite.
pub(crate) fn quantize(
    source: Int8Source<'_>,
    model: &ExportedModel,
    config: Int8Config,
) -> Result<Int8Model, ExportError> {
    let reader = Reader::new(source);
    let mut calibration = Calibration::load(&model.onnx)?;
    let wanted = config.calibration_samples.min(source.train.len());
    // With every class in proportion: data may be sorted by class.
    let typical = source.train.sample(wanted)?;
    for batch in batches(typical.len()) {
        let input = reader.read(&typical, &batch)?;
        calibration
            .observe(&input, batch.len())
            .map_err(CalibrationError::from)?;
    }
    let onnx = calibration.quantize().map_err(CalibrationError::from)?;
    drop(calibration);

    let classes = source.spec.classes;
    let mut sessions = [&model.onnx, &onnx]
        .into_iter()
        .map(|onnx| Session::load(onnx, SessionOptions::default()))
        .collect::<Result<Vec<_>, SessionError>>()?;
    let golden = model.golden_batch.logits.len();
    let mut golden_logits = Vec::new();
    let mut equal = 0;
    for batch in batches(model.compared) {
        let input = reader.read(source.source, &batch)?;
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
        // Those of the last session.
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
        calibration_samples: wanted,
        agreement: equal as f64 / model.compared.max(1) as f64,
    })
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

    fn read(&self, source: &dyn Source, samples: &[u32]) -> Result<Vec<f32>, SampleError> {
        let values = read_plain(source, samples, &self.shape)?;
        let mut input = Vec::new();
        self.normalization
            .apply_to(&values, &self.shape, &mut input);
        Ok(input)
    }
}

/// The positions of the first `samples` samples, in batches.
fn batches(samples: usize) -> impl Iterator<Item = Vec<u32>> {
    let firsts = (0..samples).step_by(BATCH);
    firsts.map(move |first| (first as u32..samples.min(first + BATCH) as u32).collect())
}
