//! Text from untrusted input, for messages and logs.

/// The first `limit` characters of `text`, with an ellipsis if there are more. Control characters are
/// replaced, so that the text stays on one line.
pub fn shorten(text: &str, limit: usize) -> String {
    let printable = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut shortened: String = text.chars().take(limit).map(printable).collect();
    if text.chars().nth(limit).is_some() {
        shortened.push('…');
    }
    shortened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_truncated_and_control_characters_are_replaced() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("äöüß", 3), "äöü…");
        assert_eq!(shorten("a\nb\0", 9), "a\u{fffd}b\u{fffd}");
        assert_eq!(shorten("", 0), "");
    }
}
