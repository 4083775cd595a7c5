//! Samples put together for one step.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::{
    Augmentation, Geometry, Sample, SampleError, SampleKind, Source, View,
    augmentation::{Mix, Transform},
    targets::{Target, Targets},
    view::ViewStreams,
    view_renderer::ViewRenderer,
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
    /// Positions in the source of the samples with the larger weight, where two are mixed; else those of `samples`.
    pub prevailing: Vec<u32>,
    /// Hard labels of `prevailing`, as libtorch takes class indices; [`IGNORED_LABEL`] for unlabelled samples.
    pub labels: Vec<i64>,
    /// The other labels, if the view mixes samples.
    pub mixed: Option<MixedLabels>,
}

/// The labels of those of two mixed samples that have the smaller weight.
#[derive(Debug, Clone, PartialEq)]
pub struct MixedLabels {
    /// Hard labels; [`IGNORED_LABEL`] for unlabelled samples.
    pub labels: Vec<i64>,
    /// Their weights, 0 to 1/2. The weights of [`Batch::labels`] are the rest to 1.
    pub weights: Vec<f32>,
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
        let shown = self.shown(samples);
        let (prevailing, mixed) = self.prevailing(&shown);
        let labels = prevailing.iter().map(|sample| self.label(*sample));
        let labels = labels.collect();
        let mut batch = Batch {
            samples: samples.to_vec(),
            values: self.zeros(samples, &self.targets.student),
            teacher_values: None,
            prevailing,
            labels,
            mixed,
        };
        let teacher = self.targets.teacher.as_ref();
        batch.teacher_values = teacher.map(|teacher| self.zeros(samples, teacher));
        match (&mut batch.values, &mut batch.teacher_values) {
            (Values::Uint8(student), None) => self.render(&shown, student, &mut [])?,
            (Values::Uint8(student), Some(Values::Uint8(teacher))) => {
                self.render(&shown, student, teacher)?;
            }
            (Values::Fp32(rows), teacher) => {
                self.copy_rows(&shown, rows)?;
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

    /// What the teacher sees of `samples`, without rendering what the student sees: [`Batch::teacher_values`] of the same
    /// samples, or [`Batch::values`] if both have the same input.
    ///
    /// # Errors
    /// The first sample that cannot be read.
    ///
    /// # Panics
    /// If a sample is not in the source.
    pub fn assemble_for_teacher(&self, samples: &[u32]) -> Result<Values, SampleError> {
        let target = self.targets.teacher.as_ref();
        let target = target.unwrap_or(&self.targets.student);
        let mut values = self.zeros(samples, target);
        match &mut values {
            Values::Uint8(pixels) => self.render_one(&self.shown(samples), target, pixels)?,
            Values::Fp32(rows) => self.copy_rows(&self.shown(samples), rows)?,
        }
        Ok(values)
    }

    fn shown(&self, samples: &[u32]) -> Vec<Shown> {
        let shown = samples.iter().map(|&sample| Shown {
            sample,
            mix: self.mix(sample),
        });
        shown.collect()
    }

    /// Renders each sample for one input.
    fn render_one(
        &self,
        samples: &[Shown],
        target: &Target,
        pixels: &mut [u8],
    ) -> Result<(), SampleError> {
        let shape = target.image_shape();
        let size = shape.iter().product::<usize>();
        let one = |canvas: &mut Canvas, shown: &Shown, out: &mut [u8]| {
            let Canvas { renderer, partner } = canvas;
            self.show(renderer, shown.sample, &mut [(target, &mut *out)])?;
            let Some(mix) = shown.mix.filter(|mix| !mix.is_empty()) else {
                return Ok(());
            };
            let [partner, _] = partner;
            partner.resize(out.len(), 0);
            self.show(
                renderer,
                mix.partner,
                &mut [(target, partner.as_mut_slice())],
            )?;
            mix.apply(out, partner, shape);
            Ok(())
        };
        if self.source.decodes() {
            return pixels
                .par_chunks_exact_mut(size)
                .zip(samples)
                .try_for_each_init(Canvas::default, |canvas, (out, shown)| {
                    one(canvas, shown, out)
                });
        }
        let mut canvas = Canvas::default();
        let mut pairs = pixels.chunks_exact_mut(size).zip(samples);
        pairs.try_for_each(|(out, shown)| one(&mut canvas, shown, out))
    }

    fn zeros(&self, samples: &[u32], target: &Target) -> Values {
        Values::zeros(self.source.kind(), samples.len(), &target.shape)
    }

    /// Renders each sample for the student and, if `teacher` is not empty, for the teacher.
    fn render(
        &self,
        samples: &[Shown],
        student: &mut [u8],
        teacher: &mut [u8],
    ) -> Result<(), SampleError> {
        let student_shape = self.targets.student.image_shape();
        let teacher_target = self.targets.teacher.as_ref();
        let teacher_shape = teacher_target.map(|target| target.image_shape());
        let size = |shape: [usize; 3]| shape.iter().product::<usize>();
        let one = |canvas: &mut Canvas, shown: &Shown, student: &mut [u8], teacher: &mut [u8]| {
            self.show_both(&mut canvas.renderer, shown.sample, student, teacher)?;
            let Some(mix) = shown.mix.filter(|mix| !mix.is_empty()) else {
                return Ok(());
            };
            let Canvas { renderer, partner } = canvas;
            let [student_partner, teacher_partner] = partner;
            student_partner.resize(student.len(), 0);
            teacher_partner.resize(teacher.len(), 0);
            self.show_both(renderer, mix.partner, student_partner, teacher_partner)?;
            mix.apply(student, student_partner, student_shape);
            if let Some(shape) = teacher_shape {
                mix.apply(teacher, teacher_partner, shape);
            }
            Ok(())
        };
        let students = size(student_shape);
        let Some(teacher_shape) = teacher_shape else {
            if self.source.decodes() {
                return student
                    .par_chunks_exact_mut(students)
                    .zip(samples)
                    .try_for_each_init(Canvas::default, |canvas, (student, shown)| {
                        one(canvas, shown, student, &mut [])
                    });
            }
            let mut canvas = Canvas::default();
            let mut pairs = student.chunks_exact_mut(students).zip(samples);
            return pairs
                .try_for_each(|(student, shown)| one(&mut canvas, shown, student, &mut []));
        };
        student
            .par_chunks_exact_mut(students)
            .zip(teacher.par_chunks_exact_mut(size(teacher_shape)))
            .zip(samples)
            .try_for_each_init(Canvas::default, |canvas, ((student, teacher), shown)| {
                one(canvas, shown, student, teacher)
            })
    }

    /// Renders `sample` before it is mixed, for the student and, if it has another input, for the teacher.
    fn show_both(
        &self,
        renderer: &mut ViewRenderer,
        sample: u32,
        student: &mut [u8],
        teacher: &mut [u8],
    ) -> Result<(), SampleError> {
        let student = (&self.targets.student, student);
        match &self.targets.teacher {
            Some(target) => self.show(renderer, sample, &mut [student, (target, teacher)]),
            None => self.show(renderer, sample, &mut [student]),
        }
    }

    /// Renders `sample` before it is mixed, for each of the inputs.
    fn show(
        &self,
        renderer: &mut ViewRenderer,
        sample: u32,
        inputs: &mut [(&Target, &mut [u8])],
    ) -> Result<(), SampleError> {
        let Sample::Image(picture) = self.source.read(sample)? else {
            unreachable!("a source of images gives images");
        };
        let [_, height, width] = self.targets.student.image_shape();
        let transform = self.transform(sample, picture.size(), [height, width]);
        for (target, out) in inputs {
            renderer.render(&picture, &transform, target, out);
        }
        Ok(())
    }

    fn transform(&self, sample: u32, size: [usize; 2], target: [usize; 2]) -> Transform {
        match self.streams.of(sample) {
            Some(mut generator) => self.augmentation.draw(&mut generator, size, target),
            None => Transform {
                geometry: Geometry::centered(size, target),
                operations: Vec::new(),
            },
        }
    }

    /// Draws how the view mixes `sample`.
    fn mix(&self, sample: u32) -> Option<Mix> {
        if !self.augmentation.mixes() {
            return None;
        }
        let mut generator = self.streams.mixing_of(sample)?;
        let size = match self.targets.student.shape[..] {
            [_, height, width] => [height, width],
            // Rows are not cut.
            _ => [1, 1],
        };
        // Samples are numbered by u32.
        let samples = self.source.len() as u32;
        self.augmentation.draw_mix(&mut generator, samples, size)
    }

    /// The samples with the larger weight and, if the view mixes samples, the labels of the other ones.
    fn prevailing(&self, samples: &[Shown]) -> (Vec<u32>, Option<MixedLabels>) {
        let own: Vec<u32> = samples.iter().map(|shown| shown.sample).collect();
        let mixes: Option<Vec<Mix>> = samples.iter().map(|shown| shown.mix).collect();
        let Some(mixes) = mixes.filter(|mixes| !mixes.is_empty()) else {
            return (own, None);
        };
        let pairs = own.into_iter().zip(&mixes).map(|(own, mix)| {
            let (partner, weight) = (mix.partner, mix.partner_weight());
            if weight > 0.5 {
                (partner, (self.label(own), 1.0 - weight))
            } else {
                (own, (self.label(partner), weight))
            }
        });
        let (first, (labels, weights)) = pairs.unzip();
        (first, Some(MixedLabels { labels, weights }))
    }

    fn label(&self, sample: u32) -> i64 {
        self.source.label(sample).map_or(IGNORED_LABEL, i64::from)
    }

    fn copy_rows(&self, samples: &[Shown], rows: &mut [f32]) -> Result<(), SampleError> {
        let values = self.targets.student.shape.iter().product::<usize>();
        for (shown, to) in samples.iter().zip(rows.chunks_exact_mut(values)) {
            to.copy_from_slice(&self.read_row(shown.sample)?);
            if let Some(mix) = shown.mix {
                mix.apply(to, &self.read_row(mix.partner)?, [1, 1, values]);
            }
        }
        Ok(())
    }

    fn read_row(&self, sample: u32) -> Result<Cow<'_, [f32]>, SampleError> {
        match self.source.read(sample)? {
            Sample::Row(row) => Ok(row),
            Sample::Image(_) => unreachable!("a source of rows gives rows"),
        }
    }
}

/// A sample and how the view mixes it.
#[derive(Debug, Clone, Copy)]
struct Shown {
    sample: u32,
    mix: Option<Mix>,
}

/// What one thread renders with.
#[derive(Debug, Default)]
struct Canvas {
    renderer: ViewRenderer,
    /// The partner of a mixed sample, for the student and for the teacher.
    partner: [Vec<u8>; 2],
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

#[cfg(test)]
mod tests;
