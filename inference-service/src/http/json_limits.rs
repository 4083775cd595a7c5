//! How deep and how long JSON may be, looked at before it is parsed: one pass over the bytes that
//! needs no memory, whatever they hold.

/// Arrays and objects within one another. An inference request with a four-dimensional tensor needs
/// seven.
const MAX_DEPTH: usize = 32;

/// JSON that nests deeper than [`MAX_DEPTH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("arrays and objects nest deeper than {MAX_DEPTH} levels")]
pub(super) struct TooDeep;

/// Looks at the brackets outside strings. Whether `json` is JSON at all is the parser's to say.
pub(super) fn check_depth(json: &[u8]) -> Result<(), TooDeep> {
    let mut depth = 0_usize;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(TooDeep);
        }
    }
    Ok(())
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_outside_strings_only() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let brackets = "[".repeat(1000);
        for json in [
            nested(MAX_DEPTH),
            format!("{},{}", nested(MAX_DEPTH), nested(MAX_DEPTH)),
            format!(r#"{{"id": "{brackets}"}}"#),
            format!(r#"{{"id": "a \" {brackets}"}}"#),
            r#"{"id": "\\"}"#.to_owned(),
            "]]]]".to_owned(),
            String::new(),
        ] {
            assert_eq!(check_depth(json.as_bytes()), Ok(()), "{json}");
        }
        for json in [
            nested(MAX_DEPTH + 1),
            nested(100_000),
            "[".repeat(100_000),
            r#"{"a":"#.repeat(100_000),
            format!(r#"{{"id": "\\", "x": {}}}"#, nested(MAX_DEPTH)),
        ] {
            assert_eq!(check_depth(json.as_bytes()), Err(TooDeep));
        }
    }
}
