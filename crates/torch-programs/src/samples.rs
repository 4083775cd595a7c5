//! Batches of any size, in the sizes that a program takes.

use tch::Tensor;

use crate::{Dimension, Program, ProgramError};

impl Program {
    /// Computes output number `output` of a program with one input for any number of samples, 1 or more, which lie
    /// along the first dimension of input and output.
    ///
    /// If the program has a fixed, smallest or largest batch size, the samples go through in parts of such sizes, and a
    /// part that is too small is filled up with copies of its first sample.
    ///
    /// # Errors
    /// [`ProgramError::Input`] and [`ProgramError::Run`], as [`Program::run`], and if the output is not there or has
    /// another number of samples.
    pub fn run_samples(&self, samples: &Tensor, output: usize) -> Result<Tensor, ProgramError> {
        let count = samples.size().first().copied().unwrap_or_default();
        if count == 0 {
            return Err(ProgramError::Input {
                input: "input".to_owned(),
                reason: "it has no sample".to_owned(),
            });
        }
        let (smallest, largest) = self.batch_sizes();
        let mut rows = Vec::new();
        let mut first = 0;
        while first < count {
            let taken = largest.min(count - first);
            let mut part = samples.f_narrow(0, first, taken)?;
            if taken < smallest {
                let mut shape = part.size();
                shape[0] = smallest - taken;
                let copies = part.f_narrow(0, 0, 1)?.f_expand(&shape, false)?;
                part = Tensor::f_cat(&[part, copies], 0)?;
            }
            let mut outputs = self.run(&[part.shallow_clone()])?;
            let found = outputs.len();
            if output >= found {
                return Err(ProgramError::Run(format!(
                    "output {output} was asked for, but it returned {found}"
                )));
            }
            let values = outputs.swap_remove(output);
            if values.size().first() != part.size().first() {
                return Err(ProgramError::Run(format!(
                    "output {output} has the shape {:?} for {} samples",
                    values.size(),
                    part.size()[0]
                )));
            }
            rows.push(values.f_narrow(0, 0, taken)?);
            first += taken;
        }
        Ok(Tensor::f_cat(&rows, 0)?)
    }

    /// The smallest and the largest batch size.
    fn batch_sizes(&self) -> (i64, i64) {
        let batch = self
            .inputs()
            .and_then(|inputs| inputs.first()?.dimensions.first());
        let (smallest, largest) = match batch {
            Some(Dimension::Fixed(size)) => (*size, Some(*size)),
            Some(Dimension::Open {
                minimum, maximum, ..
            }) => (*minimum, *maximum),
            None => (1, None),
        };
        let size = |size| i64::try_from(size).unwrap_or(i64::MAX).max(1);
        (size(smallest), largest.map_or(i64::MAX, size))
    }
}
