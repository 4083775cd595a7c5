//! The service as its users meet it: a process, sockets, files.

mod admission;
mod bad_requests;
mod classification;
mod clients;
mod full_house;
mod lifecycle;
mod limits;
mod metric_names;
mod model_control;
mod models;
mod open_streams;
mod publish_checks;
mod publishing;
mod readiness;
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
