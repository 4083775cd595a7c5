//! The ranges of a model's tensors on typical samples, for its quantization.

use networks::onnx::{self, QuantizeError, Range, Ranges};
use ort::value::TensorRef;

use crate::{
    interface::INPUT_NAME,
    library,
    session::{self, Session, SessionError, SessionOptions},
};

/// Collects the smallest and the largest value of every tensor of a model.
#[derive(Debug)]
pub struct Calibration {
    /// The model with every tensor as an output.
    session: ort::session::Session,
    /// Shape of one sample.
    sample: Vec<usize>,
    ranges: Ranges,
}

/// Why a model cannot be quantized.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// ONNX Runtime cannot compute the model.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The model has no quantized form.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
}

impl Calibration {
    /// Loads a model of the writer, which has f32 tensors only.
    ///
    /// # Errors
    /// See [`CalibrationError`].
    pub fn load(onnx: &[u8]) -> Result<Self, CalibrationError> {
        let options = SessionOptions::default();
        let sample = Session::load(onnx, options)?.interface().sample.clone();
        let observed = onnx::with_all_outputs(onnx)?;
        let environment = library::environment().map_err(SessionError::from)?;
        let session = session::build(environment, &observed, options)
            .map_err(|error| SessionError::Load(error.message().to_owned()))?;
        Ok(Self {
            session,
            sample,
            ranges: Ranges::new(),
        })
    }

    /// Extends the ranges to those of `samples` samples, row-major and normalized. All tensors of the batch are in
    /// memory at a time.
    ///
    /// # Errors
    /// [`SessionError::InputSize`] or [`SessionError::Run`].
    pub fn observe(&mut self, input: &[f32], samples: usize) -> Result<(), SessionError> {
        let expected = self.sample.iter().product::<usize>() * samples.max(1);
        if samples == 0 || input.len() != expected {
            return Err(SessionError::InputSize {
                batch: samples,
                found: input.len(),
                expected,
            });
        }
        self.compute(input, samples)
            .map_err(|error| SessionError::Run(error.message().to_owned()))
    }

    fn compute(&mut self, input: &[f32], samples: usize) -> ort::Result<()> {
        let sizes = self.sample.iter().copied();
        let shape: Vec<usize> = [samples].into_iter().chain(sizes).collect();
        let tensor = TensorRef::from_array_view((shape, input))?;
        let outputs = self.session.run(ort::inputs![tensor])?;
        extend(&mut self.ranges, INPUT_NAME, input);
        for (name, output) in &outputs {
            let (_, values) = output.try_extract_tensor::<f32>()?;
            extend(&mut self.ranges, name, values);
        }
        Ok(())
    }

    /// The ranges of the samples so far, for `networks::onnx::quantize`.
    pub fn into_ranges(self) -> Ranges {
        self.ranges
    }
}

fn extend(ranges: &mut Ranges, name: &str, values: &[f32]) {
    let Some(first) = values.first() else {
        return;
    };
    let (min, max) = (*first, *first);
    let range = ranges.entry(name.to_owned()).or_insert(Range { min, max });
    for value in values {
        range.min = range.min.min(*value);
        range.max = range.max.max(*value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_range_grows_with_each_batch() {
        let mut ranges = Ranges::new();
        for values in [&[0.5, 1.5][..], &[], &[-2.0], &[1.0]] {
            extend(&mut ranges, "x", values);
        }
        extend(&mut ranges, "y", &[3.0]);
        let range = |min, max| Range { min, max };
        let expected = [("x", range(-2.0, 1.5)), ("y", range(3.0, 3.0))];
        let expected = expected.map(|(name, range)| (name.to_owned(), range));
        assert_eq!(ranges, BTreeMap::from(expected));
    }
}
