//! The service as its users meet it: a process, sockets, files.

mod admission;
mod bad_requests;
#[path = "../../../common/tests/support/certificates.rs"]
mod certificates;
mod classification;
mod clients;
mod full_house;
#[path = "../../../common/tests/support/held_file.rs"]
mod held_file;
mod lifecycle;
mod limits;
mod metric_names;
mod model_control;
mod models;
mod open_streams;
#[path = "../../../common/tests/support/process_life.rs"]
mod process_life;
mod publish_checks;
mod publishing;
mod readiness;
#[path = "../../../common/tests/support/refusals.rs"]
mod refusals;
mod refused_publishes;
mod security;
mod serving;
mod settings;
mod stale_credentials;
mod starting;
mod streams;
mod support;
mod swaps;
mod versions;
#[path = "../../../common/tests/support/wrapper.rs"]
mod wrapper;
