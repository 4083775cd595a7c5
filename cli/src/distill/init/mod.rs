//! `retort init`: writes the run of `retort distill` as files, for services on other machines.

use std::{future::pending, io, io::IsTerminal, path::Path};

use common::{
    atomic_file,
    output::{Messages, Results},
    shutdown::Signals,
};
use networks::{Cost, NetworkSpec, cost};
use tempfile::TempDir;

use super::{DistillArguments, data::Data, plan::run_config, teacher};
use crate::{
    CliError,
    local::{LocalServices, Processes},
};
use files::Files;

mod arguments;
mod files;
mod questions;
mod run_file;

pub use arguments::InitArguments;

/// `retort init`.
pub(crate) async fn execute(arguments: InitArguments) -> Result<(), CliError> {
    let mut flags = arguments.distill;
    let missing = questions::missing(&flags);
    if io::stdin().is_terminal() {
        let prompt = |text: &str| write!(Messages, "{text}");
        let answers = questions::ask(&missing, &mut io::stdin().lock(), prompt);
        flags.extend(answers.map_err(CliError::file("standard input"))?);
    } else {
        questions::require(&missing)?;
    }
    let plan = flags.parse()?;
    plan.check()?;
    let files = Files::in_folder(&plan.out);
    if !arguments.force {
        files.refuse_existing()?;
    }
    let data = Data::open(&plan)?;
    let class_names = match data.class_names() {
        [] => classes_of_teacher(&plan).await?,
        names => names.to_vec(),
    };
    let initial_weights = plan.initial_weights()?;
    let run = run_config(
        &plan,
        &data,
        &class_names,
        &arguments.endpoints,
        initial_weights.as_deref(),
    )?;
    let run = run_file::commented(run.table());
    let Cost {
        parameters,
        multiply_adds,
    } = student_cost(&run)?;
    std::fs::create_dir_all(&plan.out).map_err(CliError::file(&plan.out))?;
    let contents = [
        (&files.run, run),
        (&files.teacher, files::teacher(&plan)?),
        (
            &files.readme,
            files::readme(&plan, &data, &arguments.endpoints)?,
        ),
    ];
    for (file, text) in contents {
        atomic_file::write(file, text.as_bytes()).map_err(CliError::file(file))?;
    }
    writeln!(
        Results,
        "The student has {parameters} parameters and {multiply_adds} multiply-adds for one sample.\nWrote {}, \
         {} and {}, which says what to start where.",
        files.run.display(),
        files.teacher.display(),
        files.readme.display()
    )?;
    Ok(())
}

/// The size of the student; an error if its network is invalid, before anything is written.
fn student_cost(run: &str) -> Result<Cost, CliError> {
    #[derive(serde::Deserialize)]
    struct Run {
        network: NetworkSpec,
    }
    let invalid = |problem: String| CliError::Usage(format!("the student: {problem}"));
    let run: Run = toml::from_str(run).map_err(|error| invalid(error.message().to_owned()))?;
    cost(&run.network).map_err(|error| invalid(error.to_string()))
}

/// The classes of data without labels are the teacher's, which is started to ask it.
async fn classes_of_teacher(plan: &DistillArguments) -> Result<Vec<String>, CliError> {
    let mut signals = Signals::listen().map_err(CliError::Signals)?;
    let logs = TempDir::with_prefix("retort-init-");
    let logs = logs.map_err(CliError::file(std::env::temp_dir()))?;
    let (processes, mut deaths) = Processes::new(logs.path().to_owned())?;
    processes.check(&["teacher-service"])?;
    writeln!(
        Messages,
        "The data has no labels; starting the teacher to ask for its classes …"
    );
    let mut services = LocalServices::new(processes);
    let describe = async {
        let model = plan.teacher_model()?;
        let address = services.start_teacher("teacher", &model).await?;
        teacher::describe(&address.to_string()).await
    };
    let described = tokio::select! {
        described = describe => described,
        death = deaths.next() => Err(death.into()),
        signal = signals.next() => Err(CliError::Stopped(signal)),
    };
    services.into_parts().0.stop(pending()).await;
    if let Err(CliError::Local(_)) = described {
        // The error names a log in it.
        let _ = logs.keep();
    }
    Ok(described?.class_names)
}

/// The path as text for a file that may be moved: absolute if it exists on this machine.
fn absolute(path: &Path) -> String {
    let absolute = path.canonicalize();
    absolute.as_deref().unwrap_or(path).display().to_string()
}
