//! The parts of benchmarks: servers and computations that run as processes of their own, on the cores
//! and under the names that a benchmark gives them. They print what they measured as JSON.

mod bare_stream;
mod forward;
mod inference_echo;
mod pool;
mod session;
mod simulated_teachers;
mod soft_target_load;
mod store;
mod teacher_echo;
mod teacher_server;

use clap::Subcommand;

pub(crate) use session::BatchSpeed;

/// A part of a benchmark.
#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    #[command(hide = true)]
    Store(store::StoreArguments),
    #[command(hide = true)]
    Session(session::SessionArguments),
    #[command(hide = true)]
    FirstRuns(session::FirstRunsArguments),
    #[command(hide = true)]
    InferenceEcho(inference_echo::InferenceEchoArguments),
    #[command(hide = true)]
    Forward(forward::ForwardArguments),
    #[command(hide = true)]
    SimulatedTeachers(simulated_teachers::SimulatedTeachersArguments),
    #[command(hide = true)]
    TeacherEcho(teacher_echo::TeacherEchoArguments),
    #[command(hide = true)]
    Pool(pool::PoolArguments),
    #[command(hide = true)]
    BareStream(bare_stream::BareStreamArguments),
}

impl Part {
    /// Runs this part to its end.
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        match self {
            Self::Store(arguments) => store::write(&arguments),
            Self::Session(arguments) => session::measure(&arguments),
            Self::FirstRuns(arguments) => session::measure_first_runs(&arguments),
            Self::InferenceEcho(arguments) => inference_echo::serve(&arguments),
            Self::Forward(arguments) => forward::measure(&arguments),
            Self::SimulatedTeachers(arguments) => simulated_teachers::serve(&arguments),
            Self::TeacherEcho(arguments) => teacher_echo::serve(&arguments),
            Self::Pool(arguments) => pool::measure(&arguments),
            Self::BareStream(arguments) => bare_stream::measure(&arguments),
        }
    }
}
