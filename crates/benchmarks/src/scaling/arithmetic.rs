//! Part `arithmetic`: what limits many teachers, and when recording beats live soft targets, from measured figures.

mod report;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{
    link::Link,
    message_bytes::{ByteFigures, SampleBytes},
    recording::RecordingFigures,
    teachers::TeacherFigures,
    workers::WorkerFigures,
};

/// Numbers of teachers.
const TEACHERS: [usize; 3] = [10, 100, 1_000];
/// Epochs with soft targets of the compared runs.
const EPOCHS: usize = 30;
/// Views of the compared recordings.
const VIEWS: [usize; 4] = [1, 4, 10, 30];

/// What was measured. Speeds are samples/s of one core.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// The demo's teacher as a service.
    teacher: f64,
    /// A trainer's pool of teachers.
    pool: f64,
    /// The demo's student in training.
    student: f64,
    /// A process that records.
    recorder: f64,
    /// Images of Fashion-MNIST and of ImageNet-1k.
    images: [SampleBytes; 2],
    /// Bytes per sample in a request by reference.
    reference: f64,
}

/// What follows from the measurements, for a data set of `images` images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ArithmeticFigures {
    images: usize,
    /// Of the trainer's machine.
    link: Link,
    /// Teachers of one core each that keep a process busy that trains the demo's student on one core.
    teachers_per_trainer: f64,
    /// Teachers of one core each that keep a process busy that records on one core.
    teachers_per_recorder: f64,
    /// One process with the demo's teachers and student, and images of Fashion-MNIST as pixels.
    limits: Vec<Limited>,
    /// What the link alone carries.
    crossings: Vec<Crossing>,
    /// Epochs of the runs that are compared below.
    epochs: usize,
    /// Time of one core of the demo's teachers for a run with live soft targets, hours.
    live_core_hours: f64,
    recordings: Vec<Recorded>,
}

/// What a process does with soft targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Work {
    /// Trains the demo's student on one core, with live soft targets.
    Train,
    /// Records on one core.
    Record,
}

/// What can limit a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Resource {
    /// All teachers together, one core each.
    Teachers,
    /// The core that trains the student.
    Training,
    /// A core for the network threads of the trainer.
    Pool,
    /// The core that records.
    Recorder,
    /// The link of the process's machine.
    Link,
}

/// One process with so many teachers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Limited {
    teachers: usize,
    work: Work,
    /// Samples/s that each resource allows.
    samples_per_second: BTreeMap<Resource, f64>,
    /// The one that allows the fewest.
    limit: Resource,
    /// Time for all images once.
    seconds: f64,
    /// Processes, each on a machine of its own, that keep all teachers busy.
    processes_for_all_teachers: u64,
}

/// What a link carries of images of one kind, with soft targets in f16.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Crossing {
    /// Channels, height and width.
    shape: String,
    classes: usize,
    pixels_samples_per_second: f64,
    /// Time for all images once, as pixels.
    pixels_seconds: f64,
    reference_samples_per_second: f64,
    /// Time for all images once, by reference.
    reference_seconds: f64,
}

/// A recording in f16 of the demo's teachers, beside live soft targets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Recorded {
    views: usize,
    /// Time of one core of the teachers, hours.
    core_hours: f64,
    /// Of the recording, 10^9 bytes.
    gigabytes: f64,
    /// Hours that it saves of a run with live soft targets; negative if it takes longer.
    saved_core_hours: f64,
    /// The same for each of its gigabytes.
    saved_core_hours_per_gigabyte: f64,
}

impl Measured {
    /// Takes what the arithmetic needs.
    ///
    /// # Errors
    /// If a figure was not measured.
    pub(super) fn of(
        teachers: &TeacherFigures,
        bytes: &ByteFigures,
        recording: &RecordingFigures,
        workers: &WorkerFigures,
    ) -> Result<Self> {
        let student = workers.student_samples_per_second();
        Ok(Self {
            teacher: teachers.served.median,
            pool: 1e6 / teachers.pool_cpu_us.median,
            student: student.context(
                "the arithmetic needs the training of demo-student by 1 process: --networks and --processes of \
                 the part workers left it out",
            )?,
            recorder: 1e6 / recording.process_cpu_us,
            images: bytes.of_images()?,
            reference: bytes.reference,
        })
    }

    /// Whether no speed is 0, infinite or negative, as too short measurements give.
    pub(super) fn is_usable(&self) -> bool {
        let speeds = [self.teacher, self.pool, self.student, self.recorder];
        speeds.iter().all(|speed| speed.is_finite() && *speed > 0.0)
    }

    /// The process that does `work` with so many teachers.
    fn limited(&self, work: Work, teachers: usize, images: usize, link: Link) -> Limited {
        let sample = &self.images[0];
        let own = match work {
            Work::Train => vec![
                (Resource::Training, self.student),
                (Resource::Pool, self.pool),
            ],
            Work::Record => vec![(Resource::Recorder, self.recorder)],
        };
        let carried = link.samples_per_second(sample.pixels, sample.answer);
        let of_process = own.into_iter().chain([(Resource::Link, carried)]);
        let of_process: BTreeMap<Resource, f64> = of_process.collect();
        let process = of_process.values().copied().fold(f64::INFINITY, f64::min);
        let answered = teachers as f64 * self.teacher;
        let mut all = of_process;
        all.insert(Resource::Teachers, answered);
        let slowest = all
            .iter()
            .min_by(|(_, one), (_, other)| one.total_cmp(other));
        // Holds: it has at least the teachers.
        let (&limit, &speed) = slowest.expect("a process has resources");
        Limited {
            teachers,
            work,
            limit,
            seconds: images as f64 / speed,
            processes_for_all_teachers: (answered / process).ceil() as u64,
            samples_per_second: all,
        }
    }

    fn crossing(&self, sample: &SampleBytes, images: usize, link: Link) -> Crossing {
        let pixels = link.samples_per_second(sample.pixels, sample.answer);
        let reference = link.samples_per_second(self.reference, sample.answer);
        Crossing {
            shape: sample.shape.clone(),
            classes: sample.classes,
            pixels_samples_per_second: pixels,
            pixels_seconds: images as f64 / pixels,
            reference_samples_per_second: reference,
            reference_seconds: images as f64 / reference,
        }
    }

    /// Hours in which one core of the demo's teachers answers `samples` samples.
    fn core_hours(&self, samples: usize) -> f64 {
        samples as f64 / self.teacher / 3_600.0
    }

    fn recorded(&self, views: usize, images: usize) -> Recorded {
        let core_hours = self.core_hours(views * images);
        let gigabytes = (views * images) as f64 * self.images[0].recorded / 1e9;
        let saved = self.core_hours(EPOCHS * images) - core_hours;
        Recorded {
            views,
            core_hours,
            gigabytes,
            saved_core_hours: saved,
            saved_core_hours_per_gigabyte: saved / gigabytes,
        }
    }
}

impl ArithmeticFigures {
    /// The figures of a data set of `images` images, for machines with this link.
    pub(super) fn of(measured: &Measured, images: usize, link: Link) -> Self {
        let limited = |work: Work| {
            let of = move |teachers| measured.limited(work, teachers, images, link);
            TEACHERS.map(of)
        };
        let crossings = measured.images.iter();
        let recordings = VIEWS.map(|views| measured.recorded(views, images));
        Self {
            images,
            link,
            teachers_per_trainer: measured.student / measured.teacher,
            teachers_per_recorder: measured.recorder / measured.teacher,
            limits: [limited(Work::Train), limited(Work::Record)].concat(),
            crossings: crossings
                .map(|sample| measured.crossing(sample, images, link))
                .collect(),
            epochs: EPOCHS,
            live_core_hours: measured.core_hours(EPOCHS * images),
            recordings: recordings.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link {
        gigabits_per_second: 1.0,
        latency_us: 50.0,
    };

    fn measured() -> Measured {
        let images = [
            ("1x28x28", 10, 800.0, 20.0),
            ("3x224x224", 1_000, 150_000.0, 2_000.0),
        ];
        Measured {
            teacher: 8_000.0,
            pool: 2_000_000.0,
            student: 10_000.0,
            recorder: 100_000.0,
            images: images.map(|(shape, classes, pixels, answer)| SampleBytes {
                shape: shape.to_owned(),
                classes,
                pixels,
                answer,
                recorded: answer,
            }),
            reference: 4.0,
        }
    }

    fn is_near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-9, "{found}, {expected}");
    }

    #[test]
    fn the_slowest_resource_limits() {
        let measured = measured();
        let of = |work, teachers| measured.limited(work, teachers, 1_000_000, LINK);
        // 1 teacher gives 8,000 samples/s, and the student takes 10,000.
        let one = of(Work::Train, 1);
        assert_eq!(
            (one.limit, one.processes_for_all_teachers),
            (Resource::Teachers, 1)
        );
        is_near(one.seconds, 125.0);
        // 100 give 800,000, for which 80 students are needed.
        let many = of(Work::Train, 100);
        assert_eq!(
            (many.limit, many.processes_for_all_teachers),
            (Resource::Training, 80)
        );
        is_near(many.seconds, 100.0);
        // A gigabit a second is 125,000,000 bytes: 156,250 samples of 800 bytes.
        is_near(many.samples_per_second[&Resource::Link], 156_250.0);
        // A process records 100,000 samples/s.
        let recorded = of(Work::Record, 1_000);
        assert_eq!(
            (recorded.limit, recorded.processes_for_all_teachers),
            (Resource::Recorder, 80)
        );
        is_near(recorded.seconds, 10.0);
        let slow = Link {
            gigabits_per_second: 0.1,
            ..LINK
        };
        let over_slow = measured.limited(Work::Record, 1_000, 1_000_000, slow);
        assert_eq!(over_slow.limit, Resource::Link);
        is_near(over_slow.seconds, 64.0);
    }

    #[test]
    fn a_process_uses_as_many_teachers_as_keep_it_busy() {
        let figures = ArithmeticFigures::of(&measured(), 1_000_000, LINK);
        // 10,000 and 100,000 samples/s, divided by 8,000.
        is_near(figures.teachers_per_trainer, 1.25);
        is_near(figures.teachers_per_recorder, 12.5);
    }

    #[test]
    fn references_leave_the_answers_to_the_link() {
        let figures = ArithmeticFigures::of(&measured(), 1_000_000, LINK);
        let [small, large] = &figures.crossings[..] else {
            panic!("two kinds of images");
        };
        // 125,000,000 bytes/s divided by 800 and 20, and by 150,000 and 2,000 bytes.
        is_near(small.pixels_seconds, 6.4);
        is_near(small.reference_samples_per_second, 6_250_000.0);
        is_near(large.pixels_seconds, 1_200.0);
        is_near(large.reference_seconds, 16.0);
    }

    #[test]
    fn a_recording_saves_what_epochs_exceed_its_views() {
        let figures = ArithmeticFigures::of(&measured(), 1_000_000, LINK);
        // 30,000,000 samples at 8,000 samples/s: 3,750 s.
        is_near(figures.live_core_hours, 3_750.0 / 3_600.0);
        let [_, four, _, thirty] = &figures.recordings[..] else {
            panic!("four numbers of views");
        };
        // 500 s and 4,000,000 × 20 bytes.
        is_near(four.core_hours, 500.0 / 3_600.0);
        is_near(four.gigabytes, 0.08);
        is_near(four.saved_core_hours, 3_250.0 / 3_600.0);
        is_near(four.saved_core_hours_per_gigabyte, 3_250.0 / 3_600.0 / 0.08);
        assert_eq!(thirty.saved_core_hours, 0.0);
    }

    #[test]
    fn speeds_of_too_short_measurements_are_not_usable() {
        assert!(measured().is_usable());
        for recorder in [0.0, f64::INFINITY, -1.0, f64::NAN] {
            let short = Measured {
                recorder,
                ..measured()
            };
            assert!(!short.is_usable(), "{recorder}");
        }
    }
}
