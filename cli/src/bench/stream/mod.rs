//! `retort bench stream`: the maximum rate of soft targets.

mod bytes;
mod report;

use common::output::Messages;
use std::collections::BTreeMap;

use clap::Args;
use common::turn::Turn;

use super::{
    BenchError, above_zero, at_least_one,
    process::{Program, Server},
    report::print,
};
use crate::CliError;
use report::Figures;

/// Samples per batch.
const BATCH_SIZE: usize = 128;
/// Time that a simulated teacher takes per batch.
const BATCH_MILLISECONDS: u64 = 20;
/// Batches in flight per simulated teacher.
const CREDIT: usize = 2;
/// Batches in flight to the teacher that answers with a constant, and over the bare stream: enough
/// that neither end waits for the other.
const DEEP: usize = 64;

/// Measure the maximum rate of soft targets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  retort bench stream
  retort bench stream --json --turns 3 --seconds 1
  retort bench stream --teachers 1,4,16

A trainer's pool of teachers feeds a loop that only counts, in the order of the batches. The
teachers are simulated: real servers of the real protocol that compute nothing.

scaling           teachers → share of linear scaling, which is 6,400 samples/s per teacher: each
                  waits 20 ms per batch of 128 and has 2 batches in flight
transport_ratio   samples/s of one teacher that answers with a constant at once, divided by those
                  of a bare tonic stream of the same bytes
bytes_per_sample  on the wire and on disk, by encoding and number of classes")]
pub(super) struct StreamArguments {
    /// Number of turns; the benchmark reports medians.
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    turns: usize,
    /// Duration of each measurement.
    #[arg(long, default_value_t = 2.0, value_parser = above_zero)]
    seconds: f64,
    /// Numbers of simulated teachers.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64", value_parser = at_least_one)]
    teachers: Vec<usize>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// The measurements of one turn.
struct Round {
    /// Results by number of teachers.
    scaling: BTreeMap<usize, Turn>,
    stream: Turn,
    echo: Turn,
}

pub(super) async fn execute(arguments: &StreamArguments) -> Result<(), CliError> {
    let most = arguments.teachers.iter().copied().max().unwrap_or(1);
    let simulated = simulated_teachers(most, BATCH_MILLISECONDS, CREDIT).await?;
    let constant = simulated_teachers(1, 0, DEEP).await?;
    let echo = Program::new("teacher-service", &["bench", "echo"])
        .serve()
        .await?;

    let mut rounds = Vec::new();
    for number in 1..=arguments.turns {
        writeln!(Messages, "turn {number} of {}", arguments.turns);
        let stream = arguments.stream(&constant, 1, 2 * DEEP).await?;
        let echo = arguments.part("echo", &[echo.grpc()], DEEP).await?;
        let mut scaling = BTreeMap::new();
        for &teachers in &arguments.teachers {
            // Twice the batches in flight, so that an answer may wait for an earlier one.
            let turn = arguments.stream(&simulated, teachers, 2 * teachers * CREDIT);
            scaling.insert(teachers, turn.await?);
        }
        rounds.push(Round {
            scaling,
            stream,
            echo,
        });
    }
    print(&Figures::of(&rounds), arguments.json)
}

/// Starts `count` simulated teachers in one process, each on its own port.
async fn simulated_teachers(
    teachers: usize,
    milliseconds: u64,
    credit: usize,
) -> Result<Server, BenchError> {
    let [teachers, milliseconds, credit] =
        [teachers as u64, milliseconds, credit as u64].map(|number| number.to_string());
    let arguments = [
        "bench",
        "simulated-teachers",
        "--teachers",
        &teachers,
        "--milliseconds",
        &milliseconds,
        "--credit",
        &credit,
    ];
    Program::new("teacher-service", &arguments).serve().await
}

impl StreamArguments {
    async fn stream(
        &self,
        server: &Server,
        teachers: usize,
        ahead: usize,
    ) -> Result<Turn, BenchError> {
        let endpoints = server.addresses.values().take(teachers);
        let endpoints: Vec<_> = endpoints.map(ToString::to_string).collect();
        self.part("stream", &endpoints, ahead).await
    }

    async fn part(
        &self,
        part: &str,
        endpoints: &[String],
        ahead: usize,
    ) -> Result<Turn, BenchError> {
        let [batch_size, ahead] = [BATCH_SIZE, ahead].map(|number| number.to_string());
        let seconds = self.seconds.to_string();
        let mut arguments = vec!["bench", part];
        arguments.extend(["--batch-size", &batch_size, "--ahead", &ahead]);
        arguments.extend(["--seconds", &seconds]);
        arguments.extend(endpoints.iter().map(String::as_str));
        Program::new("student-trainer", &arguments).figures().await
    }
}
