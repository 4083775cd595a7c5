//! `retort student suggest`: the largest students within a budget, and how fast they are on this machine.

use std::{path::PathBuf, str::FromStr};

use clap::{ArgGroup, Args};
use common::{
    output::{Messages, Results},
    process_environment,
};
use datasets::{Ground, SampleKind};
use indicatif::ProgressBar;
use networks::{Shape, limits};

use super::{
    family::Family,
    search::{Budget, Search},
    table,
};
use crate::{CliError, data_set};

const EXAMPLES: &str = "\
Examples:
  retort student suggest --data photos/ --max-params 100k
  retort student suggest --input 3x64x64 --classes 10 --max-macs 5M
  retort student suggest --input 1x28x28 --classes 10 --max-latency-us 200 --max-params 50k
  retort student suggest --input 30 --classes 2 --max-params 10k        rows of 30 numbers

For each family of networks and several depths, it finds the largest width within all budgets. It exports each
network with random weights and measures ONNX Runtime on one thread of this machine, one sample at a time: the
median, and the smallest and largest median of five series. The weights do not change how long a network takes.";

/// Propose students within a budget, and measure their latency in ONNX Runtime on this machine.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    group = ArgGroup::new("samples").args(["data", "input"]).required(true),
    group = ArgGroup::new("budget").args(["max_params", "max_macs", "max_latency_us"]).required(true).multiple(true)
)]
pub(super) struct SuggestArguments {
    /// Folder or file of the data, which has the samples and the classes.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Format of the data [default: detected].
    #[arg(long, value_name = "FORMAT", requires = "data")]
    format: Option<String>,
    /// Height and width of the student's input in pixels, for data of pictures.
    #[arg(long, default_value_t = 64, conflicts_with = "input")]
    size: usize,
    /// Gives the student gray pictures, for data of pictures.
    #[arg(long, requires = "data")]
    gray: bool,
    /// The student's input, instead of data: channels, height and width of images, or the length of rows.
    #[arg(long, value_name = "CxHxW", requires = "classes")]
    input: Option<Input>,
    /// Number of classes [default: those of the data].
    #[arg(long)]
    classes: Option<usize>,
    /// Most parameters, such as 100k or 1.5M.
    #[arg(long, value_name = "COUNT")]
    max_params: Option<Count>,
    /// Most multiply-adds for one sample, such as 5M.
    #[arg(long, value_name = "COUNT")]
    max_macs: Option<Count>,
    /// Longest median time for one sample, microseconds.
    #[arg(long, value_name = "MICROSECONDS")]
    max_latency_us: Option<f64>,
}

/// A whole number with an optional suffix: k, M or G.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Count(u64);

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = match text.char_indices().next_back() {
            Some((at, 'k' | 'K')) => (&text[..at], 1e3),
            Some((at, 'M')) => (&text[..at], 1e6),
            Some((at, 'G')) => (&text[..at], 1e9),
            _ => (text, 1.0),
        };
        let value = number.parse::<f64>().map(|number| number * unit);
        match value {
            Ok(value) if (1.0..1e18).contains(&value) => Ok(Self(value as u64)),
            _ => Err("must be a number of 1 or more, such as 100k or 1.5M"),
        }
    }
}

/// A shape such as 3x64x64 or 30.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Input(Shape);

impl FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let sides = text.split(['x', '×']).map(str::parse::<usize>);
        let sides: Vec<usize> = sides
            .collect::<Result<_, _>>()
            .map_err(|_| "must be CHANNELSxHEIGHTxWIDTH or a number of values".to_owned())?;
        Shape::try_from(sides).map(Self)
    }
}

/// `retort student suggest`.
pub(super) fn execute(arguments: SuggestArguments) -> Result<(), CliError> {
    // ONNX Runtime reads its variables when it is loaded.
    process_environment::require(&onnx_runtime::ENVIRONMENT).map_err(CliError::file("retort"))?;
    let (input, classes) = samples(&arguments)?;
    let budget = Budget {
        parameters: arguments.max_params.map(|Count(count)| count),
        multiply_adds: arguments.max_macs.map(|Count(count)| count),
        microseconds: arguments.max_latency_us,
    };
    let search = Search {
        input,
        classes,
        budget,
    };
    let families = Family::of_input(input);
    let candidates = || {
        let depths =
            |family: &'static Family| family.depths().iter().map(move |depth| (*family, *depth));
        families.iter().flat_map(depths)
    };
    let bar = ProgressBar::new(candidates().count() as u64);
    let mut found = Vec::new();
    for (family, depth) in candidates() {
        bar.inc(1);
        found.extend(search.largest(family, depth)?);
    }
    bar.finish_and_clear();
    table::drop_equal(&mut found);
    for family in families {
        if !found.iter().any(|suggestion| suggestion.family == *family) {
            let name = family.name();
            writeln!(
                Messages,
                "No network of the family {name} is within the budget."
            );
        }
    }
    if found.is_empty() {
        return Err(CliError::Usage(
            "no network is within the budget; raise it".to_owned(),
        ));
    }
    Ok(writeln!(Results, "{}", table::text(&found))?)
}

/// One sample's shape, and the number of classes.
fn samples(arguments: &SuggestArguments) -> Result<(Shape, usize), CliError> {
    if let (Some(Input(input)), Some(classes)) = (arguments.input, arguments.classes) {
        return Ok((input, classes));
    }
    // Holds: clap requires one of both.
    let path = arguments
        .data
        .as_deref()
        .unwrap_or(std::path::Path::new(""));
    let train = data_set::open(path, arguments.format.as_deref(), Ground::WHITE)?.train;
    let input = match train.kind() {
        SampleKind::Row { values } => Shape::Vector { features: values },
        SampleKind::Image { channels, .. } => Shape::Image {
            channels: if arguments.gray { 1 } else { channels },
            height: arguments.size,
            width: arguments.size,
        },
    };
    let of_data = Some(train.class_names().len()).filter(|count| *count > 0);
    match arguments.classes.or(of_data) {
        Some(classes) if (1..=limits::DIMENSION).contains(&classes) => Ok((input, classes)),
        Some(classes) => Err(CliError::Usage(format!(
            "--classes {classes}: is out of range"
        ))),
        None => Err(CliError::Usage(
            "the data has no labels; give the number of classes with --classes".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_suffixes_and_inputs_are_shapes() {
        for (text, expected) in [
            ("7", 7),
            ("100k", 100_000),
            ("1.5M", 1_500_000),
            ("2G", 2_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Count(expected)), "{text}");
        }
        for text in ["", "k", "-1", "0", "1T", "NaN"] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
        assert_eq!("3x64x48".parse(), Ok(Input([3, 64, 48].into())));
        assert_eq!("30".parse(), Ok(Input(Shape::Vector { features: 30 })));
        for text in ["", "3x64", "axb"] {
            assert!(text.parse::<Input>().is_err(), "{text}");
        }
    }
}
