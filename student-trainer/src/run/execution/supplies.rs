//! The soft targets of a run, and the teachers that they come from.

use artifacts::manifest::TeacherIdentity;

use super::Run;
use crate::{
    run::{
        agreement, checkpoint::Checkpoint, error::RunError, resumed_teachers, teachers::RunTeachers,
    },
    soft_targets::{RunReference, SoftTargetEpochs, SupplyContext, TeacherSupplies},
};

impl Run<'_> {
    /// The teachers of the run, the same for all workers.
    ///
    /// # Errors
    /// If a teacher is another one than before, or the workers differ.
    pub(super) fn agreed_teachers(
        &self,
        supplies: &TeacherSupplies<'_>,
    ) -> Result<RunTeachers, RunError> {
        let teachers = self.teachers_before();
        let teachers = resumed_teachers::continued(teachers, supplies, &self.config)?;
        agreement::on_teachers(self.context.workers, &self.config, &teachers)?;
        Ok(teachers)
    }

    /// The soft targets that the rest of the run needs.
    ///
    /// # Errors
    /// If a teacher or a recording does not have them.
    pub(super) fn soft_targets(&self) -> Result<TeacherSupplies<'_>, RunError> {
        let teachers = self.config.all_teachers().into_iter();
        let reference = RunReference::default();
        let contexts = teachers.map(|teacher| SupplyContext {
            config: &self.config,
            teacher,
            epochs: self.soft_target_epochs(teacher.position),
            teacher_before: self.teacher_before(teacher.name),
            train: &self.data.train,
            reference: reference.clone(),
            cancel: self.context.cancel,
            runtime: self.context.runtime,
        });
        let notices = self.events.notices();
        let cancel = self.context.cancel;
        let supplies = TeacherSupplies::prepare(contexts.collect(), &notices, cancel);
        Ok(supplies?)
    }

    /// The epochs that still need the soft targets of the teacher at position `teacher`.
    fn soft_target_epochs(&self, teacher: usize) -> SoftTargetEpochs {
        SoftTargetEpochs::left(&self.config, teacher, |index| match &self.resumed {
            Some(Checkpoint { run, .. }) if index < run.phase => self.config.phases[index].epochs,
            Some(Checkpoint { run, phase }) if index == run.phase => {
                let config = &self.config.phases[index];
                if phase.progress.is_over(config) {
                    config.epochs
                } else {
                    phase.progress.epoch
                }
            }
            _ => 0,
        })
    }

    /// The teachers whose soft targets the run used before it was interrupted.
    fn teachers_before(&self) -> RunTeachers {
        let resumed = self.resumed.as_ref();
        resumed.map_or_else(RunTeachers::default, |it| it.run.used_teachers())
    }

    fn teacher_before(&self, name: Option<&str>) -> Option<&TeacherIdentity> {
        let run = &self.resumed.as_ref()?.run;
        match name {
            Some(name) => Some(&run.teachers.get(name)?.identity),
            None => run.teacher.as_ref(),
        }
    }
}
