//! Names of requests in logs.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Characters of a caller's request id that logs show.
const LONGEST_NAME: usize = 128;

/// The number of the newest request.
static UNNAMED: AtomicU64 = AtomicU64::new(0);

/// The name of a request outside its message: the id in its headers, or a number, which distinguishes
/// the log lines of different requests.
#[derive(Debug)]
pub(crate) enum RequestId {
    /// The caller's id.
    Named(String),
    /// The number of the request in this process, from 1.
    Unnamed(u64),
}

/// A request's name as logs show it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RequestName<'r> {
    /// The caller's id, of any length.
    Named(&'r str),
    /// See [`RequestId::Unnamed`].
    Unnamed(u64),
}

impl RequestId {
    /// Uses the header's value, or counts the request.
    pub(crate) fn of(header: Option<String>) -> Self {
        match header.filter(|name| !name.is_empty()) {
            Some(name) => Self::Named(name),
            None => Self::Unnamed(UNNAMED.fetch_add(1, Ordering::Relaxed) + 1),
        }
    }

    pub(crate) fn name(&self) -> RequestName<'_> {
        match self {
            Self::Named(name) => RequestName::Named(name),
            Self::Unnamed(number) => RequestName::Unnamed(*number),
        }
    }
}

impl fmt::Display for RequestName<'_> {
    /// Truncates the caller's id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => {
                let end = name.char_indices().nth(LONGEST_NAME);
                f.write_str(&name[..end.map_or(name.len(), |(end, _)| end)])
            }
            Self::Unnamed(number) => write!(f, "unnamed-{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_name_gets_one_of_its_own() {
        let name = |header: Option<&str>| {
            let id = RequestId::of(header.map(str::to_owned));
            id.name().to_string()
        };
        assert_eq!(name(Some("of the caller")), "of the caller");
        let long = "é".repeat(1_000);
        assert_eq!(name(Some(long.as_str())), "é".repeat(LONGEST_NAME));
        let unnamed = [name(None), name(Some(""))];
        assert!(unnamed.iter().all(|name| name.starts_with("unnamed-")));
        assert_ne!(unnamed[0], unnamed[1]);
    }
}
