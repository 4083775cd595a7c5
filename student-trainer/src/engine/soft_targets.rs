//! The teacher's side of a loss, as tensors.

use soft_targets::{Encoding, Sampling, SoftTargets, ValueType};
use tch::{Device, Kind, TchError, Tensor};
use torch_networks::to_device;

/// Soft targets of a batch: the possible outcomes of a sample, and how likely the teacher finds each.
///
/// The outcomes are the classes; with top-k soft targets they are the k classes that were kept and
/// one *tail bucket* for all others, so that teacher and student are each a proper distribution over
/// the same outcomes. With sampled soft targets each draw is an outcome: of N draws, each has the
/// probability 1 / N.
#[derive(Debug)]
pub enum TeacherLogits {
    /// f32 [batch, classes]
    Dense(Tensor),
    /// Some of the classes.
    TopK(TopK),
    /// No logits, but classes that were drawn from the probabilities.
    Drawn(Drawn),
    /// The arithmetic mean of the probabilities of several teachers.
    Mixture(Vec<Component>),
}

/// A teacher of a mixture.
#[derive(Debug)]
pub struct Component {
    /// Logarithm of its weight. The weights of a mixture add up to 1.
    pub log_weight: f64,
    /// f32 [batch, classes]
    pub logits: Tensor,
}

/// Top-k soft targets of a batch.
#[derive(Debug)]
pub struct TopK {
    /// f32 [batch, k]
    logits: Tensor,
    /// i64 [batch, k]
    kept_classes: Tensor,
    /// `None` if every class is kept.
    tail_bucket: Option<TailBucket>,
}

/// Sampled soft targets of a batch.
#[derive(Debug)]
pub struct Drawn {
    /// i64 [batch, draws]
    classes: Tensor,
    /// Of the probabilities that the classes were drawn from.
    temperature: f64,
}

/// Summary of the classes that are not kept; see [`soft_targets::TailBucket`].
#[derive(Debug)]
struct TailBucket {
    /// f32 [batch, 1]
    log_mass: Tensor,
    /// f32 [batch, 1]
    mean_logit: Tensor,
    /// Number of these classes.
    classes: usize,
}

impl TeacherLogits {
    /// Copies encoded bytes into tensors, once, and lets libtorch widen them.
    pub fn new(targets: &SoftTargets) -> Result<Self, TchError> {
        let parts = targets.parts();
        let kept = targets.kept();
        let logits = |values| {
            let kind = match values {
                ValueType::F32 => Kind::Float,
                ValueType::F16 => Kind::Half,
            };
            rows(&parts.logits, kept, kind)?.f_to_kind(Kind::Float)
        };
        match targets.encoding() {
            Encoding::Dense(values) => Ok(Self::Dense(logits(values)?)),
            Encoding::Sampled(Sampling { temperature, .. }) => Ok(Self::Drawn(Drawn {
                classes: kept_classes(targets)?,
                temperature: temperature.into(),
            })),
            Encoding::TopK { values, .. } => Ok(Self::TopK(TopK {
                logits: logits(values)?,
                kept_classes: kept_classes(targets)?,
                tail_bucket: if parts.tail_buckets.is_empty() {
                    None
                } else {
                    let buckets = rows(&parts.tail_buckets, 2, Kind::Float)?;
                    Some(TailBucket {
                        log_mass: buckets.f_narrow(1, 0, 1)?,
                        mean_logit: buckets.f_narrow(1, 1, 1)?,
                        classes: targets.classes() - kept,
                    })
                },
            })),
        }
    }

    /// Moves the tensors to `device`.
    pub fn moved_to(self, device: Device) -> Result<Self, TchError> {
        Ok(match self {
            Self::Dense(logits) => Self::Dense(to_device(logits, device)?),
            Self::TopK(top) => Self::TopK(TopK {
                logits: to_device(top.logits, device)?,
                kept_classes: to_device(top.kept_classes, device)?,
                tail_bucket: top
                    .tail_bucket
                    .map(|bucket| bucket.moved_to(device))
                    .transpose()?,
            }),
            Self::Drawn(drawn) => Self::Drawn(Drawn {
                classes: to_device(drawn.classes, device)?,
                ..drawn
            }),
            Self::Mixture(components) => {
                let moved = |component: Component| -> Result<Component, TchError> {
                    Ok(Component {
                        logits: to_device(component.logits, device)?,
                        ..component
                    })
                };
                let components = components.into_iter().map(moved);
                Self::Mixture(components.collect::<Result<_, TchError>>()?)
            }
        })
    }

    /// Probabilities of the outcomes at `temperature`, f32 [batch, outcomes].
    ///
    /// # Errors
    /// If classes were drawn at another temperature: configurations with such a loss are refused.
    pub fn probabilities(&self, temperature: f64) -> Result<Tensor, TchError> {
        let Self::Drawn(drawn) = self else {
            return self.softened(temperature)?.f_softmax(-1, Kind::Float);
        };
        if drawn.temperature != temperature {
            let at = drawn.temperature;
            let text = format!(
                "the loss has the temperature {temperature}, but classes were drawn at {at}"
            );
            return Err(TchError::Shape(text));
        }
        let size = drawn.classes.size();
        let device = drawn.classes.device();
        Tensor::f_full(&size, 1.0 / size[1] as f64, (Kind::Float, device))
    }

    /// The same tensors once more.
    pub fn shallow_clone(&self) -> Self {
        match self {
            Self::Dense(logits) => Self::Dense(logits.shallow_clone()),
            Self::TopK(top) => Self::TopK(TopK {
                logits: top.logits.shallow_clone(),
                kept_classes: top.kept_classes.shallow_clone(),
                tail_bucket: top.tail_bucket.as_ref().map(TailBucket::shallow_clone),
            }),
            Self::Drawn(drawn) => Self::Drawn(Drawn {
                classes: drawn.classes.shallow_clone(),
                temperature: drawn.temperature,
            }),
            Self::Mixture(components) => {
                let components = components.iter().map(|component| Component {
                    log_weight: component.log_weight,
                    logits: component.logits.shallow_clone(),
                });
                Self::Mixture(components.collect())
            }
        }
    }

    /// Unnormalized log-probabilities of the outcomes at `temperature`: z_t / T of a class, and of the
    /// tail bucket what [`soft_targets::TailBucket`] estimates; of a mixture with the weights w_i,
    /// log Σ w_i softmax(z_i / T). f32 [batch, outcomes].
    ///
    /// # Errors
    /// If classes were drawn: configurations whose losses need logits are refused.
    pub fn softened(&self, temperature: f64) -> Result<Tensor, TchError> {
        match self {
            Self::Dense(logits) => logits.f_div_scalar(temperature),
            Self::Drawn(_) => Err(no_logits()),
            Self::TopK(top) => {
                let kept = top.logits.f_div_scalar(temperature)?;
                match &top.tail_bucket {
                    None => Ok(kept),
                    Some(bucket) => Tensor::f_cat(&[kept, bucket.softened(temperature)?], 1),
                }
            }
            Self::Mixture(components) => {
                let weighted = |component: &Component| -> Result<Tensor, TchError> {
                    let softened = component.logits.f_div_scalar(temperature)?;
                    let log_probabilities = softened.f_log_softmax(-1, Kind::Float)?;
                    log_probabilities.f_add_scalar(component.log_weight)
                };
                let weighted = components.iter().map(weighted);
                let weighted: Vec<Tensor> = weighted.collect::<Result<_, TchError>>()?;
                Tensor::f_stack(&weighted, 0)?.f_logsumexp([0], false)
            }
        }
    }

    /// The logits of all classes, f32 [batch, classes]; of a mixture, the logarithms of its probabilities at the
    /// temperature 1.
    ///
    /// # Errors
    /// If some were not kept: configurations whose losses need them are refused.
    pub fn all_classes(&self) -> Result<Tensor, TchError> {
        match self {
            Self::Dense(logits) => Ok(logits.shallow_clone()),
            Self::TopK(TopK {
                tail_bucket: Some(_),
                ..
            }) => Err(TchError::Shape(
                "the loss needs the teacher's logits of all classes".to_owned(),
            )),
            Self::TopK(top) => {
                let logits = top.logits.f_zeros_like()?;
                logits.f_scatter(1, &top.kept_classes, &top.logits)
            }
            Self::Drawn(_) => Err(no_logits()),
            Self::Mixture(_) => self.softened(1.0),
        }
    }

    /// The student's log-probabilities of the same outcomes from those of all classes, f32 [batch,
    /// classes]: of the tail bucket, the sum of the probabilities in it; of a draw, that of its class. Gradients
    /// flow through.
    pub fn of_student(&self, log_probabilities: Tensor) -> Result<Tensor, TchError> {
        let top = match self {
            Self::Dense(_) | Self::Mixture(_) => return Ok(log_probabilities),
            Self::Drawn(drawn) => return log_probabilities.f_gather(1, &drawn.classes, false),
            Self::TopK(top) => top,
        };
        let kept = log_probabilities.f_gather(1, &top.kept_classes, false)?;
        if top.tail_bucket.is_none() {
            return Ok(kept);
        }
        // Not 1 minus the others, which loses all digits if the bucket is small.
        let others = log_probabilities.f_scatter_value(1, &top.kept_classes, f64::NEG_INFINITY)?;
        Tensor::f_cat(&[kept, others.f_logsumexp([1], true)?], 1)
    }
}

impl TailBucket {
    fn shallow_clone(&self) -> Self {
        Self {
            log_mass: self.log_mass.shallow_clone(),
            mean_logit: self.mean_logit.shallow_clone(),
            classes: self.classes,
        }
    }

    fn moved_to(self, device: Device) -> Result<Self, TchError> {
        Ok(Self {
            log_mass: to_device(self.log_mass, device)?,
            mean_logit: to_device(self.mean_logit, device)?,
            ..self
        })
    }

    /// [`soft_targets::TailBucket::log_mass_at`], for a batch: f32 [batch, 1].
    fn softened(&self, temperature: f64) -> Result<Tensor, TchError> {
        let inverse = 1.0 / temperature;
        let log_count = (self.classes as f64).ln();
        let curvature = self
            .log_mass
            .f_sub_scalar(log_count)?
            .f_sub(&self.mean_logit)?;
        let estimate = curvature
            .f_mul_scalar(inverse)?
            .f_add(&self.mean_logit)?
            .f_mul_scalar(inverse)?
            .f_add_scalar(log_count)?;
        let bound = self.log_mass.f_mul_scalar(inverse)?;
        if temperature >= 1.0 {
            estimate.f_maximum(&bound)
        } else {
            estimate.f_minimum(&bound)
        }
    }
}

fn no_logits() -> TchError {
    TchError::Shape(
        "the loss needs the teacher's logits, but only drawn classes are known".to_owned(),
    )
}

/// i64 [batch, k], or [batch, draws]
fn kept_classes(targets: &SoftTargets) -> Result<Tensor, TchError> {
    let classes: Vec<i64> = targets.kept_classes().map(i64::from).collect();
    Tensor::f_from_slice(&classes)?.f_view([-1, targets.kept() as i64])
}

/// Little-endian `bytes` as a tensor [rows, `columns`].
fn rows(bytes: &[u8], columns: usize, kind: Kind) -> Result<Tensor, TchError> {
    let values = bytes.len() / kind.elt_size_in_bytes();
    Tensor::f_from_data_size(bytes, &[values as i64], kind)?.f_view([-1, columns as i64])
}

#[cfg(test)]
mod tests {
    use datasets::View;
    use soft_targets::{DrawSeeds, Encoder};

    use super::*;

    const ROWS: [f32; 8] = [1.5, -2.0, 0.25, 4.0, 0.0, 3.0, -1.0, 2.5];

    fn encoded(encoding: &str) -> SoftTargets {
        let encoding = encoding.parse().unwrap();
        Encoder::default().encode(encoding, &ROWS, 4).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.reshape([-1])).unwrap()
    }

    #[test]
    fn every_encoding_becomes_the_tensor_that_it_says() {
        for encoding in ["f32", "f16", "top-4", "top-2", "top-3-f32"] {
            let targets = encoded(encoding);
            let teacher = TeacherLogits::new(&targets).unwrap();
            let softened = teacher.softened(2.0).unwrap();
            let mut expected = Vec::new();
            let logits: Vec<f32> = targets.logits().collect();
            let mut buckets = targets.tail_buckets();
            for row in logits.chunks(targets.kept()) {
                expected.extend(row.iter().map(|logit| logit / 2.0));
                let others = 4 - targets.kept();
                expected.extend(
                    buckets
                        .next()
                        .map(|bucket| bucket.log_mass_at(2.0, others) as f32),
                );
            }
            for (found, expected) in values(&softened).iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{encoding}: {softened:?} {expected}"
                );
            }
            assert_eq!(softened.numel(), expected.len(), "{encoding}");
        }
    }

    #[test]
    fn drawn_classes_have_probabilities_at_their_temperature_and_no_logits() {
        let encoding = "sampled-5-t2".parse().unwrap();
        let seeds = DrawSeeds::of(encoding, View::Plain, 0..2);
        let targets = Encoder::default().encode_with_seeds(encoding, &ROWS, 4, &seeds);
        let targets = targets.unwrap();
        let drawn: Vec<u32> = targets.kept_classes().collect();
        let teacher = TeacherLogits::new(&targets).unwrap();
        let probabilities = teacher.probabilities(2.0).unwrap();
        assert_eq!(probabilities.size(), [2, 5]);
        assert_eq!(values(&probabilities), [0.2; 10]);
        let student = Tensor::from_slice2(&[[0.0f32, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]);
        let of_draws = values(&teacher.of_student(student).unwrap());
        for (at, (value, class)) in of_draws.iter().zip(&drawn).enumerate() {
            let row = (at / 5) as f32;
            assert_eq!(*value, 4.0 * row + *class as f32);
        }
        let error = teacher.probabilities(1.0).unwrap_err().to_string();
        assert!(
            error.contains("temperature 1") && error.contains("drawn at 2"),
            "{error}"
        );
        assert!(teacher.softened(2.0).is_err() && teacher.all_classes().is_err());
    }

    #[test]
    fn the_student_is_a_distribution_over_the_same_outcomes() {
        let student = Tensor::from_slice2(&[[0.1f32, 30.0, -40.0, 2.0], [1.0, 1.0, 1.0, 1.0]]);
        let log_probabilities = student.log_softmax(-1, Kind::Float);
        for encoding in ["f32", "top-1", "top-3", "top-9"] {
            let teacher = TeacherLogits::new(&encoded(encoding)).unwrap();
            let outcomes = teacher
                .of_student(log_probabilities.shallow_clone())
                .unwrap();
            assert_eq!(outcomes.size(), teacher.softened(1.0).unwrap().size());
            for mass in values(&outcomes.logsumexp([1], false)) {
                assert!(mass.abs() < 1e-5, "{encoding}: {mass}");
            }
        }
    }
}
