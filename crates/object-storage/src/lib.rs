//! Buckets of object stores: Amazon S3 and stores with its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! [`Location`] reads a folder or the URL of a bucket; [`Bucket`] reads and writes the objects below a prefix. Paths,
//! conditions of writes and listed objects are those of the crate `object_store`. Credentials come from the environment
//! only. [`LocalCopies`] keeps copies of objects in a folder of bounded size.

mod bucket;
mod connection;
mod local_copies;
mod location;

pub use bucket::{Bucket, BucketError, Record};
pub use local_copies::{CopyLayout, CopyLimits, LocalCopies};
pub use location::{BucketLocation, InvalidLocation, Location, Provider};
