//! Batches by reference: trainers send positions in data that the teacher has too, and the teacher renders the samples.

use std::sync::Arc;

use datasets::{
    Augmentation, BatchAssembler, DatasetError, SampleError, SampleKind, Source, Subset, Target,
    Targets, Values,
};
use soft_targets::{DataReference, SampleReferences, ViewSet};

use crate::{
    backend::Description,
    batch::{Batch, Input},
    data_config::DataConfig,
};

/// The training split of a data set on this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedData(Subset);

/// The training samples of one run, as its trainer sees them. Renders exactly the values that it would send.
#[derive(Debug)]
pub struct RunSamples {
    samples: Subset,
    augmentation: Augmentation,
    targets: Targets,
    /// Bytes of one sample as a tensor.
    sample_bytes: usize,
}

impl SharedData {
    /// Opens the data, and reads every sample once.
    ///
    /// # Errors
    /// See [`DatasetError`].
    pub fn open(config: &DataConfig) -> Result<Self, DatasetError> {
        let opened = datasets::open(&config.spec(), &|_| {})?;
        Ok(Self(Subset::whole(opened.train)))
    }

    /// Fingerprint of the training split.
    pub fn fingerprint(&self) -> &str {
        self.0.fingerprint()
    }

    /// Number of samples of the training split.
    pub fn samples(&self) -> usize {
        self.0.len()
    }

    /// The samples of `run` for the input of `teacher`. Reads the samples of the run's probe, which may take
    /// `max_batch_bytes` at the student's size.
    ///
    /// # Errors
    /// How this data or what is rendered from it differs from the run's, or what the run asks for out of range.
    pub fn samples_of(
        &self,
        run: &DataReference,
        teacher: &Description,
        max_batch_bytes: usize,
    ) -> Result<RunSamples, String> {
        if run.split_fingerprint != self.fingerprint() {
            return Err(differs(
                "training split",
                &run.split_fingerprint,
                self.fingerprint(),
            ));
        }
        let samples = self.part_of(run)?;
        if samples.fingerprint() != run.samples_fingerprint {
            let found = samples.fingerprint();
            return Err(differs("training samples", &run.samples_fingerprint, found));
        }
        let input = teacher_input(teacher, samples.kind())?;
        let value_bytes = teacher.input.data_type.size().unwrap_or(1);
        let sample_bytes = input.shape.iter().product::<usize>() * value_bytes;
        check_views(&run.views, samples.kind(), max_batch_bytes)?;
        let ViewSet {
            seed,
            augmentation,
            input: ref student,
            ..
        } = run.views;
        let views = ViewSet::of(&samples, augmentation, seed, student);
        let views = views.map_err(|error| error.to_string())?;
        if views != run.views {
            return Err("this version renders the samples differently than the trainer".to_owned());
        }
        Ok(RunSamples {
            targets: Targets::new(student, Some(input)),
            samples,
            augmentation,
            sample_bytes,
        })
    }

    /// The part of the split that `run` trains on.
    fn part_of(&self, run: &DataReference) -> Result<Subset, String> {
        let available = self.0.len() as u64;
        let wanted = run.held_out.saturating_add(run.drawn);
        if wanted > available || run.held_out == available {
            return Err(format!(
                "{} samples held out and {} drawn of {available}",
                run.held_out, run.drawn
            ));
        }
        let failed = |error: DatasetError| error.to_string();
        let mut samples = self.0.clone();
        // Both numbers are below 2^32: see `Source::len`.
        if run.held_out > 0 {
            samples = samples.hold_out(run.held_out as usize).map_err(failed)?.0;
        }
        if run.drawn > 0 {
            samples = samples.sample(run.drawn as usize).map_err(failed)?;
        }
        Ok(samples)
    }
}

fn differs(what: &str, wanted: &str, found: &str) -> String {
    format!("the run's {what} ({wanted:.12}) and this teacher's ({found:.12}) differ")
}

/// The teacher's input, if batches of samples of `kind` can be made for it.
fn teacher_input(teacher: &Description, kind: SampleKind) -> Result<Target, String> {
    let shape = teacher.input.dimensions.sample_shape().unwrap_or_default();
    let same_type = kind.tensor("").data_type == teacher.input.data_type;
    if same_type && datasets::fits(kind, &shape) {
        let interpolation = teacher.interpolation;
        return Ok(Target {
            shape,
            interpolation,
        });
    }
    let (found, taken) = (kind.tensor("samples"), &teacher.input);
    Err(format!(
        "the data are {found}, and the teacher takes {taken}"
    ))
}

/// Checks the settings of a trainer, with which samples are rendered: they come from another machine.
fn check_views(views: &ViewSet, kind: SampleKind, max_batch_bytes: usize) -> Result<(), String> {
    let ViewSet {
        augmentation,
        input,
        ..
    } = views;
    if !datasets::fits(kind, input) {
        let found = kind.tensor("samples");
        return Err(format!(
            "the data are {found}, and the student takes {input:?}"
        ));
    }
    // The probe is rendered at the student's size.
    let values = input.iter().fold(1_u128, |product, size| {
        product.saturating_mul(*size as u128)
    });
    if values.saturating_mul(ViewSet::PROBED as u128) > max_batch_bytes as u128 {
        return Err(format!(
            "{} samples at the student's size {input:?} take more than grpc.max_message_bytes = {max_batch_bytes}",
            ViewSet::PROBED
        ));
    }
    let checked = match input[..] {
        [_, height, width] => augmentation.check([height, width]),
        _ => augmentation.check_rows(),
    };
    checked.map_err(|error| error.to_string())
}

impl RunSamples {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the values of `references` take.
    pub fn bytes(&self, references: &SampleReferences) -> usize {
        references.len().saturating_mul(self.sample_bytes)
    }

    /// Reads and renders the samples of a batch. Takes as long as decoding them; must not be called from an async task.
    ///
    /// # Errors
    /// The first sample that cannot be read, or that has changed since the data was opened.
    pub fn render(&self, references: &SampleReferences) -> Result<Batch, SampleError> {
        let (view, targets) = (references.view(), self.targets.clone());
        let assembler = BatchAssembler::new(&self.samples, self.augmentation, view, targets);
        let values = assembler.assemble_for_teacher(&references.positions())?;
        Ok(Batch {
            samples: references.len(),
            input: match values {
                Values::Uint8(pixels) => Input::U8(pixels.into()),
                Values::Fp32(values) => Input::F32(values),
            },
        })
    }
}

/// Renders `references` on a thread that may block.
///
/// # Errors
/// Why they cannot be rendered.
pub async fn render(
    samples: Arc<RunSamples>,
    references: SampleReferences,
) -> Result<Batch, String> {
    let rendering = tokio::task::spawn_blocking(move || samples.render(&references));
    match rendering.await {
        Ok(rendered) => rendered.map_err(|error| error.to_string()),
        // The log contains the panic.
        Err(_) => Err("the samples could not be rendered".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use artifacts::manifest::TeacherIdentity;
    use datasets::{InMemoryImages, Interpolation, Mixup, View};
    use tensors::{DataType, TensorSpec};

    use super::*;

    const MAX_BYTES: usize = 1 << 20;
    const VIEW: View = View::OfEpoch {
        seed: 3,
        phase: 0,
        epoch: 2,
    };

    fn data() -> SharedData {
        let pixels = (0..20 * 36).map(|value| (value * 7 % 256) as u8).collect();
        let labels = (0..20).map(|sample| Some(sample % 2)).collect();
        let names = vec!["a".to_owned(), "b".to_owned()];
        let images = InMemoryImages::new([1, 6, 6], names, pixels, labels);
        SharedData(Subset::whole(Arc::new(images)))
    }

    fn teacher() -> Description {
        Description {
            identity: TeacherIdentity {
                model_id: "m".to_owned(),
                numerics: "n".to_owned(),
                probe_sha256: "p".to_owned(),
            },
            input: TensorSpec::batch_of("input", DataType::Uint8, &[3, 8, 8]),
            interpolation: Interpolation::Bicubic,
            preprocessing: String::new(),
            class_names: vec!["a".to_owned(), "b".to_owned()],
        }
    }

    fn augmentation() -> Augmentation {
        Augmentation {
            pad: 2,
            horizontal_flip: true,
            mixup: Some(Mixup { alpha: 1.0 }),
            ..Augmentation::default()
        }
    }

    /// The samples of a run that holds `held_out` out and draws `drawn`, and its reference to them.
    fn run(held_out: usize, drawn: usize) -> (Subset, DataReference) {
        let mut samples = data().0;
        if held_out > 0 {
            samples = samples.hold_out(held_out).unwrap().0;
        }
        if drawn > 0 {
            samples = samples.sample(drawn).unwrap();
        }
        let input = [1, 6, 6];
        let reference = DataReference::of(&samples, held_out, drawn, augmentation(), &input);
        (samples, reference.unwrap())
    }

    #[test]
    fn the_teacher_renders_what_the_trainer_would_send() {
        for (held_out, drawn) in [(0, 0), (5, 0), (0, 8), (5, 8)] {
            let (samples, reference) = run(held_out, drawn);
            let read = DataReference::from_wire(reference.to_wire()).unwrap();
            let found = data().samples_of(&read, &teacher(), MAX_BYTES).unwrap();
            assert_eq!(found.len(), samples.len());
            let target = Target {
                shape: vec![3, 8, 8],
                interpolation: Interpolation::Bicubic,
            };
            let targets = Targets::new(&[1, 6, 6], Some(target));
            let assembler = BatchAssembler::new(&samples, augmentation(), VIEW, targets);
            let sent = assembler.assemble(&[4, 0, 7]).unwrap().teacher_values;
            let Some(Values::Uint8(sent)) = sent else {
                panic!("the teacher has another input");
            };
            let references = |positions: [u32; 3]| SampleReferences::of(VIEW, positions).unwrap();
            assert_eq!(found.bytes(&references([4, 0, 7])), sent.len());
            let rendered = found.render(&references([4, 0, 7])).unwrap();
            assert_eq!(
                (rendered.samples, rendered.input),
                (3, Input::U8(sent.into()))
            );
            let other = found.render(&references([4, 0, 6])).unwrap();
            assert_ne!(other, found.render(&references([4, 0, 7])).unwrap());
        }
    }

    #[test]
    fn what_differs_or_is_out_of_range_is_refused() {
        type Change = fn(&mut DataReference);
        let cases: [(Change, &str); 9] = [
            (|run| run.split_fingerprint = "abc".into(), "training split"),
            (
                |run| run.samples_fingerprint = "abc".into(),
                "training samples",
            ),
            (|run| run.drawn = 7, "training samples"),
            (|run| run.held_out = 20, "20 samples held out"),
            (|run| run.held_out = u64::MAX, "samples held out"),
            (|run| run.views.seed = 9, "renders the samples differently"),
            (
                |run| run.views.input = vec![6, 6],
                "the student takes [6, 6]",
            ),
            (
                |run| run.views.input = vec![3, usize::MAX, 9],
                "max_message_bytes",
            ),
            (|run| run.views.augmentation.pad = 6, "pad = 6"),
        ];
        for (change, named) in cases {
            let (_, mut reference) = run(0, 8);
            change(&mut reference);
            let error = data().samples_of(&reference, &teacher(), MAX_BYTES);
            let error = error.unwrap_err();
            assert!(error.contains(named), "{named} is not in: {error}");
        }
        let rows = Description {
            input: TensorSpec::batch_of("input", DataType::Fp32, &[36]),
            ..teacher()
        };
        let error = data()
            .samples_of(&run(0, 8).1, &rows, MAX_BYTES)
            .unwrap_err();
        assert!(error.contains("the teacher takes"), "{error}");
    }
}
