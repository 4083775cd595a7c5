//! How a connection to a teacher ended.

use crate::place::{Place, Standing};

/// How a connection ended.
pub(crate) enum Ended {
    /// Nobody there, or lost: worth another attempt.
    Lost(String),
    /// It got no more, and answered what it had.
    Finished(Standing),
    /// Not the teacher that the run uses. Another may be started there: worth another attempt.
    Unfit(String),
    /// It does not keep to the contract: never again in this run.
    Misbehaved(String),
    /// The process that answers there has a stream already, by another address.
    Spare {
        /// The process.
        instance: String,
        /// Where its stream is.
        holder: Place,
    },
}
