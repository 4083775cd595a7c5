//! Texts of the operating system, which need not be UTF-8: arguments, variables, paths.

use std::{borrow::Cow, ffi::OsStr, os::unix::ffi::OsStrExt};

use clap::builder::{OsStringValueParser, TypedValueParser};

/// For messages: `text` as it is where it is UTF-8, else with its other bytes escaped, as in `\xa3`.
pub fn shown(text: &OsStr) -> Cow<'_, str> {
    match text.to_str() {
        Some(text) => Cow::Borrowed(text),
        None => text.as_bytes().escape_ascii().to_string().into(),
    }
}

/// Parses an argument, or the variable that stands for it, which must be UTF-8. Another is refused with the
/// name of the option; clap by itself does not say which one it was.
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
