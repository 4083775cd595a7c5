//! `retort-bench serve`: the overhead of the inference service over ONNX Runtime, or the speed of any
//! server of the Open Inference Protocol v2.

mod breakdown;
mod comparison;
mod footprint;
mod load;
mod report;
mod round;
mod target;
mod usage;

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use common::output::Messages;
use server::security::client::CredentialArguments;

use crate::{
    network::Network,
    number_arguments::{above_zero, at_least_one},
    process::usable_core,
    report::print,
};
use comparison::{SEED, Setting};
use load::{Load, Window};
use report::{Answers, AtRate, WithCallers};
use target::{Endpoint, Target};

const WARM_UP: Duration = Duration::from_millis(300);

/// Measure an inference service, or any server of the Open Inference Protocol v2.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  retort-bench serve                         start the service, compare it with ONNX Runtime itself
  retort-bench serve --json --turns 3
  retort-bench serve --url 127.0.0.1:8001 --model fashion-mnist --callers 1,8,64
  retort-bench serve --url 127.0.0.1:8001 --model fashion-mnist --rate 500

Callers call in a closed loop: each calls again as soon as it has its answer. --rate calls in an open
loop with Poisson arrivals, independent of the answers, and measures latency from the time at which a
call was due. A request holds one sample of random values.

Without --url the service runs on one core, with one session of one thread, and the load on another.
throughput_ratio is calls/s with 64 callers divided by ONNX Runtime's best samples/s in process (batch
sizes 1 to 64). p50_overhead_ratio is the median latency of one caller divided by the sum of ONNX
Runtime's median time for one sample and the median latency of a bare gRPC server that answers with
the same bytes. half_load_p99_over_p50 is measured in an open loop at half of the throughput with 64
callers. breakdown splits the time of a call at 64 callers.")]
pub(crate) struct ServeArguments {
    /// Measure this server, host:port, instead of starting one.
    #[arg(long, value_name = "ADDRESS", requires = "model")]
    url: Option<String>,
    /// The model to call at --url.
    #[arg(long, requires = "url")]
    model: Option<String>,
    /// Numbers of concurrent callers, with --url.
    #[arg(long, value_delimiter = ',', default_value = "1,8,64", value_parser = at_least_one)]
    callers: Vec<usize>,
    /// Also call --url in an open loop, at this rate per second.
    #[arg(long, value_name = "CALLS", requires = "url", value_parser = above_zero)]
    rate: Option<f64>,
    /// Also call a bare gRPC server on --service-core that returns the answer of --url, with each
    /// number of callers.
    #[arg(long, requires = "url")]
    echo: bool,
    /// Process id of the server at --url on this machine: also measure its processor time per call.
    #[arg(long, requires = "url")]
    pid: Option<u32>,
    /// The served networks, without --url.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "resnet8,demo-student",
        conflicts_with = "url"
    )]
    networks: Vec<Network>,
    /// Connections that the callers share.
    #[arg(long, default_value_t = 8, value_parser = at_least_one)]
    connections: usize,
    /// Number of turns; the benchmark reports medians.
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    turns: usize,
    /// Duration of each load.
    #[arg(long, default_value_t = 2.0, value_parser = above_zero)]
    seconds: f64,
    /// Core of the service and of the bare gRPC server [default: the first usable core].
    #[arg(long, value_name = "CORE")]
    service_core: Option<usize>,
    /// Core of the load [default: the second usable core].
    #[arg(long, value_name = "CORE")]
    load_core: Option<usize>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Credentials for --url.
    #[command(flatten)]
    credentials: CredentialArguments,
}

pub(crate) async fn execute(arguments: ServeArguments) -> anyhow::Result<()> {
    match (&arguments.url, &arguments.model) {
        (Some(url), Some(model)) => {
            let answers = measure_server(&arguments, url, model).await?;
            print(&answers, arguments.json)
        }
        _ => {
            let figures = comparison::measure(&arguments.setting()?, &arguments.networks).await?;
            print(&figures, arguments.json)
        }
    }
}

async fn measure_server(
    arguments: &ServeArguments,
    url: &str,
    model: &str,
) -> anyhow::Result<Answers> {
    let setting = arguments.setting()?;
    let endpoint = Endpoint {
        address: url.to_owned(),
        credentials: arguments.credentials.credentials()?,
    };
    let target = Target::of_model(endpoint, model, setting.connections).await?;
    let target = target.of_process(arguments.pid);
    let mut answers = Answers {
        url: url.to_owned(),
        model: model.to_owned(),
        callers: Vec::new(),
        echo: None,
        open_loop: None,
    };
    let echo = if arguments.echo {
        Some(setting.echo(&target).await?)
    } else {
        None
    };
    for callers in &arguments.callers {
        writeln!(Messages, "{callers} callers");
        let load = Load::Closed { callers: *callers };
        let turns = setting.repeat(&target, load).await?;
        answers.callers.push(WithCallers::new(*callers, &turns));
        if let Some((echo_target, _server)) = &echo {
            let turns = setting.repeat(echo_target, load).await?;
            let speed = WithCallers::new(*callers, &turns);
            answers.echo.get_or_insert_default().push(speed);
        }
    }
    if let Some(rate) = arguments.rate {
        writeln!(Messages, "open loop at {rate} calls/s");
        let turns = setting
            .repeat(&target, Load::Open { rate, seed: SEED })
            .await?;
        answers.open_loop = Some(AtRate::new(rate, &turns));
    }
    Ok(answers)
}

impl ServeArguments {
    fn setting(&self) -> anyhow::Result<Setting> {
        let core = |chosen: Option<usize>, n| match chosen {
            Some(core) => Ok(core),
            None => usable_core(n).context("cannot read the core affinity"),
        };
        Ok(Setting {
            connections: self.connections,
            turns: self.turns,
            window: Window {
                warm_up: WARM_UP,
                measured: Duration::from_secs_f64(self.seconds),
            },
            service_core: core(self.service_core, 0)?,
            load_core: core(self.load_core, 1)?,
        })
    }
}
