//! A teacher as the pool knows it: its address and its status.

use std::{fmt, net::SocketAddr};

/// The address of a teacher, and the endpoint that resolved to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TeacherAddress {
    /// As in the configuration.
    endpoint: String,
    /// `None` if the endpoint's name has no address.
    address: Option<SocketAddr>,
}

/// The status of the teacher at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TeacherStatus {
    /// A stream is open.
    Connected,
    /// There is no answer, or the stream was lost, for this reason; the pool reconnects.
    Unavailable(String),
    /// The teacher is shutting down; the pool reconnects.
    ShuttingDown,
    /// No endpoint resolves to the address any more; the teacher finishes its batches.
    Removed,
    /// The process is already connected by this other address; the pool reconnects when that connection is lost.
    Duplicate(TeacherAddress),
    /// The teacher answers, but the run cannot use it, for this reason.
    Refused(String),
}

impl TeacherAddress {
    pub fn new(endpoint: &str, address: Option<SocketAddr>) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            address,
        }
    }

    /// Returns the endpoint as in the configuration.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl fmt::Display for TeacherAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoint)?;
        match self.address {
            Some(address) if !self.endpoint.ends_with(&address.to_string()) => {
                write!(f, " ({address})")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for TeacherStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("is connected"),
            Self::Unavailable(reason) => write!(f, "is unavailable: {reason}"),
            Self::ShuttingDown => f.write_str("is shutting down"),
            Self::Removed => f.write_str("is no longer listed and finishes its batches"),
            Self::Duplicate(connected) => write!(
                f,
                "is another address of the teacher at {connected} and is used if that connection is lost"
            ),
            Self::Refused(reason) => write!(f, "is refused: it {reason}"),
        }
    }
}
