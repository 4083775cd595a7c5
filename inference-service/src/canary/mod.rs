//! A canary: a version that answers a share of a model's requests beside the active version, on trial until a rule
//! promotes it or rolls it back.
//!
//! [`Trial`] selects the version of each request and observes both, on the path of the requests; [`rule`] decides.
//! `publisher` begins and ends trials, and compares the canary's answers off that path.

mod counts;
mod latencies;
mod rule;
mod trial;

pub(crate) use counts::{CanaryCounts, Outcome};
pub(crate) use rule::Verdict;
pub(crate) use trial::{Comparison, Observer, Trial};
