//! `retort-bench stream`: the maximum rate of soft targets.

mod bytes;
mod report;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use common::output::Messages;

use crate::{
    measurement::Measurement,
    number_arguments::{above_zero, at_least_one},
    process::{Program, Server},
    report::print,
    streaming::{BATCH_MILLISECONDS, CREDIT, DEEP, client, endpoints, simulated_teachers},
};
use report::{Figures, Round};

/// Measure the maximum rate of soft targets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  retort-bench stream
  retort-bench stream --json --turns 3 --seconds 1
  retort-bench stream --teachers 1,4,16

A trainer's pool of teachers feeds a loop that only counts, in the order of the batches. The
teachers are simulated: real servers of the real protocol that compute nothing.

scaling           teachers → share of linear scaling, which is 6,400 samples/s per teacher: each
                  waits 20 ms per batch of 128 and has 2 batches in flight
transport_ratio   samples/s of one teacher that answers with a constant at once, divided by those
                  of a bare tonic stream of the same bytes
bytes_per_sample  on the wire and on disk, by encoding and number of classes")]
pub(crate) struct StreamArguments {
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

pub(crate) async fn execute(arguments: &StreamArguments) -> Result<()> {
    let most = arguments.teachers.iter().copied().max().unwrap_or(1);
    let simulated = simulated_teachers(most, BATCH_MILLISECONDS, CREDIT).await?;
    let constant = simulated_teachers(1, 0, DEEP).await?;
    let echo = Program::part("teacher-echo")?.serve().await?;

    let mut rounds = Vec::new();
    for number in 1..=arguments.turns {
        writeln!(Messages, "turn {number} of {}", arguments.turns);
        let stream = arguments.stream(&constant, 1, 2 * DEEP).await?;
        let echo = arguments.load("bare-stream", &[echo.grpc()], DEEP).await?;
        let mut scaling = BTreeMap::new();
        for &teachers in &arguments.teachers {
            // Twice the batches in flight, so that an answer may wait for an earlier one.
            let measurement = arguments.stream(&simulated, teachers, 2 * teachers * CREDIT);
            scaling.insert(teachers, measurement.await?);
        }
        rounds.push(Round {
            scaling,
            stream,
            echo,
        });
    }
    print(&Figures::of(&rounds), arguments.json)
}

impl StreamArguments {
    /// Streams from the first `teachers` of `server` through the trainer's pool.
    async fn stream(&self, server: &Server, teachers: usize, ahead: usize) -> Result<Measurement> {
        self.load("pool", &endpoints(server, teachers), ahead).await
    }

    /// Runs the part `name`, which keeps `ahead` batches in flight to `endpoints`.
    async fn load(&self, name: &str, endpoints: &[String], ahead: usize) -> Result<Measurement> {
        let program = client(name, endpoints, ahead, self.seconds)?;
        program.figures().await
    }
}
