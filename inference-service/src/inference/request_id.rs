//! What logs call a request. Answers repeat only what their caller said.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Characters of a caller's name for its request in logs, at most.
const LONGEST_NAME: usize = 128;

/// The newest number. That of a request with an id in its message is not used.
static UNNAMED: AtomicU64 = AtomicU64::new(0);

/// The name of a request that is not in its message: the one in its headers, else a number, so that
/// the lines of one request can be told from those of others.
#[derive(Debug)]
pub(crate) enum RequestId {
    /// The caller's choice.
    Named(String),
    /// Counted in this process, from 1.
    Unnamed(u64),
}

/// As it is in logs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RequestName<'r> {
    /// The caller's choice, of any length.
    Named(&'r str),
    /// See [`RequestId::Unnamed`].
    Unnamed(u64),
}

impl RequestId {
    /// By the header, where there is one.
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
    /// The caller's choice is cut to a sensible length.
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
