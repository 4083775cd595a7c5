//! Lists of class names in messages.

/// Number of names that are shown.
const FEW: usize = 8;

/// The first names, and how many more there are.
pub(crate) fn shown(names: &[String]) -> String {
    let first = names[..names.len().min(FEW)].join(", ");
    match names.len().saturating_sub(FEW) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..10).map(|class| class.to_string()).collect();
        assert_eq!(shown(&names[..2]), "0, 1");
        assert_eq!(shown(&names[..8]), "0, 1, 2, 3, 4, 5, 6, 7");
        assert_eq!(shown(&names), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }
}
