//! The service as its users meet it: a process, sockets, files.

mod clients;
mod lifecycle;
mod metric_names;
mod publishing;
mod serving;
mod support;
mod swaps;
mod versions;
