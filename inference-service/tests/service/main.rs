//! The service as its users meet it: a process, sockets, files.

mod clients;
mod lifecycle;
mod publishing;
mod serving;
mod support;
