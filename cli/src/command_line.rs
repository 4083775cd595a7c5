//! Commands as text that a shell understands.

/// The command line of this process.
pub(crate) fn of_this_process() -> String {
    let arguments = std::env::args_os();
    let quoted = arguments.map(|argument| quoted(&argument.to_string_lossy()));
    quoted.collect::<Vec<_>>().join(" ")
}

/// An argument, in quotes if a shell would take it apart.
pub(crate) fn quoted(argument: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_=+./,:@%".contains(letter);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_needs_it() {
        for (argument, expected) in [
            ("--width=0.25", "--width=0.25"),
            ("", "''"),
            ("my photos", "'my photos'"),
            ("mean=[0.5, 0.5]", "'mean=[0.5, 0.5]'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quoted(argument), expected);
        }
    }
}
