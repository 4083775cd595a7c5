//! Where teachers are, and how it stands with them.

use std::{fmt, net::SocketAddr};

/// Where a teacher is, or would be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// As in the configuration.
    endpoint: String,
    /// Absent where the endpoint's name has no address.
    address: Option<SocketAddr>,
}

/// How it stands with a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A stream is open.
    Connected,
    /// Nobody answers, or the stream was lost; attempts go on.
    Away(String),
    /// It stops on purpose; attempts go on.
    ShuttingDown,
    /// No endpoint stands for it any more; it finishes what it has.
    Released,
    /// Another address of a teacher that is connected at this place; used when that is lost.
    Spare(Place),
    /// Somebody answers whom the run cannot use.
    Refused(String),
}

impl Place {
    pub fn new(endpoint: &str, address: Option<SocketAddr>) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            address,
        }
    }

    /// As in the configuration.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl fmt::Display for Place {
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

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Connected => f.write_str("is connected"),
            Standing::Away(reason) => write!(f, "is away: {reason}"),
            Standing::ShuttingDown => f.write_str("is shutting down"),
            Standing::Released => f.write_str("is let go"),
            Standing::Spare(place) => write!(
                f,
                "is another address of the teacher at {place}, and is used when that is lost"
            ),
            Standing::Refused(reason) => write!(f, "is refused: it {reason}"),
        }
    }
}
