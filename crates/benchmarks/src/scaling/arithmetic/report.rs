//! The figures as a table.

use std::fmt;

use super::{ArithmeticFigures, Resource, Work};

impl fmt::Display for ArithmeticFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "by arithmetic, {} images, a link of {} Gbit/s",
            self.images, self.link.gigabits_per_second
        )?;
        writeln!(
            f,
            "  a process that trains on one core uses {:.2} teachers, one that records {:.2}",
            self.teachers_per_trainer, self.teachers_per_recorder
        )?;
        for limited in &self.limits {
            writeln!(
                f,
                "  {} teachers, one process that {}: limited by {}, {:.1} s for all images; {} such processes keep \
                 all teachers busy",
                limited.teachers,
                limited.work.verb(),
                limited.limit.name(),
                limited.seconds,
                limited.processes_for_all_teachers
            )?;
            for (resource, speed) in &limited.samples_per_second {
                writeln!(f, "    {:<20} {speed:.0} samples/s", resource.name())?;
            }
        }
        writeln!(f, "  what the link alone carries")?;
        for crossing in &self.crossings {
            writeln!(
                f,
                "    {}, {} classes in f16: pixels {:.0} samples/s, {:.1} s; by reference {:.0} samples/s, {:.1} s",
                crossing.shape,
                crossing.classes,
                crossing.pixels_samples_per_second,
                crossing.pixels_seconds,
                crossing.reference_samples_per_second,
                crossing.reference_seconds
            )?;
        }
        writeln!(
            f,
            "  {} epochs with live soft targets: {:.2} core-hours of teachers",
            self.epochs, self.live_core_hours
        )?;
        for recorded in &self.recordings {
            writeln!(
                f,
                "    recording of {} views: {:.2} core-hours, {:.2} GB; saves {:.2} core-hours, {:.2} for each GB",
                recorded.views,
                recorded.core_hours,
                recorded.gigabytes,
                recorded.saved_core_hours,
                recorded.saved_core_hours_per_gigabyte
            )?;
        }
        Ok(())
    }
}

impl Work {
    fn verb(self) -> &'static str {
        match self {
            Self::Train => "trains",
            Self::Record => "records",
        }
    }
}

impl Resource {
    fn name(self) -> &'static str {
        match self {
            Self::Teachers => "all teachers",
            Self::Training => "the training core",
            Self::Pool => "the trainer's pool",
            Self::Recorder => "the recording core",
            Self::Link => "the link",
        }
    }
}
