//! How a connection to a teacher ended.

use crate::teacher::{TeacherAddress, TeacherStatus};

/// How a connection to a teacher ended.
pub(crate) enum ConnectionEnd {
    /// The teacher did not answer, or the connection was lost, for this reason; the pool reconnects.
    Lost(String),
    /// The pool stopped sending batches because of this status, and the teacher answered all that it had.
    Finished(TeacherStatus),
    /// The run cannot use the teacher, for this reason. Another teacher may be started at the address, so the pool
    /// reconnects.
    Unsuitable(String),
    /// The teacher violates the protocol; the pool never reconnects in this run.
    ProtocolViolation(String),
    /// The process that answers is already connected by another address.
    Duplicate {
        /// Id of the process.
        instance: String,
        /// The address of its stream.
        connected: TeacherAddress,
    },
}
