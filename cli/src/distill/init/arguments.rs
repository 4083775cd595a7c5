//! The flags of `retort init`: those of `retort distill`, of which none is required, and a few of its own.

use std::ffi::OsString;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Parser, parser::ValueSource};

use crate::{CliError, distill::DistillArguments};

const EXAMPLES: &str = "\
Examples:
  retort init                                  asks five questions
  retort init --teacher resnet50.onnx --data photos/ --student cnn --epochs 20 --out big-run/
  retort init --teacher resnet50.onnx --data photos/ --publish inference:8003 --model photos \\
      --teacher-endpoint teachers:50051 --out big-run/

It writes run.toml for `retort run`, teacher-service.toml for `teacher-service serve --config`, and README.md
with the commands. With the same flags, the run gives the same bytes as `retort distill`.";

/// Flags that only make sense while the services run on this machine.
const LEFT_OUT: [&str; 1] = ["teachers"];
const FOLDER: &str = "out";

/// Write a distillation as configuration files, for services on other machines.
#[derive(Debug)]
pub struct InitArguments {
    /// Whether existing files are replaced.
    pub(super) force: bool,
    /// `host:port` of each teacher service of the run.
    pub(super) endpoints: Vec<String>,
    pub(super) distill: Flags,
}

/// Flags of `retort distill` as they were typed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Flags(Vec<OsString>);

/// What `retort distill` does not take.
#[derive(Debug, Args)]
struct Own {
    /// Replaces existing files.
    #[arg(long)]
    force: bool,
    /// host:port of a teacher service that the run uses; may be repeated.
    #[arg(
        long = "teacher-endpoint",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:50051"
    )]
    endpoints: Vec<String>,
}

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Distill {
    #[command(flatten)]
    arguments: DistillArguments,
}

impl Flags {
    /// Whether `--name` was given.
    pub(super) fn has(&self, name: &str) -> bool {
        let start = format!("--{name}=");
        let mut flags = self.0.iter();
        flags.any(|flag| flag.as_encoded_bytes().starts_with(start.as_bytes()))
    }

    /// Adds more flags.
    pub(super) fn extend(&mut self, flags: impl IntoIterator<Item = OsString>) {
        self.0.extend(flags);
    }

    /// The flags as `retort distill` understands them.
    pub(super) fn parse(self) -> Result<DistillArguments, CliError> {
        match Distill::try_parse_from(self.0) {
            Ok(Distill { arguments }) => Ok(arguments),
            Err(error) => {
                let text = error.to_string();
                let lines = text.trim_start_matches("error: ").lines();
                let lines = lines.take_while(|line| !line.is_empty()).map(str::trim);
                Err(CliError::Usage(lines.collect::<Vec<_>>().join(" ")))
            }
        }
    }
}

/// A value of `--name` as one argument.
pub(super) fn flag(name: &str, value: impl Into<OsString>) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value.into());
    flag
}

/// The flags of `retort distill` that `retort init` takes.
fn shared() -> Vec<Arg> {
    let distill = DistillArguments::augment_args(Command::new("distill"));
    let arguments = distill.get_arguments().cloned();
    let arguments = arguments.filter(|argument| !LEFT_OUT.contains(&argument.get_id().as_str()));
    let optional = arguments.map(|argument| match argument.get_id().as_str() {
        FOLDER => argument
            .required(false)
            .default_value("distillation")
            .help("Folder for the files"),
        _ => argument.required(false),
    });
    optional.collect()
}

impl Args for InitArguments {
    fn augment_args(command: Command) -> Command {
        Own::augment_args(command.args(shared()))
            .about("Write a distillation as configuration files, for services on other machines")
            .after_help(EXAMPLES)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for InitArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Own { force, endpoints } = Own::from_arg_matches(matches)?;
        let mut flags = Vec::new();
        for argument in shared() {
            let id = argument.get_id().as_str();
            let is_given = matches.value_source(id) == Some(ValueSource::CommandLine);
            if !is_given && id != FOLDER {
                continue;
            }
            let name = argument.get_long().unwrap_or(id);
            if argument.get_action().takes_values() {
                let values = matches.get_raw(id).into_iter().flatten();
                flags.extend(values.map(|value| flag(name, value)));
            } else {
                flags.push(format!("--{name}").into());
            }
        }
        Ok(Self {
            force,
            endpoints,
            distill: Flags(flags),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> InitArguments {
        let command = InitArguments::augment_args(Command::new("init").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).unwrap();
        InitArguments::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn flags_of_distill_arrive_as_they_were_typed() {
        let typed = [
            "--teacher",
            "t.onnx",
            "--data",
            "photos",
            "--gray",
            "--width=0.5",
            "--teacher-set",
            "a.b=1",
            "--teacher-set",
            "a.c=x y",
        ];
        let init = parsed(&typed);
        let distill = init.distill.clone().parse().unwrap();
        assert_eq!(distill.teacher, "t.onnx");
        assert_eq!(distill.teacher_settings, ["a.b=1", "a.c=x y"]);
        assert!(distill.gray);
        assert_eq!(distill.out.to_str(), Some("distillation"));
        assert!(init.distill.has("teacher") && !init.distill.has("student"));
        assert_eq!(init.endpoints, ["127.0.0.1:50051"]);
    }

    #[test]
    fn a_flag_that_distill_refuses_is_a_line_that_names_it() {
        let mut flags = parsed(&["--teacher", "t", "--data", "d"]).distill;
        flags.extend([flag("student", "transformer")]);
        let error = flags.parse().unwrap_err();
        assert_eq!(error.exit_code(), 64);
        let text = error.to_string();
        assert!(
            text.contains("--student") && text.contains("mobilenet_v2"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
