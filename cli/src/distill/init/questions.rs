//! The questions of `retort init`.

use std::{ffi::OsString, io, io::BufRead};

use super::arguments::{Flags, flag};
use crate::CliError;

/// A question whose answer is the value of a flag.
#[derive(Debug, PartialEq)]
pub(super) struct Question {
    flag: &'static str,
    text: &'static str,
    default: Answer,
}

/// The answer that an empty line gives.
#[derive(Debug, PartialEq)]
enum Answer {
    /// None: the question is asked again.
    Required,
    /// What `retort distill` does without the flag.
    Default(&'static str),
}

const QUESTIONS: [Question; 5] = [
    Question {
        flag: "teacher",
        text: "The teacher's model: a file, a run's artifact folder, or grpc://HOST:PORT/MODEL",
        default: Answer::Required,
    },
    Question {
        flag: "data",
        text: "Folder or file of the data",
        default: Answer::Required,
    },
    Question {
        flag: "student",
        text: "The student: cnn, resnet, mobilenet_v2, efficientnet_lite, or mlp for rows of numbers",
        default: Answer::Default("cnn"),
    },
    Question {
        flag: "epochs",
        text: "Epochs with soft targets; more take longer and are more accurate",
        default: Answer::Default("20"),
    },
    Question {
        flag: "publish",
        text: "host:port of an inference service's admin port that gets the student",
        default: Answer::Default("none"),
    },
];

/// The questions that no flag has answered.
pub(super) fn missing(flags: &Flags) -> Vec<&'static Question> {
    let questions = QUESTIONS.iter();
    questions
        .filter(|question| !flags.has(question.flag))
        .collect()
}

/// Asks each question until it has an answer; returns the answers as flags. An empty line leaves the default.
///
/// # Errors
/// If `input` cannot be read, or ends.
pub(super) fn ask(
    questions: &[&Question],
    input: &mut impl BufRead,
    prompt: impl Fn(&str),
) -> io::Result<Vec<OsString>> {
    let mut flags = Vec::new();
    for question in questions {
        loop {
            match question.default {
                Answer::Required => prompt(&format!("{}: ", question.text)),
                Answer::Default(default) => prompt(&format!("{} [{default}]: ", question.text)),
            }
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                let missing = format!("it ended before --{} was answered", question.flag);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, missing));
            }
            match (line.trim(), &question.default) {
                ("", Answer::Required) => {}
                ("", Answer::Default(_)) => break,
                (answer, _) => {
                    flags.push(flag(question.flag, answer));
                    break;
                }
            }
        }
    }
    Ok(flags)
}

/// Without a terminal, questions with a default are not asked, and the others are an error.
pub(super) fn require(questions: &[&Question]) -> Result<(), CliError> {
    let required = questions
        .iter()
        .filter(|question| question.default == Answer::Required);
    let names: Vec<_> = required
        .map(|question| format!("--{}", question.flag))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "standard input is not a terminal, so `retort init` cannot ask: give {}",
        names.join(" and ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_give_defaults_and_required_answers_are_asked_again() {
        let all: Vec<_> = QUESTIONS.iter().collect();
        let mut input = "\n t.onnx \nphotos/\n\n5\n\n".as_bytes();
        let flags = ask(&all, &mut input, |_| ()).unwrap();
        assert_eq!(flags, ["--teacher=t.onnx", "--data=photos/", "--epochs=5"]);
        let error = ask(&all, &mut "t.onnx\n".as_bytes(), |_| ()).unwrap_err();
        assert!(error.to_string().contains("--data"), "{error}");
    }

    #[test]
    fn only_questions_without_a_default_are_required() {
        let all: Vec<_> = QUESTIONS.iter().collect();
        let error = require(&all).unwrap_err().to_string();
        assert!(error.ends_with("give --teacher and --data"), "{error}");
        require(&all[2..]).unwrap();
    }
}
