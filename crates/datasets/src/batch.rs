//! Samples put together for one step.

use rayon::prelude::*;

use crate::{
    Augmentation, Geometry, Interpolation, Sample, SampleError, SampleKind, Source, View,
    render::Renderer, view::ViewStreams,
};

/// Samples and labels of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Positions in the source.
    pub samples: Vec<u32>,
    /// The student's view of the samples.
    pub values: Values,
    /// The teacher's view of the same parts of the samples, if it has another input than the student.
    pub teacher_values: Option<Values>,
    /// Hard labels, as libtorch takes class indices; [`IGNORED_LABEL`] for unlabelled samples.
    pub labels: Vec<i64>,
}

/// PyTorch's `ignore_index`: the label of an unlabelled sample.
pub const IGNORED_LABEL: i64 = -100;

/// Values of a batch, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Pixels, [samples, channels, height, width].
    Uint8(Vec<u8>),
    /// Rows, [samples, values].
    Fp32(Vec<f32>),
}

/// The inputs that batches are made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// The student's input.
    pub student: Target,
    /// The teacher's input, if it differs from the student's.
    pub teacher: Option<Target>,
}

/// An input of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Shape of one sample: [channels, height, width] or [values].
    pub shape: Vec<usize>,
    /// How images of another size are resized.
    pub interpolation: Interpolation,
}

impl Targets {
    /// Batches for a student alone, or for a teacher with the same input.
    pub fn student(shape: &[usize]) -> Self {
        Self::new(shape, None)
    }

    /// Batches for a student with an input of `shape`, and for a teacher if its input is another.
    pub fn new(shape: &[usize], teacher: Option<Target>) -> Self {
        let student = Target::student(shape);
        Self {
            teacher: teacher.filter(|teacher| *teacher != student),
            student,
        }
    }
}

impl Target {
    /// The input of a student: images are resized as by the inference service, bilinear.
    pub fn student(shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            interpolation: Interpolation::Bilinear,
        }
    }
}

/// Assembles augmented batches of one view.
#[derive(Debug)]
pub struct BatchAssembler<'s> {
    source: &'s dyn Source,
    augmentation: Augmentation,
    streams: ViewStreams,
    targets: Targets,
}

impl<'s> BatchAssembler<'s> {
    /// Batches of `source` under `view`. The caller has checked that the targets fit the source: see
    /// [`fits`].
    pub fn new(
        source: &'s dyn Source,
        augmentation: Augmentation,
        view: View,
        targets: Targets,
    ) -> Self {
        Self {
            source,
            augmentation,
            streams: view.streams(),
            targets,
        }
    }

    /// The batch of `samples`. Reads on rayon's threads if the source decodes files.
    ///
    /// # Errors
    /// The first sample that cannot be read.
    ///
    /// # Panics
    /// If a sample is not in the source.
    pub fn assemble(&self, samples: &[u32]) -> Result<Batch, SampleError> {
        let label = |sample: &u32| self.source.label(*sample).map_or(IGNORED_LABEL, i64::from);
        let mut batch = Batch {
            samples: samples.to_vec(),
            values: self.zeros(samples, &self.targets.student),
            teacher_values: None,
            labels: samples.iter().map(label).collect(),
        };
        let teacher = self.targets.teacher.as_ref();
        batch.teacher_values = teacher.map(|teacher| self.zeros(samples, teacher));
        match (&mut batch.values, &mut batch.teacher_values) {
            (Values::Uint8(student), None) => self.render(samples, student, &mut [])?,
            (Values::Uint8(student), Some(Values::Uint8(teacher))) => {
                self.render(samples, student, teacher)?;
            }
            (Values::Fp32(rows), teacher) => {
                self.copy_rows(samples, rows)?;
                if let Some(Values::Fp32(teacher)) = teacher {
                    teacher.copy_from_slice(rows);
                }
            }
            (Values::Uint8(_), Some(Values::Fp32(_))) => {
                unreachable!("both values have the kind of the source")
            }
        }
        Ok(batch)
    }

    fn zeros(&self, samples: &[u32], target: &Target) -> Values {
        Values::zeros(self.source.kind(), samples.len(), &target.shape)
    }

    /// Renders each sample for the student and, if `teacher` is not empty, for the teacher.
    fn render(
        &self,
        samples: &[u32],
        student: &mut [u8],
        teacher: &mut [u8],
    ) -> Result<(), SampleError> {
        let Targets {
            student: student_target,
            teacher: teacher_target,
        } = &self.targets;
        let student_shape = image_shape(&student_target.shape);
        let teacher_target = teacher_target
            .as_ref()
            .map(|target| (image_shape(&target.shape), target.interpolation));
        let size = |shape: [usize; 3]| shape.iter().product::<usize>();
        let one = |renderer: &mut Renderer, sample: u32, student: &mut [u8], teacher: &mut [u8]| {
            let Sample::Image(picture) = self.source.read(sample)? else {
                unreachable!("a source of images gives images");
            };
            let [_, height, width] = student_shape;
            let geometry = self.geometry(sample, picture.size(), [height, width]);
            let interpolation = student_target.interpolation;
            renderer.render(&picture, geometry, student_shape, interpolation, student);
            if let Some((shape, interpolation)) = teacher_target {
                renderer.render(&picture, geometry, shape, interpolation, teacher);
            }
            Ok(())
        };
        let students = size(student_shape);
        let Some((teacher_shape, _)) = teacher_target else {
            if self.source.decodes() {
                return student
                    .par_chunks_exact_mut(students)
                    .zip(samples)
                    .try_for_each_init(Renderer::default, |renderer, (student, sample)| {
                        one(renderer, *sample, student, &mut [])
                    });
            }
            let mut renderer = Renderer::default();
            let mut pairs = student.chunks_exact_mut(students).zip(samples);
            return pairs
                .try_for_each(|(student, sample)| one(&mut renderer, *sample, student, &mut []));
        };
        student
            .par_chunks_exact_mut(students)
            .zip(teacher.par_chunks_exact_mut(size(teacher_shape)))
            .zip(samples)
            .try_for_each_init(
                Renderer::default,
                |renderer, ((student, teacher), sample)| one(renderer, *sample, student, teacher),
            )
    }

    fn geometry(&self, sample: u32, size: [usize; 2], target: [usize; 2]) -> Geometry {
        match self.streams.of(sample) {
            Some(mut generator) => self.augmentation.draw(&mut generator, size, target),
            None => Geometry::centered(size, target),
        }
    }

    fn copy_rows(&self, samples: &[u32], rows: &mut [f32]) -> Result<(), SampleError> {
        let values = self.targets.student.shape.iter().product::<usize>();
        for (sample, to) in samples.iter().zip(rows.chunks_exact_mut(values)) {
            let Sample::Row(row) = self.source.read(*sample)? else {
                unreachable!("a source of rows gives rows");
            };
            to.copy_from_slice(&row);
        }
        Ok(())
    }
}

/// Reads `samples` without augmentation for a student with an input of `shape`: [channels, height, width] or [values].
///
/// # Errors
/// The first sample that cannot be read.
///
/// # Panics
/// If a sample is not in the source, or `shape` does not fit it: see [`fits`].
pub fn read_plain(
    source: &dyn Source,
    samples: &[u32],
    shape: &[usize],
) -> Result<Values, SampleError> {
    read_plain_for(source, samples, Target::student(shape))
}

/// Reads `samples` without augmentation for the input `target`.
///
/// # Errors
/// The first sample that cannot be read.
///
/// # Panics
/// As for [`read_plain`].
pub fn read_plain_for(
    source: &dyn Source,
    samples: &[u32],
    target: Target,
) -> Result<Values, SampleError> {
    let targets = Targets {
        student: target,
        teacher: None,
    };
    let assembler = BatchAssembler::new(source, Augmentation::default(), View::Plain, targets);
    Ok(assembler.assemble(samples)?.values)
}

/// Whether batches of samples of `kind` can be made for an input of `shape`: images for
/// [channels, height, width], 1 or 3 channels each; rows for their own length.
pub fn fits(kind: SampleKind, shape: &[usize]) -> bool {
    let channels = |channels: usize| matches!(channels, 1 | 3);
    match (kind, shape) {
        (
            SampleKind::Image {
                channels: found, ..
            },
            [wanted, height, width],
        ) => channels(found) && channels(*wanted) && *height > 0 && *width > 0,
        (SampleKind::Row { values }, [wanted]) => values == *wanted,
        _ => false,
    }
}

impl Values {
    fn zeros(kind: SampleKind, samples: usize, shape: &[usize]) -> Self {
        let count = samples * shape.iter().product::<usize>();
        match kind {
            SampleKind::Image { .. } => Self::Uint8(vec![0; count]),
            SampleKind::Row { .. } => Self::Fp32(vec![0.0; count]),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Uint8(values) => values.len(),
            Self::Fp32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values as little-endian bytes; pixels are not copied.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Uint8(values) => values,
            Self::Fp32(values) => values.into_iter().flat_map(f32::to_le_bytes).collect(),
        }
    }
}

/// Holds: [`fits`] was checked for the targets.
fn image_shape(shape: &[usize]) -> [usize; 3] {
    shape.try_into().expect("images have three dimensions")
}

#[cfg(test)]
mod tests;
