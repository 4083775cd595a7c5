//! The inputs of networks that batches are made for.

use crate::Interpolation;

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

    /// The shape as [channels, height, width].
    ///
    /// # Panics
    /// If the input does not take images.
    pub(crate) fn image_shape(&self) -> [usize; 3] {
        let shape = self.shape.as_slice();
        shape.try_into().expect("images have three dimensions")
    }
}
