//! Renders the samples of an epoch for the student and for each teacher.

use bytes::Bytes;
use datasets::{
    Augmentation, Batch, BatchAssembler, SampleError, Source, Target, Targets, Values, View,
};

/// Assembles the batches of an epoch, and renders the same view of them for every input of a teacher.
pub(super) struct Rendering<'d> {
    /// For the student, and for the first teachers whose input is another than the student's.
    assembler: BatchAssembler<'d>,
    inputs: Vec<Rendered<'d>>,
}

/// How the samples for one input are rendered.
enum Rendered<'d> {
    /// They are those of the student.
    AsStudent,
    /// At the same time as those of the student.
    WithStudent,
    /// On their own: the samples are read once more.
    Alone(Box<BatchAssembler<'d>>),
}

/// A batch, and its samples for each input of a teacher.
pub(super) struct RenderedBatch {
    /// Without the values for teachers.
    pub(super) batch: Batch,
    /// In the order of the inputs, row-major, little-endian.
    pub(super) for_teachers: Vec<Bytes>,
}

impl<'d> Rendering<'d> {
    /// Batches of `source` under `view`, for a student with an input of `shape` and for the teachers' `inputs`.
    pub(super) fn new(
        source: &'d dyn Source,
        augmentation: Augmentation,
        view: View,
        shape: &[usize],
        inputs: &[Target],
    ) -> Self {
        let assembler = |target: Option<&Target>| {
            let targets = Targets::new(shape, target.cloned());
            BatchAssembler::new(source, augmentation, view, targets)
        };
        let student = Target::student(shape);
        let mut others = inputs.iter().filter(|input| **input != student);
        let first = others.next();
        let rendered = inputs.iter().map(|input| match first {
            _ if *input == student => Rendered::AsStudent,
            Some(first) if input == first => Rendered::WithStudent,
            _ => Rendered::Alone(Box::new(assembler(Some(input)))),
        });
        Self {
            inputs: rendered.collect(),
            assembler: assembler(first),
        }
    }

    /// The batch of `samples`. `read` is called with the student's values.
    ///
    /// # Errors
    /// The first sample that cannot be read.
    pub(super) fn render(
        &self,
        samples: &[u32],
        read: impl FnOnce(&Values),
    ) -> Result<RenderedBatch, SampleError> {
        let mut batch = self.assembler.assemble(samples)?;
        read(&batch.values);
        let student = std::mem::replace(&mut batch.values, Values::Uint8(Vec::new()));
        let with_student = batch.teacher_values.take();
        let is_shown = |rendered: &Rendered<'_>| matches!(rendered, Rendered::AsStudent);
        let student = if self.inputs.iter().any(is_shown) {
            to_bytes(student)
        } else {
            Bytes::new()
        };
        let with_student = with_student.map_or_else(Bytes::new, to_bytes);
        let for_teachers = self
            .inputs
            .iter()
            .map(|rendered| -> Result<_, SampleError> {
                Ok(match rendered {
                    Rendered::AsStudent => student.clone(),
                    Rendered::WithStudent => with_student.clone(),
                    Rendered::Alone(assembler) => {
                        to_bytes(assembler.assemble_for_teacher(samples)?)
                    }
                })
            });
        Ok(RenderedBatch {
            for_teachers: for_teachers.collect::<Result<_, _>>()?,
            batch,
        })
    }
}

fn to_bytes(values: Values) -> Bytes {
    values.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use datasets::{InMemoryImages, Interpolation};

    use super::*;

    #[test]
    fn every_input_gets_the_samples_at_its_size_whatever_the_other_inputs_are() {
        let pixels = (0..3 * 64_u32).map(|index| (index * 37 % 256) as u8);
        let names = vec!["a".to_owned()];
        let labels = vec![Some(0); 3];
        let images = InMemoryImages::new([1, 8, 8], names, pixels.collect(), labels);
        let input = |side: usize| Target {
            shape: vec![1, side, side],
            interpolation: Interpolation::Bilinear,
        };
        let view = View::Fixed { seed: 3, view: 1 };
        let augmentation = Augmentation {
            pad: 2,
            horizontal_flip: true,
            ..Augmentation::default()
        };
        let rendered = |sides: &[usize]| {
            let inputs: Vec<_> = sides.iter().map(|side| input(*side)).collect();
            let rendering = Rendering::new(&images, augmentation, view, &[1, 8, 8], &inputs);
            let mut of_student = Vec::new();
            let batch = rendering.render(&[2, 0], |values| {
                of_student = values.clone().into_bytes();
            });
            (of_student, batch.unwrap().for_teachers)
        };
        let alone = [4, 8, 12].map(|side| rendered(&[side]).1.remove(0));
        let (student, together) = rendered(&[12, 4, 8]);
        assert_eq!(together[0], alone[2]);
        assert_eq!(together[1], alone[0]);
        assert_eq!(together[2], alone[1]);
        assert_eq!(student, together[2]);
        let sizes = together.iter().map(Bytes::len);
        assert!(sizes.eq([2 * 144, 2 * 16, 2 * 64]));
        // Nothing is kept for teachers that are not asked.
        assert!(rendered(&[]).1.is_empty());
    }
}
