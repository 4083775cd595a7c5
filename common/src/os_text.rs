//! Text from the operating system, which may not be UTF-8: arguments, variables, paths.

use std::{borrow::Cow, ffi::OsStr, os::unix::ffi::OsStrExt};

use clap::builder::{OsStringValueParser, TypedValueParser};

/// Returns `text` for a message; bytes that are not UTF-8 are escaped, as in `\xa3`.
pub fn shown(text: &OsStr) -> Cow<'_, str> {
    match text.to_str() {
        Some(text) => Cow::Borrowed(text),
        None => text.as_bytes().escape_ascii().to_string().into(),
    }
}

/// Parses an argument, or its environment variable, that must be UTF-8. The error names the option, which
/// clap's own error does not.
pub fn argument() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new()
        .try_map(|value| value.into_string().map_err(|_| "it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    #[test]
    fn what_is_not_utf8_is_shown_with_its_bytes() {
        assert_eq!(shown(OsStr::new("é/a b")), "é/a b");
        assert_eq!(shown(OsStr::from_bytes(b"a\xa3b")), "a\\xa3b");
    }

    #[test]
    fn what_is_not_utf8_is_refused_with_the_name_of_its_option() {
        let parse = |value: &OsStr| {
            let address = Arg::new("address").long("address").value_parser(argument());
            let line = [OsStr::new("x"), OsStr::new("--address"), value];
            Command::new("x").arg(address).try_get_matches_from(line)
        };
        let matches = parse(OsStr::new("h:1")).unwrap();
        assert_eq!(matches.get_one::<String>("address").unwrap(), "h:1");
        let error = parse(OsStr::from_bytes(b"\xa3:1")).unwrap_err().to_string();
        assert!(error.contains("--address"), "{error}");
        assert!(error.contains("it is not UTF-8 text"), "{error}");
    }
}
