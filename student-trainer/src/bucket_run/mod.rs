//! A run whose output is in a bucket.
//!
//! The run works in a folder of this machine, its *scratch folder*, as any other run does. [`BucketRun`] copies the state of
//! that folder to the bucket, on threads of its own, whenever the run has written something to resume from:
//!
//! ```text
//! run.json             the record: the files of the run, and who may write
//! objects/<sha256>     the content of a file
//! ```
//!
//! A file is uploaded under the SHA-256 of its content. The files become visible together, by one conditional write of
//! `run.json`. So a reader sees one state of the run, and what a killed process uploaded before that write is garbage, which
//! the next owner removes. The record names the objects of the generation before too, so a reader that has just read it can
//! still download them.
//!
//! The record is also the lease. Its owner renews it, and every write needs the tag of the record that the owner wrote last.
//! Another process takes the lease over only after it has seen the record unchanged for the whole duration of the lease, by
//! its own clock. The write of an owner that was replaced is refused, and its run ends.

mod attachment;
mod copying;
mod creation;
mod download;
mod error;
mod fetch;
mod lease;
mod persistence;
mod record;
mod scratch;
mod snapshot;
mod uploads;
mod waiting;

pub use attachment::BucketOutput;
pub use copying::BucketRun;
pub use creation::create;
pub use error::BucketRunError;
pub use fetch::{fetch, fetch_files};

#[cfg(test)]
mod confirmation;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod tests;
