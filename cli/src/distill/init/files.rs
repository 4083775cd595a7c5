//! The files that `retort init` writes.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::absolute;
use crate::{
    CliError,
    distill::{DistillArguments, data::Data},
    run_config::RunConfigText,
    text_path::text_path,
};

/// The files of a folder.
pub(super) struct Files {
    pub run: PathBuf,
    pub teacher: PathBuf,
    pub readme: PathBuf,
}

impl Files {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            run: folder.join("run.toml"),
            teacher: folder.join("teacher-service.toml"),
            readme: folder.join("README.md"),
        }
    }

    /// Refuses to replace what may have been edited.
    pub(super) fn refuse_existing(&self) -> Result<(), CliError> {
        let mut files = [&self.run, &self.teacher, &self.readme].into_iter();
        match files.find(|file| file.exists()) {
            None => Ok(()),
            Some(file) => Err(CliError::Usage(format!(
                "{} exists; choose another folder with --out, or replace it with --force",
                file.display()
            ))),
        }
    }
}

/// The teacher's configuration: `--teacher-config`, its model, and the settings of `--teacher-set`.
pub(super) fn teacher(plan: &DistillArguments) -> Result<String, CliError> {
    let mut config = match &plan.teacher_config {
        Some(file) => RunConfigText::read(file)?,
        None => RunConfigText::default(),
    };
    let mut set = |key: &str, value: Value| {
        let set = config.set(key, value);
        set.map_err(|problem| CliError::Usage(format!("--teacher-set {key}: {problem}")))
    };
    let path = if plan.teacher.contains("://") {
        plan.teacher.clone()
    } else {
        absolute(Path::new(&plan.teacher))
    };
    set("model.path", path.into())?;
    set("grpc.listen", "127.0.0.1:50051".into())?;
    for setting in &plan.teacher_settings {
        let Some((key, value)) = setting.split_once('=') else {
            let problem = format!("--teacher-set {setting}: no `=`; give key.path=value");
            return Err(CliError::Usage(problem));
        };
        set(key.trim(), toml_value(value))?;
    }
    Ok(format!(
        "# A teacher for `teacher-service serve --config`; configs/teacher-service.toml explains all keys and their\n\
         # defaults. On a machine of its own, the teacher listens on an address that the trainer reaches, for example\n\
         # grpc.listen = \"0.0.0.0:50051\", with tokens or client certificates (docs/security.md).\n\n{}",
        config.to_toml()
    ))
}

/// A value as `--set` reads it: TOML, or else text.
fn toml_value(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>();
    let parsed = parsed.ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| text.into())
}

/// What to start where.
pub(super) fn readme(
    plan: &DistillArguments,
    data: &Data,
    endpoints: &[String],
) -> Result<String, CliError> {
    let initial_weights = plan.initial_weights()?;
    let mut read = vec![text_path(&data.path)?];
    let baseline = plan.gate.baseline()?;
    let signing_key = plan.signing_key()?;
    for path in initial_weights.iter().chain(&baseline).chain(&signing_key) {
        read.push(text_path(path)?);
    }
    let read = Value::from(read);
    let teachers = endpoints.join(", ");
    let mut text = format!(
        "# Distillation of {}

Each command runs until Ctrl-C. Without changes, all of them run on this machine.

1. The teacher, on every machine that has the model; `run.toml` expects {teachers}:

       teacher-service serve --config teacher-service.toml

2. The trainer, on the machine that has the data:

       student-trainer serve --set 'allowed_folders={read}'

",
        plan.teacher,
    );
    let run = match &plan.publish {
        Some(endpoint) => {
            text += &format!(
                "3. The inference service with the admin port {endpoint}:

       inference-service serve

"
            );
            4
        }
        None => 3,
    };
    text += &format!(
        "{run}. The run, from any machine that reaches the trainer:

       retort run run.toml --trainer 127.0.0.1:50052

The trainer writes the student to `runs/run/artifact`. `retort serve runs/run` serves it. The same run gives the
same bytes again, whatever fails in between.

The ports listen on this machine only until their configurations say otherwise: docs/security.md.
"
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_toml_or_text() {
        for (text, expected) in [
            ("[0.5, 1.0]", toml::toml! { value = [0.5, 1.0] }),
            ("unit", toml::toml! { value = "unit" }),
            ("\"unit\"", toml::toml! { value = "unit" }),
            ("a\nb = 1", toml::toml! { value = "a\nb = 1" }),
        ] {
            assert_eq!(toml_value(text), expected["value"], "{text}");
        }
    }
}
