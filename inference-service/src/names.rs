//! Names from callers, in messages and logs.

use common::text;

/// Characters of a caller's name that a message repeats.
const LONGEST_NAME: usize = 64;

/// `name` for a message: control characters replaced, and truncated.
pub(crate) fn shorten(name: &str) -> String {
    text::shorten(name, LONGEST_NAME)
}
