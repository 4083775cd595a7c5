//! Names from models, in messages.

use common::text;

/// Characters of a name from a model that a message shows.
const LONGEST_NAME: usize = 64;

/// `name` for a message.
pub(crate) fn shorten(name: &str) -> String {
    text::shorten(name, LONGEST_NAME)
}
