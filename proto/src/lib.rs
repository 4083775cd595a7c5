//! gRPC contracts of Retort's services and the code generated from them.
//!
//! The `.proto` files beside this crate's `src` are the contract. `bytes` fields are
//! [`bytes::Bytes`], which avoids copies.

pub mod bounded;

/// The `domain` of the `ErrorInfo` in Retort's error details.
pub const ERROR_DOMAIN: &str = "retort";

/// The Open Inference Protocol v2 (KServe, Triton): `inference.GRPCInferenceService`.
#[allow(missing_docs, clippy::all)] // Generated code; the .proto files have the documentation.
pub mod inference {
    tonic::include_proto!("inference");
}

/// Contracts of Retort's own services, one module per package and version.
#[allow(missing_docs, clippy::all)] // Generated.
pub mod retort {
    /// Predictions from images.
    pub mod predict {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("retort.predict.v1");
        }
    }
    /// Publishing models to an inference service.
    pub mod publish {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("retort.publish.v1");
        }
    }
    /// Training runs.
    pub mod runs {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("retort.runs.v1");
        }
    }
    /// Soft targets.
    pub mod teacher {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("retort.teacher.v1");
        }
    }
}

pub use retort::{predict, publish, runs, teacher};

/// All contracts as an encoded `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));
