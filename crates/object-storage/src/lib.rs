//! Buckets of object stores: Amazon S3 and stores with its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! [`Location`] reads a folder or the URL of a bucket; [`Bucket`] reads and writes the objects below a prefix. Paths,
//! conditions of writes and listed objects are those of the crate `object_store`. Credentials come from the environment
//! only.

mod bucket;
mod connection;
mod location;

pub use bucket::{Bucket, BucketError, Record};
pub use location::{BucketLocation, InvalidLocation, Location, Provider};
